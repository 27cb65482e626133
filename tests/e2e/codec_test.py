"""What codecs leave on the wire, counted in whole runs, and what `fedctl codec` says of them."""
import array
import json
import os
import struct
import subprocess
import sys
import unittest

from fedctl import FEDCTL, ROOT, TOY, Case, rounds


def write_tensors(path, tensors):
    """{name: (dtype, shape, bytes)}"""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def read_floats(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    return {name: (entry["shape"], array.array("f", raw[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]]))
            for name, entry in header.items() if name != "__metadata__"}


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
                frames = line["bytes"][way]["payload"] + line["bytes"][way]["framing"]
                bits = 8 * frames / 2 / (rows * cols)
                self.assertLessEqual(bits, 0.134, f"{way}, round {line['round']}")
                self.assertGreater(bits, 0.1307 if line["round"] > 1 or way == "up" else 0, "below the entropy")


class File(Case):
    """fedctl codec."""

    def setUp(self):
        super().setUp()
        self.path, self.out = self.folder / "in.safetensors", self.folder / "out.safetensors"
        self.values = {"a": array.array("f", [4, -3, 2, 1]), "b": array.array("f", [0.5, -0.25])}
        write_tensors(self.path, {"a": ("F32", [2, 2], self.values["a"].tobytes()), "b": ("F32", [2], self.values["b"].tobytes()),
                                  "ids": ("I64", [1], struct.pack("<q", 7))})

    def code(self, chain, *more):
        status, out, err = self.run_fedctl("codec", "--chain", chain, "--in", self.path, "--out", self.out, "--format", "json", *more)
        self.assertEqual(status, 0, err)
        return json.loads(out), err

    def test_what_a_receiver_reads(self):
        line, err = self.code("[{kind: topk, ratio: 0.5}]")
        self.assertIn("1 tensors are no float32 vectors", err)
        self.assertEqual(read_floats(self.out), {"a": ([2, 2], array.array("f", [4, -3, 0, 0])), "b": ([2], array.array("f", [0.5, 0]))})
        a, b = line["tensors"]
        self.assertEqual((a["name"], a["values"], b["values"]), ("a", 4, 2))
        self.assertAlmostEqual(a["lost"], 5 / 30)
        self.assertAlmostEqual(b["lost"], 0.2)
        self.assertEqual(line["all"]["bytes"], a["bytes"] + b["bytes"])
        self.assertAlmostEqual(line["all"]["lost"], (5 + 0.0625) / (30 + 0.3125))
        self.assertEqual(a["bits_per_value"], 8 * a["bytes"] / 4)
        # As one message: three of six values.
        line, _ = self.code("[{kind: topk, ratio: 0.5}]", "--together")
        self.assertEqual(read_floats(self.out)["b"][1], array.array("f", [0, 0]))
        self.assertNotIn("bytes", line["tensors"][0])
        # Nothing is lost by nothing.
        line, _ = self.code("[]")
        self.assertEqual((line["all"]["bytes"], line["all"]["lost"]), (24, 0))

    def test_a_seed_is_repeatable(self):
        chain, found = "[{kind: quantize, bits: 2}]", {}
        for seed in ("1", "1", "2"):
            self.code(chain, "--seed", seed)
            found.setdefault(seed, set()).add(self.out.read_bytes())
        self.assertEqual([len(found["1"]), len(found["2"])], [1, 1])
        self.assertNotEqual(found["1"], found["2"])

    def test_mistakes(self):
        for words, code, *texts in (
            (("--chain", "[rans]", "--in", self.path), 2, "--chain:1:", "an entropy coder"),
            (("--chain", "[{kind: topk, ratio: 2}]", "--in", self.path), 2, "ratio is 2"),
            (("--in", self.path), 2, "--chain YAML"),
            (("--chain", "auto", "--in", self.folder / "none"), 5, "none"),
        ):
            status, _, err = self.run_fedctl("codec", *words)
            self.assertEqual(status, code, err)
            for text in texts:
                self.assertIn(text, err)
        write_tensors(self.path, {"ids": ("I64", [1], struct.pack("<q", 7))})
        status, _, err = self.run_fedctl("codec", "--chain", "auto", "--in", self.path)
        self.assertEqual(status, 5, err)
        self.assertIn("holds no float32 tensor", err)

    def test_the_tables_of_the_documentation(self):
        done = subprocess.run([sys.executable, ROOT / "scripts" / "acceptance" / "codec_tables.py"], capture_output=True, text=True,
                              env={**os.environ, "FEDCTL": FEDCTL})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreater(done.stdout.count("| ok |"), 60)


if __name__ == "__main__":
    unittest.main()
