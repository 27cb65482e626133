"""Runs that end before they would exceed their budget."""
import unittest

from fedctl import TOY, Case, digests, journal, rounds


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
        limit = self.spent(self.lines[3]) + 100
        directory, status, err = self.simulate("total", "--set", f"budget.total_bytes={limit}")
        self.ended(directory, status, err, 0, f"budget.total_bytes is {limit}", f"{self.spent(self.lines[3])} are spent")
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
            self.assertGreater(self.spent(lines[-1]), 0.9 * total - 6 * 6000 - 12 * 6 * 2 * 120, name)
        directory, status, err = self.simulate("none", *spread, "--set", "budget.total_bytes=1000", *both)
        self.assertEqual(status, 2, err)
        self.assertIn("budget.total_bytes is 1000: too few for 12 rounds of 6 clients and 76800 parameters", err)
        _, status, err = self.simulate("own", "--set", "budget.spread=true", "--set", "budget.total_bytes=100000")
        self.assertEqual(status, 2, err)
        self.assertIn("budget.spread is true, but neither codec.up nor codec.down is an auto", err)

    def test_a_resumed_run_remembers_what_it_has_spent(self):
        limit = self.spent(self.lines[4]) + 100
        directory, status, err = self.simulate("part", "--set", "rounds=5", "--set", f"budget.total_bytes={self.spent(self.lines[2]) + 10}")
        self.assertEqual(len(rounds(directory)), 3, err)
        directory, status, err = self.simulate("part", "--resume", "--set", f"budget.total_bytes={limit}")
        self.ended(directory, status, err, 0, f"{self.spent(self.lines[4])} are spent")
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
