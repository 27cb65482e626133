"""A server's memory follows the model, not the cohort (docs/scale.md)."""
import pathlib
import sys
import unittest

from fedctl import FEDCTL, ROOT, TOY, Case, digests, rounds

sys.path.insert(0, str(ROOT / "scripts/bench"))
import scale  # noqa: E402


class Scale(Case):
    def measure(self, clients, values):
        given = scale.options(["--fedctl", FEDCTL, "--clients", str(clients), "--values", str(values), "--rounds", "2", "--swarm", "1"])
        folder = self.folder / str(clients)
        folder.mkdir()
        found = scale.measure(given, pathlib.Path(folder))
        self.assertEqual(found["status"], 0)
        self.assertEqual([line["replied"] for line in rounds(folder / "run")[1:]], [clients, clients])
        return found["peak_kib"] / 1024

    def test_memory_of_2_and_32_clients_with_updates_of_8_mib(self):
        few, many = self.measure(2, 1 << 21), self.measure(32, 1 << 21)
        print(f"\n2 clients: {few:.1f} MiB, 32 clients: {many:.1f} MiB")
        self.assertLess(abs(many - few), 15)

    def test_three_hundred_clients_of_one_process(self):
        config = self.write("exp.yaml", TOY.replace("clients: 6", "clients: 300").replace("count: 6", "count: 300, per_round: 100"))
        server, port, directory = self.server(config)
        client = self.client("0-299", port)
        self.finish(server)
        self.finish(client)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "quiet", "--quiet")
        self.assertEqual(status, 0, err)
        self.assertEqual(digests(directory), digests(self.folder / "quiet"))


if __name__ == "__main__":
    unittest.main()
