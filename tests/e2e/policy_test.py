"""What a site allows stands above what the server asks: refused with the reason, and the run goes on without that client."""
import unittest

from fedctl import GLYPHS, TOY, Case, events, rounds

# Six clients, of which five are enough.
FIVE = TOY.replace("quorum: 1.0", "quorum: 0.8").replace("deadline_s: 20", "deadline_s: 5")


def about(directory, event, peer):
    return [line for line in events(directory, event) if line["peer"] == peer]


class Policy(Case):
    def one_with(self, policy, run="run", experiment=FIVE):
        """A run in which client 5 has this policy: (its exit status, its message, the run)."""
        config = self.write("exp.yaml", experiment)
        site = self.write("site.yaml", "policy: {" + policy + "}\n")
        server, port, directory = self.server(config, run)
        strict = self.client("5", port, "--site", site)
        others = self.client("0-4", port)
        self.finish(server)
        self.finish(others)
        _, err = strict.communicate(timeout=60)
        return strict.returncode, err, directory

    def test_what_a_plan_may_not_hold(self):
        for run, policy, word in (("methods", "methods: [fedprox]", "policy.methods: fedavg is not allowed here"),
                                  ("noise", "min_noise: 0.5", "policy.min_noise"),
                                  ("epsilon", "max_epsilon: 8", "policy.max_epsilon"),
                                  ("masked", "secure_aggregation: required", "policy.secure_aggregation: required"),
                                  ("cohort", "min_cohort: 2", "policy.min_cohort: 2, and the plan sums 1")):
            with self.subTest(policy):
                status, err, directory = self.one_with(policy, run)
                self.assertEqual(status, 3)
                self.assertIn(word, err)
                self.assertIn(word, about(directory, "refuse", 5)[0]["reason"])
                self.assertEqual(rounds(directory)[-1]["replied"], 5)

    def test_what_a_masked_plan_may_hold(self):
        masked = FIVE + "privacy: {secure_aggregation: {kind: secagg, clip: 2, levels: 65535, examples_max: 1}}\n"
        for run, least, status in (("enough", 5, 0), ("few", 6, 3)):
            with self.subTest(run):
                code, err, directory = self.one_with(f"secure_aggregation: required, min_cohort: {least}", run, masked)
                self.assertEqual(code, status, err)
                self.assertEqual(rounds(directory)[-1]["replied"], 5 if status else 6)
                if status:
                    self.assertIn("policy.min_cohort: 6, and the plan sums 5", err)

    def test_bytes_of_a_round(self):
        status, err, directory = self.one_with("max_bytes_per_round: 4000")  # a model of 3 kB each way
        self.assertEqual(status, 3)
        self.assertIn("max_bytes_per_round 4000", err)
        self.assertIn("policy: no more bytes", about(directory, "leave", 5)[0]["reason"])
        line = rounds(directory)[1]
        self.assertEqual((line["replied"], line["lost"]), (5, 1))
        self.assertLess(line["train_ms"], 4000, "nobody waits for a client that has left")

    def test_bytes_in_all(self):
        status, err, directory = self.one_with("max_bytes: 20000")
        self.assertEqual(status, 3)
        self.assertIn("max_bytes 20000", err)
        self.assertEqual([line["replied"] for line in rounds(directory)[1:3]], [6, 6])
        self.assertEqual(rounds(directory)[-1]["replied"], 5)

    def test_bytes_in_all_are_remembered(self):
        config = self.write("exp.yaml", FIVE)
        site = self.write("site.yaml", "policy: {max_bytes: 60000}\n")  # a run of five rounds takes 37 kB
        for run, status, replied in (("first", 0, 6), ("second", 3, 5)):
            server, port, directory = self.server(config, run)
            strict = self.client("5", port, "--site", site, "--state-dir", self.folder / "state")
            others = self.client("0-4", port)
            self.finish(server)
            self.finish(others)
            _, err = strict.communicate(timeout=60)
            self.assertEqual(strict.returncode, status, err)
            self.assertEqual(rounds(directory)[-1]["replied"], replied)

    def test_a_policy_that_is_met_changes_nothing(self):
        status, _, directory = self.one_with("methods: [fedavg, fedprox], max_bytes_per_round: 1000000, plaintext: true")
        self.assertEqual(status, 0)
        self.assertEqual([line["replied"] for line in rounds(directory)[1:]], [6] * 5)

    def test_no_plaintext(self):
        site = self.write("site.yaml", "policy: {plaintext: false}\n")
        status, _, err = self.run_fedctl("client", "--id", "1", "--site", site)
        self.assertEqual(status, 3)
        self.assertIn("policy.plaintext", err)


class Bounds(Case):
    def test_updates_that_are_too_long_are_rejected(self):
        config = self.write("exp.yaml", FIVE.replace("quorum: 0.8", "quorum: 0.1"))
        server, port, directory = self.server(config, "run", "--set", "server.max_update_norm=0.001")
        client = self.client("0-5", port)
        _, err = self.finish(server, 4)
        self.finish(client, 4)
        self.assertIn("quorum not reached", err)
        self.assertIn("server.max_update_norm is 0.001", about(directory, "reject", 0)[0]["reason"])
        self.assertEqual(len(events(directory, "reject")), 6)

    def test_more_examples_than_allowed(self):
        config = self.write("exp.yaml", GLYPHS.replace("quorum: 1.0", "quorum: 0.1"))
        server, port, directory = self.server(config, "run", "--set", "server.max_examples=3")
        client = self.client("0-7", port)
        self.finish(server, 4)
        self.finish(client, 4)
        self.assertIn("at most 3 (server.max_examples)", about(directory, "reject", 0)[0]["reason"])


if __name__ == "__main__":
    unittest.main()
