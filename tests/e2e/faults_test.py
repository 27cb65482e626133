"""Clients that die, strangers that shout, and runs that are stopped half-way."""
import json
import os
import random
import signal
import socket
import struct
import unittest

from fedctl import GLYPHS, TOY, Case, CountingProxy, digests, events, journal, rounds, wait_until


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


class Faults(Case):
    SLOW = TOY.replace("steps: 5", "steps: 200000").replace("rounds: 5", "rounds: 8").replace("quorum: 1.0", "quorum: 0.5")

    MEMORY = ("codec: {up: {kind: auto, bits_per_parameter: 8}, error_feedback: ef21, "
              "down: {kind: auto, bits_per_parameter: 8}, error_feedback_down: ef21}\n")

    def test_a_client_killed_in_mid_round_and_back_again(self):
        self.kill_one(self.SLOW)

    def test_a_client_killed_that_shared_memory_with_the_server(self):
        self.kill_one(self.SLOW + self.MEMORY)

    def kill_one(self, experiment):
        config = self.write("exp.yaml", experiment)
        server, port, directory = self.server(config)
        clients = [self.client(str(i), port) for i in range(6)]
        wait_until(lambda: (directory / "journal.jsonl").exists() and rounds(directory)[-1]["round"] >= 1, "round 1")
        os.kill(clients[2].pid, signal.SIGKILL)
        wait_until(lambda: events(directory, "leave"), "the leave event")
        self.assertEqual(events(directory, "leave")[0]["peer"], 2)
        again = self.client("2", port)
        self.finish(server)
        for process in clients[:2] + clients[3:] + [again]:
            self.finish(process)
        lines = rounds(directory)
        self.assertEqual(lines[-1]["round"], 8)
        # The round waited for it: it was back in time.
        self.assertEqual([line["replied"] for line in lines[1:]], [6] * 8)
        self.assertEqual(sum(line["lost"] for line in lines), 0)
        self.assertEqual(len([line for line in events(directory, "join") if line["peer"] == 2]), 2)
        self.assertEqual(lines[-1]["replied"], 6, "the client that came back takes part again")

    def test_a_client_that_hangs_is_suspected_lost_and_back_again(self):
        config = self.write("exp.yaml", self.SLOW.replace("deadline_s: 20", "deadline_s: auto") + "server: {idle_s: 1.5}\n")
        server, port, directory = self.server(config)
        clients = [self.client(str(i), port) for i in range(6)]
        wait_until(lambda: (directory / "journal.jsonl").exists() and rounds(directory)[-1]["round"] >= 1, "round 1")
        os.kill(clients[2].pid, signal.SIGSTOP)
        wait_until(lambda: events(directory, "leave"), "the leave event")
        self.assertEqual([line["peer"] for line in events(directory, "suspect")], [2])
        os.kill(clients[2].pid, signal.SIGCONT)
        wait_until(lambda: len([line for line in events(directory, "join") if line["peer"] == 2]) == 2, "its return")
        self.finish(server)
        for process in clients:
            self.finish(process)
        lines = rounds(directory)
        self.assertEqual(lines[-1]["round"], 8)
        # At first nothing is known of the clients; then the deadline is theirs.
        self.assertEqual(lines[1]["deadline_ms"], 3600e3)
        self.assertTrue(all(1e3 <= line["deadline_ms"] < 60e3 for line in lines[3:]), [line["deadline_ms"] for line in lines])

    def test_a_client_whose_connection_breaks_reconnects_by_itself(self):
        self.cut_one(self.SLOW)

    def test_a_client_whose_connection_breaks_and_memory_on_both_sides(self):
        self.cut_one(self.SLOW + self.MEMORY)

    def cut_one(self, experiment):
        config = self.write("exp.yaml", experiment)
        server, port, directory = self.server(config)
        proxy = CountingProxy(port)
        self.addCleanup(proxy.close)
        near, far = self.client("0-4", port), self.client("5", proxy.port)
        wait_until(lambda: (directory / "journal.jsonl").exists() and rounds(directory)[-1]["round"] >= 1, "round 1")
        proxy.cut()
        wait_until(lambda: [line["peer"] for line in events(directory, "join")].count(5) == 2, "the second join")
        self.finish(server)
        self.finish(near)
        self.finish(far)
        self.assertEqual([line["peer"] for line in events(directory, "leave")][:1], [5])
        self.assertEqual(rounds(directory)[-1]["replied"], 6)

    def test_clients_are_waited_for_in_vain(self):
        config = self.write("exp.yaml", TOY.replace("deadline_s: 20", "deadline_s: 0.5, wait_s: 1"))
        server, port, directory = self.server(config)
        client = self.client("0-3", port)
        out, err = self.finish(server, 4)
        self.assertIn("quorum not reached: 4 clients connected, 6 needed", err)
        self.assertIn("waits for clients: 4 of the 6", err)
        self.assertIn("hint:", err)
        _, err = self.finish(client, 4)
        self.assertIn("too few clients answered", err)
        self.assertEqual(journal(directory)[-1]["status"], "quorum")
        # The hint can be followed.
        server, port, directory = self.server(config, "run", "--resume", "--set", "clients.quorum=0.5")
        client = self.client("0-3", port)
        self.finish(server)
        self.finish(client)
        self.assertEqual([line["replied"] for line in rounds(directory)[1:]], [4] * 5)

    def killed_in_round_2(self, experiment):
        """A server that has lost client 5 in the middle of a round."""
        server, port, directory = self.server(self.write("exp.yaml", experiment))
        self.client("0-4", port)
        killed = self.client("5", port)
        wait_until(lambda: directory.joinpath("journal.jsonl").exists() and len(rounds(directory)) >= 2, "round 1")
        killed.kill()
        return server, port, directory

    def simulated(self, experiment):
        self.run_fedctl("simulate", "--config", self.write("sim.yaml", experiment), "--run-dir", self.folder / "sim")
        return digests(self.folder / "sim")

    LONG = TOY.replace("steps: 5", "steps: 60000").replace("rounds: 5", "rounds: 4") + "server: {idle_s: 0.5}\n"

    def test_a_round_without_a_quorum_is_asked_again_when_the_client_is_back(self):
        server, port, directory = self.killed_in_round_2(self.LONG)
        wait_until(lambda: events(directory, "retry"), "the round to fail")
        self.client("5", port)
        self.finish(server)
        self.assertEqual(digests(directory), self.simulated(self.LONG))
        self.assertEqual(events(directory, "retry")[0]["attempt"], 1)
        self.assertEqual(self.run_fedctl("verify", directory)[0], 0)

    def test_a_run_that_ended_without_a_quorum_is_resumed(self):
        ends = self.LONG.replace("deadline_s: 20", "deadline_s: 20, on_quorum: end")
        server, port, directory = self.killed_in_round_2(ends)
        _, err = self.finish(server, 4)
        self.assertIn("quorum not reached: 5 of 6 usable answers", err)
        others = self.client("0-5", port, "--retry-s", "30")
        server, port, directory = self.server(str(directory / "experiment.yaml"), "run", "--resume", port=port)
        self.finish(server)
        self.finish(others)
        self.assertEqual(digests(directory), self.simulated(self.LONG))

    def test_clients_come_back_to_a_run_that_was_interrupted(self):
        server, port, directory = self.server(self.write("exp.yaml", self.LONG.replace("idle_s: 0.5", "idle_s: 30")))
        clients = self.client("0-5", port, "--retry-s", "60")
        wait_until(lambda: len(rounds(directory)) >= 2, "round 1")
        server.terminate()
        self.finish(server, 143)
        server, port, directory = self.server(str(directory / "experiment.yaml"), "run", "--resume", port=port)
        self.finish(server)
        self.finish(clients)
        self.assertEqual(digests(directory), self.simulated(self.LONG))
        self.assertEqual(events(directory, "retry"), [])

    def test_training_that_diverges_is_rejected_with_the_reason(self):
        for codec in ("", "codec: {up: [{kind: quantize}]}\n"):
            config = self.write("exp.yaml", TOY.replace("lr: 0.05", "lr: 1.0e+30") + codec)
            directory = self.folder / f"run{len(codec)}"
            status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory)
            self.assertEqual(status, 4, err)
            rejected = events(directory, "reject")
            self.assertEqual([line["peer"] for line in rejected], list(range(6)))
            self.assertIn("training diverged", rejected[0]["reason"])

    def test_garbage_does_not_disturb_the_run(self):
        config = self.write("exp.yaml", TOY)
        server, port, directory = self.server(config)
        before = resident_kib(server.pid)
        noise = random.Random(1)
        silent = []
        for attempt in range(20):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                try:
                    stranger.sendall(noise.randbytes(64 << 10))
                except OSError:
                    pass  # the server has hung up, as it should
            with socket.create_connection(("127.0.0.1", port)) as liar:
                # The largest claim that the header's 32 bits can make, then one of 1 TiB in the bytes that follow.
                liar.sendall(b"fc" + struct.pack("<BBIQIQ", 1, 1, 0xffffffff, 0, 0, 1 << 40))
            half = socket.create_connection(("127.0.0.1", port))
            half.sendall(b"fc\x01\x01")
            silent.append(half)
        clients = [self.client(str(i), port) for i in range(6)]
        self.finish(server)
        for process in clients:
            self.finish(process)
        for half in silent:
            half.close()
        self.assertGreaterEqual(len(events(directory, "refuse")), 40)
        self.assertEqual(rounds(directory)[-1]["replied"], 6)
        self.assertLess(before, 64 * 1024)

    def test_memory_stays_flat_under_claims(self):
        config = self.write("exp.yaml", TOY)
        server, port, _ = self.server(config)
        before = resident_kib(server.pid)
        liars = []
        for _ in range(100):
            liar = socket.create_connection(("127.0.0.1", port))
            liar.sendall(b"fc" + struct.pack("<BBIQI", 1, 1, 60000, 0, 0))
            liars.append(liar)
        self.assertLess(resident_kib(server.pid) - before, 16 * 1024)
        for liar in liars:
            liar.close()
        client = self.client("0-5", port)
        self.finish(server)
        self.finish(client)

    def test_interrupt_then_resume_equals_an_undisturbed_run(self):
        config = self.write("exp.yaml", GLYPHS.replace("rounds: 3", "rounds: 6"))
        whole = self.folder / "whole"
        self.assertEqual(self.run_fedctl("simulate", "--config", config, "--run-dir", whole)[0], 0)
        part = self.folder / "part"
        process = self.start("simulate", "--config", config, "--run-dir", part)
        wait_until(lambda: (part / "journal.jsonl").exists() and len(rounds(part)) >= 3, "round 2")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if process.returncode == 0:
            self.skipTest("the run was over before the signal came")
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("--resume", err)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", part, "--resume",
                                         "--set", "codec.error_feedback=ef14")
        self.assertEqual(status, 0, err)
        self.assertEqual(len(digests(part)), 7)

    def test_resume_without_client_state_is_bit_identical(self):
        config = self.write("exp.yaml", TOY.replace("rounds: 5", "rounds: 40").replace("steps: 5", "steps: 20000"))
        whole = self.folder / "whole"
        self.assertEqual(self.run_fedctl("simulate", "--config", config, "--run-dir", whole)[0], 0)
        part = self.folder / "part"
        process = self.start("simulate", "--config", config, "--run-dir", part)
        wait_until(lambda: (part / "journal.jsonl").exists() and len(rounds(part)) >= 4, "round 3")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143, err)
        self.assertEqual(self.run_fedctl("simulate", "--config", config, "--run-dir", part, "--resume")[0], 0)
        self.assertEqual(digests(part), digests(whole))

    def test_a_server_that_is_killed_leaves_a_readable_directory(self):
        config = self.write("exp.yaml", self.SLOW)
        server, port, directory = self.server(config)
        client = self.client("0-5", port, "--retry-s", "0.2")
        wait_until(lambda: (directory / "journal.jsonl").exists() and rounds(directory)[-1]["round"] >= 2, "round 2")
        server.kill()
        server.communicate()
        self.finish(client, 3)
        for line in (directory / "journal.jsonl").read_text().splitlines():
            json.loads(line)
        self.assertTrue(list((directory / "checkpoint").iterdir()))
        # What it leaves can be gone on with.
        port_file = self.folder / "again"
        again = self.start("server", "--config", config, "--run-dir", directory, "--resume", "--listen", "127.0.0.1:0",
                           "--port-file", port_file)
        wait_until(port_file.exists, "the port")
        client = self.client("0-5", int(port_file.read_text()))
        self.finish(again)
        self.finish(client)
        self.assertEqual([line["round"] for line in rounds(directory)], list(range(9)))


if __name__ == "__main__":
    unittest.main()
