"""Runs that end before they would exceed their budget."""
import unittest

from fedctl import TOY, Case, digests, journal, rounds

MORE = 100  # the plan that clients are sent is longer with a budget in it


class Budget(Case):
    def ended(self, directory, status, out_err, code, *texts):
        self.assertEqual(status, code, out_err)
        end = journal(directory)[-1]
        self.assertEqual((end["event"], end["status"]), ("end", "budget"))
        for text in texts:
            self.assertIn(text, end["reason"])
            self.assertIn(text, out_err)

    def spent(self, line):
        return line["bytes_up_total"] + line["bytes_down_total"]

    def simulate(self, name, *more):
        directory = self.folder / name
        status, _, err = self.run_fedctl("simulate", "--config", self.config, "--threads", "1", "--run-dir", directory, *more)
        return directory, status, err

    def setUp(self):
        super().setUp()
        self.config = self.write("exp.yaml", TOY)
        self.whole, status, err = self.simulate("whole")
        self.assertEqual(status, 0, err)
        self.lines = rounds(self.whole)

    def test_bytes_of_all_and_of_one(self):
        limit = self.spent(self.lines[3]) + MORE
        directory, status, err = self.simulate("total", "--set", f"budget.total_bytes={limit}")
        self.ended(directory, status, err, 0, f"budget.total_bytes is {limit}", f"{self.spent(rounds(directory)[-1])} are spent")
        self.assertEqual(digests(directory), digests(self.whole)[:4])
        # With more of it the run goes on where it was.
        directory, status, err = self.simulate("total", "--resume", "--set", f"budget.total_bytes={10 * limit}")
        self.assertEqual(status, 0, err)
        self.assertEqual(digests(directory), digests(self.whole))
        limit //= 6
        directory, status, err = self.simulate("one", "--set", f"budget.per_client_bytes={limit}")
        self.ended(directory, status, err, 0, f"budget.per_client_bytes is {limit}")
        self.assertEqual(len(rounds(directory)), 4)

    def test_a_budget_spread_over_the_rounds(self):
        spread = ("--set", "budget.spread=true", "--set", "codec.up=auto", "--set", "rounds=12", "--set", "data.rows=240", "--set", "data.cols=320")
        both = ("--set", "codec.down=auto")
        for name, total, more in (("both", 2_000_000, both), ("up", 24_000_000, ()), ("few", 300_000, both)):
            directory, status, err = self.simulate(name, *spread, *more, "--set", f"budget.total_bytes={total}")
            self.assertEqual(status, 0, err)
            lines = rounds(directory)
            self.assertEqual(lines[-1]["round"], 12, err)
            self.assertLessEqual(self.spent(lines[-1]), total)
            self.assertGreater(self.spent(lines[-1]), 0.96 * total, name)
        directory, status, err = self.simulate("none", *spread, "--set", "budget.total_bytes=1000", *both)
        self.assertEqual(status, 2, err)
        self.assertIn("budget.total_bytes is 1000: too few for 12 rounds of 6 clients and 76800 parameters", err)
        _, status, err = self.simulate("own", "--set", "budget.spread=true", "--set", "budget.total_bytes=100000")
        self.assertEqual(status, 2, err)
        self.assertIn("budget.spread is true, but neither codec.up nor codec.down is an auto", err)

    def test_what_a_spread_budget_leaves_is_two_percent_whatever_the_size(self):
        both = ("--set", "codec.up=auto", "--set", "codec.down=auto", "--set", "budget.spread=true")
        difference = (*both, "--set", "codec.error_feedback_down=ef21", "--set", "codec.error_feedback=ef14")
        half = ("--set", "codec.up=auto", "--set", "codec.down=float16", "--set", "budget.spread=true")
        some = (*both, "--set", "data.clients=30", "--set", "clients.count=30")  # six of them a round
        two_vectors = (*both, "--set", "method={kind: scafcom}")
        for name, rows, cols, total, more in (
            ("small", 16, 16, 50_000, both), ("small at few bits", 60, 62, 80_000, both), ("middle", 60, 62, 400_000, both),
            ("large", 250, 256, 3_000_000, both), ("differences", 60, 62, 200_000, difference), ("one way", 60, 62, 1_000_000, half),
            ("many", 60, 62, 300_000, some), ("two vectors", 60, 62, 400_000, two_vectors),
        ):
            with self.subTest(name):
                directory, status, err = self.simulate(name, *more, "--set", "rounds=20", "--set", "clients.per_round=6", "--set", f"data.rows={rows}",
                                                       "--set", f"data.cols={cols}", "--set", f"budget.total_bytes={total}")
                self.assertEqual(status, 0, err)
                lines = rounds(directory)
                self.assertEqual(lines[-1]["round"], 20, err)
                self.assertLessEqual(self.spent(lines[-1]), total)
                self.assertGreater(self.spent(lines[-1]), 0.965 * total)

    def test_a_resumed_run_remembers_what_it_has_spent(self):
        limit = self.spent(self.lines[4]) + MORE
        directory, status, err = self.simulate("part", "--set", "rounds=5", "--set", f"budget.total_bytes={self.spent(self.lines[2]) + MORE}")
        self.assertEqual(len(rounds(directory)), 3, err)
        directory, status, err = self.simulate("part", "--resume", "--set", f"budget.total_bytes={limit}")
        self.ended(directory, status, err, 0, f"{self.spent(rounds(directory)[-1])} are spent")
        self.assertEqual(len(rounds(directory)), 5)

    def test_clients_over_tcp_are_told(self):
        config = self.write("tcp.yaml", TOY + f"budget: {{total_bytes: {self.spent(self.lines[2]) + 6000}}}\n")
        server, port, directory = self.server(config)
        client = self.client("0-5", port)
        _, err = self.finish(server)
        self.finish(client)
        self.ended(directory, 0, err, 0, "budget.total_bytes")
        self.assertLess(self.spent(rounds(directory)[-1]), self.spent(self.lines[2]) + 6000)

    def test_time(self):
        slow = ("--set", "train.steps=100000", "--set", "rounds=1000", "--set", "budget.wall_s=1")
        directory, status, err = self.simulate("slow", *slow)
        self.ended(directory, status, err, 4, "budget.wall_s is 1")
        self.assertLess(len(rounds(directory)), 100)


if __name__ == "__main__":
    unittest.main()
