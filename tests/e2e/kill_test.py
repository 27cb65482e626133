"""kill -9 at random instants: every run ends with the digests of the undisturbed one. KILLS=100 SEED=1 for more of it."""
import collections
import os
import pathlib
import random
import re
import subprocess
import tempfile
import time
import unittest

from fedctl import FEDCTL, ROOT, TOY, ca, digests, rounds, wait_until, without_times

KILLS = int(os.environ.get("KILLS", "12"))
SEED = int(os.environ.get("SEED", "1"))
PER_RUN = 6
CLIENTS = 4
ROUNDS = 10
# A round of a fifth of a second; every codec memory there is.
BASE = (TOY.replace("rounds: 5", f"rounds: {ROUNDS}").replace("steps: 5", "steps: 100000").replace("clients: 6", f"clients: {CLIENTS}")
        .replace("count: 6, quorum: 1.0, deadline_s: 20", f"count: {CLIENTS}, quorum: 1.0, deadline_s: 60"))
CODECS = [
    "codec: {up: {kind: auto, bits_per_parameter: 2}, error_feedback: ef21, down: {kind: auto, bits_per_parameter: 4}, error_feedback_down: ef21}\n",
    "codec: {up: [{kind: topk, ratio: 0.1}, {kind: sign}], error_feedback: ef14}\n",
    "codec: {up: [{kind: topk, ratio: 0.3}], error_feedback: econtrol}\nmethod: {kind: fedavg, server_optimizer: {kind: adam}}\n",
    "codec: {up: [{kind: topk, ratio: 0.2}]}\nmethod: {kind: scafcom}\n",
    "method: {kind: fedkseed, probe: 0.01, candidates: 512, pro: true}\n",
    "method: {kind: decomfl, directions: 3, probe: 0.01, scalars: byte, precondition: true}\n",
]
# Steps of two losses and three passes over the directions.
EXPERIMENTS_OF = {
    codec: (BASE.replace("steps: 100000", "steps: 4000").replace("lr: 0.05", "lr: 0.0001") if "probe" in codec else BASE) + codec for codec in CODECS
}
EXPERIMENTS = list(EXPERIMENTS_OF.values())
# Messages of 1 MB, which travel in chunks.
LARGE = BASE.replace("rows: 24, cols: 32", "rows: 500, cols: 520").replace("steps: 100000", "steps: 300")
EXPERIMENTS.insert(1, LARGE)


