"""Lies in finite numbers: what a client may claim, what is committed, and what the journal says of it."""
import hashlib
import struct
import unittest

from fedctl import TOY, Case, events, journal, rounds

ASYNC = TOY.replace("rounds: 5", "rounds: 12") + "method: {kind: fedasync, mixing: 0.3}\nnetwork: {step_ms: 10, slow_share: 0.3, slow_factor: 10}\n"


def data_of(path):
    """The bytes of a safetensors file's tensors."""
    raw = path.read_bytes()
    return raw[8 + struct.unpack("<Q", raw[:8])[0]:]


def blake(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest()


class Poison(Case):
    def test_what_is_not_finite_is_not_committed(self):
        config = self.write("exp.yaml", TOY + "method: {kind: fedavg, server_optimizer: {kind: sgd, lr: 1.0e+40}}\n")
        directory = self.folder / "run"
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory, "--quiet")
        self.assertEqual(status, 1, err)
        self.assertRegex(err, r"round \d: weight \d+ would be -?(inf|nan): nothing of the round is kept")
        self.assertIn("server.max_update_norm", err)
        kept = rounds(directory)[-1]
        end = journal(directory)[-1]
        self.assertEqual((end["event"], end["status"], end["round"]), ("end", "failed", kept["round"]))
        last, = (directory / "adapter" / "last").glob("*.safetensors")
        for number in struct.iter_unpack("<f", data_of(last)):
            self.assertLess(abs(number[0]), float("inf"))
        self.assertEqual(self.run_fedctl("verify", directory)[0], 0)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory, "--quiet", "--resume")
        self.assertEqual(status, 1, err)
        self.assertEqual(rounds(directory)[-1], kept)

    def test_what_a_client_may_claim(self):
        """Who was dealt one example claims no more; where sites may have files the server says what it takes."""
        table = "a,b,kind\n" + "".join(f"{i},{i % 5},{'xyz'[i % 3]}\n" for i in range(24))
        self.write("train.csv", table)
        self.write("test.csv", table)
        config = self.write("exp.yaml", TOY)
        server, _, _ = self.server(config)
        server.terminate()
        _, err = server.communicate(timeout=60)
        self.assertNotIn("max_examples", err)
        files = TOY.replace("{kind: quadratic}", "{kind: mlp, hidden: 4}").replace(
            "{kind: quadratic_targets, rows: 24, cols: 32, clients: 6, partition: {kind: by_field}, holdout: 0}",
            f"{{kind: csv, path: {self.folder}, features: [a, b], label: kind, partition: {{kind: iid}}, holdout: 0}}")
        server, _, _ = self.server(self.write("files.yaml", files), "files")
        server.terminate()
        _, err = server.communicate(timeout=60)
        self.assertIn("server.max_examples is not set, and sites may have data of their own: a client may claim as many examples "
                      "as the server has, 24", err)

    def test_digests_of_updates(self):
        config = self.write("exp.yaml", TOY + "log: {clients: true}\n")
        directory, updates = self.folder / "run", self.folder / "updates"
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory, "--quiet", "--save-updates", updates)
        self.assertEqual(status, 0, err)
        lines = events(directory, "client")
        self.assertEqual(len(lines), 5 * 6)
        for line in lines:
            file = updates / f"exchange-{line['round']:06d}-client-{line['peer']:06d}.safetensors"
            self.assertEqual(line["digest"], blake(data_of(file)))

    def test_order_of_answers_is_enough_to_recompute(self):
        """fedasync from outside: the journal's order and the saved answers give every model's digest."""
        config = self.write("exp.yaml", ASYNC + "log: {clients: true}\n")
        directory, updates = self.folder / "run", self.folder / "updates"
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory, "--quiet", "--save-updates", updates)
        self.assertEqual(status, 0, err)
        answers = {}  # by client, in order
        for file in sorted(updates.glob("*.safetensors")):
            answers.setdefault(int(file.stem[-6:]), []).append(data_of(file))
        digest = {(line["round"], line["peer"]): line.get("digest") for line in events(directory, "client")}
        model = [0.0] * (24 * 32)
        old = 0
        for line in rounds(directory)[1:]:
            peer, version = map(int, line["answers"].split("@"))
            staleness = line["round"] - 1 - version
            old += staleness
            self.assertEqual(line["staleness"], staleness)
            raw = answers[peer].pop(0)
            self.assertEqual(digest[line["round"], peer], blake(raw))
            share = 0.3 * (1 + staleness) ** -0.5
            theirs = struct.unpack(f"<{len(model)}f", raw)
            new = struct.pack(f"<{len(model)}f", *((1 - share) * x + share * y for x, y in zip(model, theirs)))
            self.assertEqual(line["digest"], blake(new))
            model = struct.unpack(f"<{len(model)}f", new)
        self.assertGreater(old, 0, "no answer was late: the order would not matter")


if __name__ == "__main__":
    unittest.main()
