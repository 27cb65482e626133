"""`fedctl sweep`: one table from a grid of runs, whatever was killed, failed or changed on the way."""
import csv
import os
import re
import signal
import subprocess
import unittest

from fedctl import FEDCTL, ROOT, TOY, Case, rounds, wait_until

GRID = """
name: toy-grid
experiment: toy.yaml
metric: loss
grid: {train.optimizer.lr: [0.05, 0.02], train.steps: [2, 5]}
seeds: [1, 2, 3]
executor: {kind: local, jobs: 2}
"""
# Seeds draw the cohorts.
TOY = TOY.replace("count: 6,", "count: 6, per_round: 3,")
# A run of some tenths of a second, so that there is a middle to be killed in.
SLOW = TOY.replace("rounds: 5", "rounds: 12").replace("steps: 5", "steps: 3000")
SLOW_GRID = GRID.replace("train.steps: [2, 5]", "train.steps: [3000, 3001]").replace("seeds: [1, 2, 3]", "seeds: [1, 2]")


def table(folder, name="table.csv"):
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


class Sweep(Case):
    def sweep(self, folder, *more, status=0, file="sweep.yaml"):
        got, out, err = self.run_fedctl("sweep", self.folder / file, "--run-dir", folder, *more)
        self.assertEqual(got, status, err)
        return out, err

    def setUp(self):
        super().setUp()
        self.write("toy.yaml", TOY)
        self.write("sweep.yaml", GRID)

    def test_table_is_what_the_journals_say(self):
        folder = self.folder / "out"
        out, _ = self.sweep(folder, "--format", "text")
        self.assertIn("±", out)
        rows = table(folder)
        self.assertEqual([(r["train.optimizer.lr"], r["train.steps"]) for r in rows],
                         [("0.05", "2"), ("0.05", "5"), ("0.02", "2"), ("0.02", "5")])
        runs = table(folder, "runs.csv")
        self.assertEqual(len(runs), 12)
        values = {}
        for run in runs:
            last = rounds(folder / run["directory"])[-1]
            self.assertEqual(float(run["loss"]), last["loss"])
            values.setdefault(int(run["cell"]), []).append((last["loss"], last["bytes_up_total"], last["bytes_down_total"]))
        t = 4.302652729749464  # of two degrees of freedom
        first = [loss for loss, _, _ in values[0]]
        for number, row in enumerate(rows):
            losses = [loss for loss, _, _ in values[number]]
            mean, half = interval(losses, t)
            self.assertAlmostEqual(float(row["loss_mean"]), mean, delta=1e-12 * abs(mean))
            self.assertAlmostEqual(float(row["loss_half_width_95"]), half, delta=1e-9 * half)
            self.assertEqual(float(row["bytes_up_mean"]), sum(up for _, up, _ in values[number]) / 3)
            if number > 0:
                mean, half = interval([a - b for a, b in zip(losses, first)], t)
                self.assertAlmostEqual(float(row["difference_mean"]), mean, delta=1e-9 * abs(mean))
                self.assertAlmostEqual(float(row["difference_half_width_95"]), half, delta=1e-9 * half)
        self.assertEqual((folder / "plot.svg").read_text().count("<circle"), 8)
        self.assertEqual((folder / "table.md").read_text().count("\n| "), 5 - 1)

    def test_killed_in_the_middle(self):
        self.write("toy.yaml", SLOW)
        self.write("sweep.yaml", SLOW_GRID)
        whole, broken = self.folder / "whole", self.folder / "broken"
        self.sweep(whole)
        process = self.start("sweep", self.folder / "sweep.yaml", "--run-dir", broken)
        wait_until(lambda: len(list(broken.glob("*/*/checkpoint/round-00000003"))) > 0, "a run in its middle")
        process.kill()
        process.wait()
        self.assertLess(len(list(broken.glob("*/*/sweep.status"))), 8)
        _, err = self.sweep(broken)
        self.assertIn("8 of 8 runs are done", err)
        for name in ("table.csv", "runs.csv", "plot.svg"):
            self.assertEqual((broken / name).read_bytes(), (whole / name).read_bytes(), name)
        events = [line for path in broken.glob("*/*/journal.jsonl") for line in path.read_text().splitlines() if '"resume"' in line]
        self.assertGreater(len(events), 0)

    def test_interrupt_is_passed_on(self):
        self.write("toy.yaml", SLOW)
        self.write("sweep.yaml", SLOW_GRID)
        folder = self.folder / "out"
        process = self.start("sweep", self.folder / "sweep.yaml", "--run-dir", folder)
        wait_until(lambda: len(list(folder.glob("*/*/checkpoint/round-00000002"))) > 0, "a run in its middle")
        process.send_signal(signal.SIGINT)
        _, err = self.finish(process, status=130)
        self.assertIn("the same command goes on", err)
        ends = [path.read_text().splitlines()[-1] for path in folder.glob("*/*/journal.jsonl")]
        self.assertTrue(any('"interrupted"' in line for line in ends), ends)
        self.sweep(folder)

    def test_failing_cell_is_a_row(self):
        self.write("sweep.yaml", GRID.replace("[0.05, 0.02]", "[0.05, 1.0e+30]"))
        folder = self.folder / "out"
        out, err = self.sweep(folder, "--format", "text", status=1)
        rows = table(folder)
        failed = [r for r in rows if r["row"] == "failed"]
        self.assertEqual(len(failed), 6, err)
        self.assertTrue(all(r["train.optimizer.lr"] == "1.0e+30" and r["status"] != "0" for r in failed))
        self.assertTrue(all(r["message"].startswith("fedctl: error: ") for r in failed), failed)
        self.assertEqual([r["done"] for r in rows if r["row"] == "cell"], ["3", "3", "0", "0"])
        self.assertIn("failed: train.optimizer.lr=1.0e+30 train.steps=2 seed 1: exit status", out)

    def test_finished_runs_are_kept(self):
        folder = self.folder / "out"
        self.sweep(folder)
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/journal.jsonl")}
        text = (folder / "table.csv").read_bytes()
        self.sweep(folder)
        self.assertEqual({path: path.stat().st_mtime_ns for path in folder.glob("*/*/journal.jsonl")}, before)
        self.assertEqual((folder / "table.csv").read_bytes(), text)
        # Another cell and another seed: what is there still counts; a cell that is gone is named.
        self.write("sweep.yaml", GRID.replace("[0.05, 0.02]", "[0.05, 0.01]").replace("[1, 2, 3]", "[1, 2, 3, 4]"))
        _, err = self.sweep(folder)
        self.assertIn("6 of 16 runs are done already", err)
        self.assertIn("6 runs here are not of this sweep, and stay as they are: ", err)
        self.assertTrue(all(path.stat().st_mtime_ns == time for path, time in before.items()))

    def test_faults_before_the_first_run(self):
        self.write("sweep.yaml", GRID.replace("train.steps: [2, 5]", "train.stepz: [2, 5]"))
        folder = self.folder / "out"
        _, err = self.sweep(folder, status=2)
        self.assertRegex(err, r"sweep\.yaml:5:42: cell .*: unknown key train\.stepz")
        self.assertIn("did you mean steps?", err)
        self.assertFalse(folder.exists())
        self.write("sweep.yaml", GRID.replace("metric", "metrik"))
        _, err = self.sweep(folder, status=2)
        self.assertRegex(err, r"sweep\.yaml:4:1: unknown key metrik")

    def test_dry_run_prints_commands_that_do_it(self):
        folder = self.folder / "out"
        out, _ = self.sweep(folder, "--dry-run")
        commands = out.splitlines()
        self.assertEqual(len(commands), 12)
        self.assertFalse(folder.exists())
        for command in commands:
            subprocess.run(command, shell=True, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        by_hand = self.folder / "by-hand"
        os.rename(folder, by_hand)
        self.sweep(by_hand, "--table")
        self.sweep(folder)
        self.assertEqual((by_hand / "table.csv").read_bytes(), (folder / "table.csv").read_bytes())

    def test_one_run_by_number(self):
        folder = self.folder / "out"
        for number in range(12):
            self.sweep(folder, "--cell", str(number))
        self.assertFalse((folder / "table.csv").exists())
        _, err = self.sweep(folder)
        self.assertIn("12 of 12 runs are done", err)
        self.sweep(folder, "--cell", "12", status=2)
        _, err = self.sweep(folder, "--cell", "0", "--digest", "0123456789abcdef", status=2)
        self.assertIn("the sweep has changed", err)

    def test_shell_sweep_has_the_same_numbers(self):
        folder = self.folder / "out"
        self.sweep(folder)
        shell = subprocess.run([ROOT / "scripts/sweep.sh", "-m", "loss", "-s", "1 2 3", "-o", self.folder / "shell", self.folder / "toy.yaml",
                                "train.optimizer.lr=0.05 0.02", "train.steps=2 5"],
                               capture_output=True, text=True, env={**os.environ, "FEDCTL": FEDCTL}, cwd=ROOT, check=True)
        lines = [line for line in shell.stdout.splitlines() if line.startswith("train.")]
        self.assertEqual(len(lines), 4, shell.stdout)
        for line, row in zip(lines, table(folder)):
            self.assertAlmostEqual(float(re.search(r" loss=(\S+)", line).group(1)), float(row["loss_mean"]), delta=1e-5 * float(row["loss_mean"]))
            self.assertIn(f" up={int(float(row['bytes_up_mean']))} ", line)


def interval(values, t):
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, t * (variance / len(values)) ** 0.5


if __name__ == "__main__":
    unittest.main()
