"""What a shell does to a process: standard files that are closed, a reader that goes away, a terminal that hangs up; and who may read what is left."""
import os
import pathlib
import signal
import stat
import subprocess
import unittest

from fedctl import FEDCTL, ROOT, TOY, Case, digests, events, journal, rounds, wait_until

LONG = TOY.replace("steps: 5", "steps: 3000").replace("rounds: 5", "rounds: 8")


class Shell(Case):
    def test_standard_files_that_are_closed(self):
        calm = self.folder / "calm"
        config = self.write("exp.yaml", TOY)
        self.assertEqual(self.run_fedctl("simulate", "--config", config, "--run-dir", calm)[0], 0)
        for closed in ("<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"):
            with self.subTest(closed):
                directory = self.folder / f"run{len(closed)}{closed[0] == '<'}{closed.count('2')}"
                words = f"'{FEDCTL}' simulate --config '{config}' --run-dir '{directory}' --format json --verbose {closed}"
                status = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, timeout=60).returncode
                self.assertEqual(status, 0)
                self.assertEqual(digests(directory), digests(calm))
                self.assertEqual(self.run_fedctl("verify", directory)[0], 0)

    def test_sockets_are_no_standard_files(self):
        config = self.write("exp.yaml", TOY)
        server, port, directory = self.server(config)
        words = f"exec '{FEDCTL}' client --ids 0-5 --server 127.0.0.1:{port} --threads 1 --verbose <&- >&- 2>&-"
        self.assertEqual(subprocess.run(["bash", "-c", words], cwd=ROOT, timeout=60).returncode, 0)
        self.finish(server)
        self.assertEqual(rounds(directory)[-1]["replied"], 6)

    def test_a_run_goes_on_when_nobody_reads_its_output(self):
        for command in ("simulate", "server"):
            with self.subTest(command):
                config, directory, port = self.write("exp.yaml", LONG), self.folder / command, self.folder / "port"
                more = ["--listen", "127.0.0.1:0", "--port-file", port] if command == "server" else []
                run = self.start(command, "--config", config, "--run-dir", directory, "--format", "json", "--threads", "1", *more)
                if command == "server":
                    wait_until(port.exists, "the port")
                    client = self.client("0-5", int(port.read_text()))
                self.assertIn('"round":0', run.stdout.readline())
                run.stdout.close()
                run.stderr.close()
                self.assertEqual(run.wait(60), 0)
                self.assertEqual(len(rounds(directory)), 9)
                if command == "server":
                    self.finish(client)
                run.stdout = run.stderr = None

    def test_a_list_ends_quietly(self):
        for words in ("list", "check --schema"):
            found = subprocess.run(["bash", "-c", f"'{FEDCTL}' {words} | head -n 1"], capture_output=True, text=True, timeout=60)
            self.assertEqual((found.returncode, found.stderr), (0, ""))

    def test_a_closed_terminal_ends_a_run_in_order(self):
        # As in a terminal, whatever runs the tests.
        self.addCleanup(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_DFL))
        for number in (signal.SIGHUP, signal.SIGUSR1):
            with self.subTest(number):
                directory = self.folder / str(int(number))
                run = self.start("simulate", "--config", self.write("exp.yaml", LONG.replace("rounds: 8", "rounds: 100000")), "--run-dir", directory, "--quiet")
                wait_until(lambda: (directory / "journal.jsonl").exists() and len(rounds(directory)) > 2, "some rounds")
                run.send_signal(number)
                self.assertEqual(run.wait(30), 128 + number)
                self.assertEqual(journal(directory)[-1]["event"], "end")

    def test_nohup(self):
        directory = self.folder / "run"
        run = subprocess.Popen(["nohup", FEDCTL, "simulate", "--config", self.write("exp.yaml", LONG), "--run-dir", directory], cwd=self.folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(run.kill)
        wait_until(lambda: (directory / "journal.jsonl").exists() and len(rounds(directory)) > 2, "some rounds")
        run.send_signal(signal.SIGHUP)
        self.assertEqual(run.wait(60), 0)
        self.assertEqual(events(directory, "end")[0]["status"], "done")


class Private(Case):
    def test_nobody_else_reads_a_run_or_a_state(self):
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        config = self.write("exp.yaml", TOY)
        server, port, directory = self.server(config)
        client = self.client("0-5", port, "--state-dir", self.folder / "state")
        self.finish(server)
        self.finish(client)
        self.assertEqual(self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "simulated")[0], 0)
        seen = 0
        for top in (directory, self.folder / "state", self.folder / "simulated"):
            for path in (top, *top.rglob("*")):
                seen += 1
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700 if path.is_dir() else 0o600, path)
        self.assertGreater(seen, 30)

    def test_nothing_is_written_through_links(self):
        victim = pathlib.Path(self.write("victim", "mine"))
        for folder, names in (("run", ("experiment.yaml.tmp",)), ("state", ("client-0.tmp",)), ("ports", ("run.port.tmp", "run.port"))):
            (self.folder / folder).mkdir()
            for name in names:
                (self.folder / folder / name).symlink_to(victim)
        port = self.folder / "ports/run.port"
        server = self.start("server", "--config", self.write("exp.yaml", TOY), "--run-dir", self.folder / "run", "--listen", "127.0.0.1:0", "--port-file", port)
        wait_until(lambda: not port.is_symlink(), "the port")
        client = self.client("0-5", int(port.read_text()), "--state-dir", self.folder / "state")
        self.finish(server)
        self.finish(client)
        self.assertEqual(victim.read_text(), "mine")
        (self.folder / "state/client-9.lock").symlink_to(victim)
        status, _, err = self.run_fedctl("client", "--id", "9", "--state-dir", self.folder / "state")
        self.assertEqual(status, 6, err)
        self.assertEqual(victim.read_text(), "mine")


if __name__ == "__main__":
    unittest.main()
