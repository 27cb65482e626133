"""A disk that fills up, fails once, or takes half of a write, at every single write of a run: the run ends with a reason, and goes on
from what it left to the digests of the undisturbed one."""
import os
import pathlib
import unittest

from fedctl import FEDCTL, TOY, Case, digests, wait_until

STRIDE = int(os.environ.get("DISK_STRIDE", "2"))  # of the server's writes; 1: each
LIBRARY = pathlib.Path(FEDCTL).parent.parent / "tests" / "libfailing_disk.so"
EXPERIMENT = TOY.replace("rounds: 5", "rounds: 2") + "codec: {up: [{kind: topk, ratio: 0.3}], error_feedback: ef14}\n"


class Disk(Case):
    def setUp(self):
        super().setUp()
        if not LIBRARY.exists():
            self.skipTest(f"{LIBRARY} is not built")
        self.config = self.write("exp.yaml", EXPERIMENT)

    def faulty(self, directory, kind, at):
        """The environment for a failing disk below a run directory."""
        return {**os.environ, "LD_PRELOAD": str(LIBRARY), "FAILING_DISK_FOLDER": str(directory), "FAILING_DISK_KIND": kind,
                "FAILING_DISK_AT": str(at), "FAILING_DISK_COUNT": str(self.folder / "count")}

    def simulate(self, directory, *more, env=None):
        return self.run_fedctl("simulate", "--config", self.config, "--threads", "1", "--quiet", "--run-dir", directory, *more, env=env)

    def test_every_write_of_a_simulation(self):
        calm = self.folder / "calm"
        status, _, err = self.simulate(calm, env=self.faulty(calm, "none", 0))
        self.assertEqual(status, 0, err)
        writes = int((self.folder / "count").read_text())
        self.assertGreater(writes, 40)
        for kind in ("full", "once", "short"):
            for at in range(1, writes + 1):
                with self.subTest(kind=kind, at=at):
                    directory = self.folder / f"{kind}{at}"
                    status, _, err = self.simulate(directory, env=self.faulty(directory, kind, at))
                    if kind == "short":
                        self.assertEqual(status, 0, err)
                    else:
                        self.assertEqual(status, 6, err)
                        reason = "No space left on device" if kind == "full" else "Input/output error"
                        self.assertRegex(err, f"{directory}[^ ]*: cannot [a-z ]+: {reason}")
                        status, _, err = self.simulate(directory, "--resume")
                        self.assertEqual(status, 0, err)
                    self.assertEqual(digests(directory), digests(calm))
                    status, _, err = self.run_fedctl("verify", directory)
                    self.assertEqual(status, 0, err)

    def serve(self, directory, *more, env=None, place="127.0.0.1:0"):
        """A server on `place`; returns its process and where it listens, or None if it ended before."""
        port_file = self.folder / f"{directory.name}.port"
        port_file.unlink(missing_ok=True)
        server = self.start("server", "--config", self.config, "--threads", "1", "--quiet", "--run-dir", directory, "--listen", place,
                            "--port-file", port_file, *more, env=env)
        wait_until(lambda: port_file.exists() or server.poll() is not None, "the server's port")
        return server, f"127.0.0.1:{port_file.read_text().strip()}" if port_file.exists() else None

    def served(self, directory, env):
        """A run over TCP whose server has a faulty disk, started again with a good one if it ends; returns its first status."""
        def client_at(place):
            return self.start("client", "--ids", "0-5", "--server", place, "--threads", "1", "--quiet", "--state-dir",
                              self.folder / f"{directory.name}-state", "--retry-s", "60")

        server, place = self.serve(directory, env=env)
        client = client_at(place) if place else None
        first = server.wait(60)
        if first != 0:
            if client:  # the server has told its clients that the run has failed, if it could
                client.kill()
                client.wait()
            server, place = self.serve(directory, "--resume", place=place or "127.0.0.1:0")
            client = client_at(place or "127.0.0.1:1")
            self.assertEqual(server.wait(60), 0, server.communicate()[1])
            client.terminate()  # if the run was over but for its last line, nobody has told it
            client.wait(60)
        else:
            self.assertEqual(client.wait(60), 0, client.communicate()[1])
        return first

    def test_writes_of_a_server(self):
        calm = self.folder / "calm"
        self.assertEqual(self.served(calm, self.faulty(calm, "none", 0)), 0)
        writes = int((self.folder / "count").read_text())
        for kind in ("full", "once"):
            for at in range(1, writes + 1, STRIDE):
                with self.subTest(kind=kind, at=at):
                    directory = self.folder / f"{kind}{at}"
                    first = self.served(directory, self.faulty(directory, kind, at))
                    self.assertIn(first, (0, 6))  # how many writes there are depends on what arrives together
                    self.assertEqual(digests(directory), digests(calm))
                    status, _, err = self.run_fedctl("verify", directory)
                    self.assertEqual(status, 0, err)


if __name__ == "__main__":
    unittest.main()
