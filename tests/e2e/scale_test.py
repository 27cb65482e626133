"""A server's memory follows the model, not the cohort (docs/scale.md)."""
import os
import pathlib
import sys
import unittest

from fedctl import FEDCTL, GLYPHS, ROOT, TOY, Case, digests, rounds, wait_until

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

    def test_memory_of_a_server_that_resumes_with_much_in_its_spool(self):
        given = scale.options(["--clients", "24", "--values", str(1 << 21), "--rounds", "2"])
        config = self.write("exp.yaml", scale.experiment(given))
        server, port, directory = self.server(config, "run", "--quiet")
        for ids in ("0-11", "12-23"):
            self.client(ids, port, "--retry-s", "60", "--quiet")
        spooled = lambda: sum(path.stat().st_size for path in (directory / "spool").glob("*"))  # noqa: E731
        wait_until(lambda: spooled() > 120 << 20, "120 MiB in the spool")
        server.kill()
        server.wait()
        self.assertGreater(spooled(), 100 << 20)
        again = self.start("server", "--config", config, "--run-dir", directory, "--listen", f"127.0.0.1:{port}", "--resume", "--quiet")
        watch = scale.Watch(again.pid)
        watch.start()
        self.finish(again)
        watch.join()
        print(f"\nresumed: {watch.peak_kib / 1024:.1f} MiB")
        self.assertLess(watch.peak_kib / 1024, 140)
        self.assertEqual([line["replied"] for line in rounds(directory)[1:]], [24, 24])
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "simulated", "--quiet")
        self.assertEqual(status, 0, err)
        results = [[(line["digest"], line["update_norm"]) for line in rounds(run)] for run in (directory, self.folder / "simulated")]
        self.assertEqual(*results)  # where a server keeps it on its disk, a simulation has it in memory

    def test_three_hundred_clients_of_one_process(self):
        config = self.write("exp.yaml", TOY.replace("clients: 6", "clients: 300").replace("count: 6", "count: 300, per_round: 100"))
        server, port, directory = self.server(config)
        client = self.client("0-299", port)
        self.finish(server)
        self.finish(client)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "quiet", "--quiet")
        self.assertEqual(status, 0, err)
        self.assertEqual(digests(directory), digests(self.folder / "quiet"))

    def test_a_server_whose_clients_evaluate_does_not_load_libtorch(self):
        config = self.write("exp.yaml", GLYPHS + "evaluate: {on: clients}\n")
        server, port, directory = self.server(config, "run", "--quiet")
        watch = scale.Watch(server.pid)
        watch.start()
        client = self.client("0-7", port)
        wait_until(lambda: len(rounds(directory)) > 2, "two rounds")
        maps = pathlib.Path(f"/proc/{server.pid}/maps").read_text()
        self.finish(server)
        self.finish(client)
        watch.join()
        print(f"\nserver of a torch model: {watch.peak_kib / 1024:.1f} MiB")
        self.assertNotIn("libtorch", maps)
        self.assertLess(watch.peak_kib / 1024, 40)
        self.assertEqual(list(directory.glob("*.tmp")), [])
        simulated = self.folder / "simulated"
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", simulated, "--quiet")
        self.assertEqual(status, 0, err)
        self.assertEqual(digests(directory), digests(simulated))
        for name in ("best", "last"):
            sums = (directory / "adapter" / name / "B2SUMS").read_text()
            self.assertIn("adapter_model.safetensors", sums)
            self.assertEqual(sums, (simulated / "adapter" / name / "B2SUMS").read_text())

    def test_a_model_that_cannot_be_opened_is_named_by_the_server_as_by_a_simulation(self):
        config = self.write("exp.yaml", GLYPHS + "evaluate: {on: clients}\n")
        for setting, fault in (("model.path=/nowhere", 5), ("adapter.targets=[]", 2)):
            said = [self.run_fedctl(command, "--config", config, "--run-dir", self.folder / f"{command}{fault}", "--set", setting, "--quiet", *more)
                    for command, *more in (("server", "--listen", "127.0.0.1:0"), ("simulate",))]
            self.assertEqual(said[0], said[1])
            self.assertEqual(said[0][0], fault, said[0][2])

    @unittest.skipUnless("avx2" in pathlib.Path("/proc/cpuinfo").read_text(), "no AVX2 here")
    def test_products_use_the_processor(self):
        """OpenBLAS takes kernels of 2004 where it does not know the processor; it says so itself."""
        config = self.write("exp.yaml", GLYPHS)
        run = ["simulate", "--config", config, "--quiet", "--set", "rounds=1", "--run-dir"]
        environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
        said = self.run_fedctl(*run, self.folder / "own", env={**environment, "OPENBLAS_VERBOSE": "2"})[2]
        self.assertRegex(said, "Core: (SkylakeX|Haswell)")
        said = self.run_fedctl(*run, self.folder / "given", env={**environment, "OPENBLAS_VERBOSE": "2", "OPENBLAS_CORETYPE": "Nehalem"})[2]
        self.assertIn("Core: Nehalem", said)


if __name__ == "__main__":
    unittest.main()
