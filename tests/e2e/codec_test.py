"""What codecs leave on the wire, counted in whole runs."""
import unittest

from fedctl import TOY, Case, rounds


class Wire(Case):
    def test_sparse_lora_takes_0134_bit_a_weight_with_its_frames(self):
        """A million weights, both ways, every round after the first (in which all changes begin at 0)."""
        rows = cols = 1024
        config = self.write("exp.yaml", TOY.replace("rows: 24, cols: 32", f"rows: {rows}, cols: {cols}")
                            .replace("steps: 5", "steps: 2").replace("clients: 6", "clients: 2")
                            .replace("count: 6", "count: 2") + "codec: {profile: sparse_lora}\n")
        directory = self.folder / "run"
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory)
        self.assertEqual(status, 0, err)
        for line in rounds(directory)[1:]:
            for way in ("up", "down"):
                bits = 8 * line[f"bytes_{way}"] / 2 / (rows * cols)
                self.assertLessEqual(bits, 0.134, f"{way}, round {line['round']}")
                self.assertGreater(bits, 0.1307 if line["round"] > 1 or way == "up" else 0, "below the entropy")


if __name__ == "__main__":
    unittest.main()
