"""Secure aggregation among real processes: clients that are killed, a server that is restored, certificates."""
import random
import shutil
import subprocess
import unittest

from fedctl import TOY, Case, ca, digests, events, rounds, wait_until

SEED = 7
MASKED = TOY.replace("quorum: 1.0", "quorum: 0.5") + "privacy: {secure_aggregation: {kind: secagg, clip: 2, levels: 65535, examples_max: 1}}\n"


class Masked(Case):
    def test_all_clients_are_killed_and_come_back(self):
        # Long enough rounds that all stages are hit in the end; every kill loses every key of the round.
        config = self.write("exp.yaml", MASKED.replace("steps: 5", "steps: 20000").replace("rounds: 5", "rounds: 8") + "server: {idle_s: 4}\n")
        server, port, directory = self.server(config)
        chance = random.Random(SEED)
        state = self.folder / "state"
        for number in range(3):
            clients = self.client("0-5", port, "--retry-s", "30", "--state-dir", state)
            wait_until(lambda: len(rounds(directory)) > 2 * number + 1, "a round")
            try:
                server.wait(chance.uniform(0, 0.3))
            except subprocess.TimeoutExpired:
                pass
            clients.kill()
            clients.communicate()
        clients = self.client("0-5", port, "--retry-s", "30", "--state-dir", state)
        self.finish(server)
        self.finish(clients)
        self.assertEqual([line["round"] for line in rounds(directory)], list(range(9)))
        # What is missing in a round is missing as a whole.
        self.assertLessEqual(sum(line["replied"] < 6 for line in rounds(directory)[1:]), 3)

    def test_a_server_that_was_restored_asks_in_vain(self):
        config = self.write("exp.yaml", MASKED.replace("rounds: 5", "rounds: 2"))
        run, state = self.folder / "run", self.folder / "state"
        server, port, directory = self.server(config)
        wait_until(lambda: rounds(directory), "the first checkpoint")
        shutil.copytree(run, self.folder / "backup")
        clients = self.client("0-5", port, "--state-dir", state)
        self.finish(server)
        self.finish(clients)
        shutil.rmtree(run)
        (self.folder / "backup").rename(run)
        (self.folder / "run.port").unlink()
        server, port, directory = self.server(config, "run", "--resume")
        clients = self.client("0-4", port, "--state-dir", state)
        self.finish(server)
        self.finish(clients)
        for line in rounds(directory)[1:]:
            self.assertEqual((line["replied"], line["update_norm"], line["train_loss"]), (0, 0.0, None))
            self.assertEqual(line["digest"], digests(directory)[0])
        self.assertEqual([line["round"] for line in events(directory, "void")], [1, 2])
        self.assertIn("helped to unmask this round before", events(directory, "void")[0]["reason"])

    def test_with_certificates_keys_are_signed(self):
        for algorithm in ("ed25519", "p256"):
            with self.subTest(algorithm):
                folder = self.folder / algorithm
                lines = ca(folder, "init", "--algorithm", algorithm) and ca(folder, "issue", "--server", "127.0.0.1", "--algorithm", algorithm)
                for ids in ("0-2", "3-5"):
                    ca(folder, "issue", "--ids", ids, "--algorithm", algorithm)
                plain = self.write("plain.yaml", MASKED)
                config = self.write(f"{algorithm}.yaml", MASKED + lines)
                server, port, directory = self.server(config, f"{algorithm}-run")
                clients = [self.client(ids, port, "--site", folder / f"client-{ids}.yaml") for ids in ("0-2", "3-5")]
                for process in [server, *clients]:
                    self.finish(process)
                status, _, err = self.run_fedctl("simulate", "--config", plain, "--run-dir", self.folder / "plain", "--fresh")
                self.assertEqual(status, 0, err)
                self.assertEqual(digests(directory), digests(self.folder / "plain"))
                for line, without in zip(rounds(directory)[1:], rounds(self.folder / "plain")[1:]):
                    proofs = line["bytes"]["up"]["payload"] - without["bytes"]["up"]["payload"]
                    self.assertTrue(6 * 350 < proofs < 6 * 650, proofs)
                    # Each to its five neighbours, with its length in front.
                    more = line["bytes"]["down"]["payload"] - without["bytes"]["down"]["payload"]
                    self.assertEqual(more, 5 * (proofs + 6 * 2))

    def test_what_the_journal_says_of_the_graph(self):
        config = self.write("exp.yaml", MASKED)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "run")
        self.assertEqual(status, 0, err)
        start = events(self.folder / "run", "start")[0]
        self.assertEqual((start["neighbours"], start["threshold"]), (5, 3))


if __name__ == "__main__":
    unittest.main()