class Party:
    """One process that is started again whenever it was killed; its standard error in one file."""

    def __init__(self, folder, name, first, again):
        self.log = folder / f"{name}.log"
        self.first, self.again = first, again
        self.process = None

    def start(self):
        command = self.first if self.process is None else self.again
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([FEDCTL, *map(str, command)], stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Kill(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.parties = []
        self.addCleanup(self.stop)

    def stop(self):
        for party in self.parties:
            if party.process and party.process.poll() is None:
                party.kill()

    def certificates(self):
        """The experiment's server.tls, and a client's arguments by its number."""
        folder = self.folder / "ca"
        if not folder.exists():
            ca(folder, "init")
            (self.folder / "tls.yaml").write_text(ca(folder, "issue", "--server", "127.0.0.1"))
            for i in range(CLIENTS):
                ca(folder, "issue", "--id", str(i))
        return (self.folder / "tls.yaml").read_text(), [["--site", folder / f"client-{i}.yaml"] for i in range(CLIENTS)]

    def run_once(self, name, text, kills, rng, expected_s, tls=False):
        """Runs the experiment with so many kills; returns the run directory, the clients' logs and how many clients were killed."""
        folder = self.folder / name
        folder.mkdir()
        config = folder / "exp.yaml"
        section, sites = self.certificates() if tls else ("", [[]] * CLIENTS)
        config.write_text(text + section)
        run, port_file = folder / "run", folder / "port"
        common = ["server", "--config", config, "--run-dir", run, "--quiet", "--threads", 1]
        server = Party(folder, "server", common + ["--listen", "127.0.0.1:0", "--port-file", port_file], None)
        self.parties = [server]
        server.start()
        wait_until(port_file.exists, "the port")
        place = f"127.0.0.1:{port_file.read_text().strip()}"
        server.again = common + ["--listen", place, "--resume"]
        clients = []
        for i in range(CLIENTS):
            command = ["client", "--id", i, "--server", place, "--state-dir", folder / "state", "--threads", 1, "--retry-s", 60, "--verbose", *sites[i]]
            clients.append(Party(folder, f"client{i}", command, command))
        self.parties += clients
        for client in clients:
            client.start()
        began = time.monotonic()
        moments = sorted(rng.uniform(0.2, expected_s) for _ in range(kills))
        killed_clients = killed = 0
        while server.process.poll() is None:
            if moments and time.monotonic() - began > moments[0]:
                moments.pop(0)
                victim = server if rng.random() < 0.5 else rng.choice(clients)
                if victim.process.poll() is None and server.process.poll() is None:
                    victim.kill()
                    victim.start()
                    killed += 1
                    killed_clients += victim is not server
            self.assertLess(time.monotonic() - began, 300, "the run does not end")
            time.sleep(0.002)
        self.assertEqual(server.process.returncode, 0, server.log.read_text())
        for client in clients:
            self.assertEqual(client.process.wait(60), 0, client.log.read_text())
        return run, clients, killed, killed_clients

    def test_kill_9_at_any_instant(self):
        rng = random.Random(SEED)
        calm, seconds = {}, {}
        done = run_number = 0
        while done < KILLS:
            text = EXPERIMENTS[run_number % len(EXPERIMENTS)]
            if text not in calm:
                began = time.monotonic()
                run, clients, _, _ = self.run_once(f"calm{run_number}", text, 0, rng, 0)
                seconds[text] = time.monotonic() - began
                calm[text] = run
            run, clients, killed, killed_clients = self.run_once(
                f"run{run_number}", text, min(PER_RUN, KILLS - done), rng, seconds[text], tls=run_number % 2 == 1)
            self.assertEqual(digests(run), digests(calm[text]), f"seed {SEED}, run {run_number}")
            self.assertEqual([line["round"] for line in rounds(run)], list(range(ROUNDS + 1)))
            for line, quiet in zip(rounds(run), rounds(calm[text])):
                self.assertEqual(line["replied"], quiet["replied"])
                for way in ("up", "down"):
                    for part in ("payload", "framing"):
                        self.assertEqual(line["bytes"][way][part], quiet["bytes"][way][part], f"round {line['round']}, {way}, {part}")
            totals = {way: sum(line[f"bytes_{way}"] for line in rounds(run)) for way in ("up", "down")}
            self.assertEqual(rounds(run)[-1]["bytes_up_total"], totals["up"])
            self.assertEqual(rounds(run)[-1]["bytes_down_total"], totals["down"])
            trained = collections.Counter()
            for client in clients:
                for number in re.findall(r"client \d+: round (\d+)\n", client.log.read_text()):
                    trained[(client.log.name, number)] += 1
            # A client that was killed may have been training; nobody trains again for a server that was.
            self.assertLessEqual(sum(trained.values()), CLIENTS * ROUNDS + killed_clients)
            done += max(1, killed)
            run_number += 1
        print(f"{done} kills in {run_number} runs", flush=True)


    def test_without_rounds_nothing_is_lost(self):
        rng = random.Random(SEED)
        text = BASE.replace("rounds: 10", "rounds: 40").replace("100000", "20000") + "method: {kind: fedbuff, buffer: 3}\n"
        run, clients, killed, killed_clients = self.run_once("buffered", text, 6, rng, 3)
        self.assertEqual([line["round"] for line in rounds(run)], list(range(41)))
        for line in rounds(run)[1:]:
            self.assertEqual(line["replied"], 3)
        self.assertLess(rounds(run)[-1]["loss"], 0.2 * rounds(run)[0]["loss"])
        trained = sum(len(re.findall(r"client \d+: round \d+\n", client.log.read_text())) for client in clients)
        # Every answer counts once; at the end, and whenever a client was killed, some work is left over.
        self.assertGreaterEqual(trained, 40 * 3)
        self.assertLessEqual(trained, 40 * 3 + CLIENTS + killed_clients)
        done = subprocess.run([FEDCTL, "verify", run], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_merges_without_rounds_are_replayed(self):
        rng = random.Random(SEED)
        method = "method: {kind: decoupled_diloco, fragments: 2, quorum: %d, lr: 0.4, merge: rda}\n"
        text = BASE.replace("rounds: 10", "rounds: 24").replace("100000", "30000")
        # With everyone in every merge the kills must not show at all.
        calm, *_ = self.run_once("calm", text + method % CLIENTS, 0, rng, 0)
        run, _, killed, _ = self.run_once("whole", text + method % CLIENTS, 6, rng, 3)
        self.assertGreater(killed, 1)
        self.assertEqual(digests(run), digests(calm))
        # With two of four whoever is faster is in it; nothing stops, and the loss ends where it did.
        run, _, killed, _ = self.run_once("two", text + method % 2, 6, rng, 3)
        self.assertGreater(killed, 1)
        self.assertEqual([line["round"] for line in rounds(run)], list(range(25)))
        for line in rounds(run)[1:]:
            self.assertGreaterEqual(line["replied"], 2)
        self.assertLess(abs(rounds(run)[-1]["loss"] - rounds(calm)[-1]["loss"]), 0.02 * rounds(calm)[0]["loss"])
        done = subprocess.run([FEDCTL, "verify", run], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_neighbours_go_on_when_anyone_dies(self):
        class ServerOnly(random.Random):
            def random(self):
                return 0.0

        for kind in ("dpsgd, exchanges: 3", "dadao, smoothness: 1, convexity: 0.2"):
            with self.subTest(kind):
                name = kind.split(",")[0]
                text = (ROOT / f"configs/methods/{name}.yaml").read_text().replace("6,", f"{CLIENTS},").replace("clients: {", "clients: {deadline_s: 8, ")
                text = text.replace("rounds: 60", "rounds: 600").replace("rounds: 30", "rounds: 300")
                calm, *_ = self.run_once(f"calm-{name}", text, 0, random.Random(SEED), 0)
                # What a server that died did not pass on is sent again.
                run, _, killed, _ = self.run_once(f"server-{name}", text, 5, ServerOnly(SEED), 2, tls=name == "dadao")
                self.assertGreater(killed, 1)
                self.assertEqual(digests(run), digests(calm))
                for line, quiet in zip(rounds(run)[1:], rounds(calm)[1:]):
                    self.assertEqual(line["bytes"]["peers"]["payload"], quiet["bytes"]["peers"]["payload"])
                    self.assertEqual(line["bytes"]["peers"]["tls"] > 0, name == "dadao")
                # A client that dies is missing in exchanges; nobody hangs.
                run, _, killed, _ = self.run_once(f"all-{name}", text.replace("quorum: 1.0", "quorum: 0.5"), 6, random.Random(SEED), 2)
                self.assertGreater(killed, 1)
                self.assertEqual([line["round"] for line in rounds(run)], list(range(len(rounds(calm)))))
                self.assertLess(rounds(run)[-1]["loss"], 0.2 * rounds(run)[0]["loss"])

    def test_secure_aggregation_survives_the_servers_death(self):
        class ServerOnly(random.Random):
            def random(self):
                return 0.0

        text = BASE.replace("100000", "30000") + "privacy: {secure_aggregation: {kind: secagg, levels: 65535, examples_max: 1}}\n"
        calm, *_ = self.run_once("calm-masked", text, 0, random.Random(SEED), 0)
        run, clients, killed, killed_clients = self.run_once("masked", text, 5, ServerOnly(SEED), 2)
        self.assertGreater(killed, 1)
        self.assertEqual(killed_clients, 0)
        self.assertEqual(digests(run), digests(calm))
        for line, quiet in zip(rounds(run), rounds(calm)):
            self.assertEqual(line["bytes"]["up"]["payload"], quiet["bytes"]["up"]["payload"])

    def test_the_server_dies_in_the_middle_of_a_conversation(self):
        class ServerOnly(random.Random):
            def random(self):
                return 0.0

        text = (ROOT / "configs/methods/sfprompt.yaml").read_text().replace("count: 6", f"count: {CLIENTS}")
        calm, *_ = self.run_once("calm-split", text, 0, random.Random(SEED), 0)
        run, clients, killed, killed_clients = self.run_once("split", text, 5, ServerOnly(SEED), 4)
        self.assertGreater(killed, 1)
        self.assertEqual(killed_clients, 0)
        self.assertEqual(digests(run), digests(calm))
        for line, quiet in zip(rounds(run), rounds(calm)):
            for way in ("up", "down"):
                for part in ("payload", "framing"):
                    self.assertEqual(line["bytes"][way][part], quiet["bytes"][way][part])

    def test_a_simulation_goes_on_with_every_memory(self):
        rng = random.Random(SEED)
        for number, codec in enumerate(CODECS):
            config = self.folder / f"{number}.yaml"
            short = EXPERIMENTS_OF[codec].replace("quorum: 1.0", "per_round: 3, quorum: 0.5").replace("100000", "20000")
            config.write_text(short)
            whole, part = self.folder / f"whole{number}", self.folder / f"part{number}"
            command = [FEDCTL, "simulate", "--config", config, "--quiet", "--threads", "1", "--run-dir"]
            began = time.monotonic()
            subprocess.run([*command, whole], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            seconds = time.monotonic() - began
            for kill in range(3):
                extra = ["--resume"] if (part / "checkpoint").exists() and list((part / "checkpoint").iterdir()) else ["--fresh"]
                process = subprocess.Popen([*command, part, *extra], stdout=subprocess.DEVNULL, cwd=ROOT)
                try:
                    process.wait(rng.uniform(0.1, 0.6) * seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            subprocess.run([*command, part, "--resume"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            self.assertEqual([without_times(line) for line in rounds(part)], [without_times(line) for line in rounds(whole)])


if __name__ == "__main__":
    unittest.main()
