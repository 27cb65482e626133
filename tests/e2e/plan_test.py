"""What `fedctl plan` predicts is what a run then does."""
import json
import signal
import subprocess
import unittest
import xml.etree.ElementTree
import zipfile

from fedctl import DATA, FEDCTL, GLYPHS, TOY, Case, rounds, wait_until

# Spoken digits as recordings, a speaker a client.
SPOKEN = """
name: spoken
model: {kind: mlp, hidden: 4}
adapter: {kind: full}
data: {kind: wav, path: PATH, pattern: "{label}_{client}_{take}", test_below: 5, partition: {kind: by_field}, holdout: 0}
clients: {count: 6}
"""


class Plan(Case):
    def planned(self, config, *more):
        status, out, err = self.run_fedctl("plan", "--config", config, "--format", "json", "--threads", "1", *more)
        self.assertEqual(status, 0, err)
        return json.loads(out)

    def ran(self, config, name, *more):
        directory = self.folder / name
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory, *more)
        self.assertEqual(status, 0, err)
        return rounds(directory)

    def compare(self, text, delta, *more):
        """Every part of every round within `delta` (a share) of the forecast."""
        config = self.write("exp.yaml", text)
        plan = self.planned(config, *more)
        lines = self.ran(config, "run", *more)[1:]
        self.assertEqual(len(lines), plan["rounds"])
        for way in ("up", "down"):
            predicted = plan["bytes"][way]
            self.assertGreater(predicted["payload"], 0)
            self.assertEqual(predicted["payload"] + predicted["framing"], predicted["sum"])
            for line in lines:
                seen = line["bytes"][way]["payload"] + line["bytes"][way]["framing"]
                self.assertAlmostEqual(seen, predicted["round"], delta=delta * seen)
                self.assertEqual(line["bytes"][way]["framing"], predicted["framing"] * plan["cohort"])
            total = sum(line[f"bytes_{way}"] for line in lines)
            self.assertAlmostEqual(total, predicted["total"], delta=delta * total)
        self.assertEqual(lines[0]["examples"], plan["examples"]["train"])
        return plan

    def test_toy_bytes_are_exact(self):
        plan = self.compare(TOY, 0)
        self.assertEqual(plan["parameters"], {"trainable": 24 * 32, "base": 0})
        self.assertEqual(plan["bytes"]["up"]["payload"], 4 * 24 * 32)
        self.assertEqual(plan["examples"]["max"], 1)
        self.assertEqual(plan["epsilon"], "none")

    def test_fixed_size_codecs_are_exact(self):
        plan = self.compare(GLYPHS, 0, "--set", "codec.up=[{kind: quantize, bits: 4}]")
        self.assertEqual(plan["classes"], ["glyph a", "glyph b", "glyph c", "glyph d", "glyph e"])
        self.assertEqual([sum(row) for row in plan["labels"]], [22] * 8)  # 24, less a tenth
        self.assertGreater(plan["memory"]["resident"], 10_000_000)
        self.assertGreater(plan["time"]["step_ms"], 0)
        self.assertEqual(plan["time"]["steps"], 3)

    def test_positions_vary_with_the_values(self):
        # topk codes the gaps between kept positions, whose bits depend on where they are.
        self.compare(GLYPHS, 0.02)

    def test_a_smaller_cohort_costs_less(self):
        config = self.write("exp.yaml", TOY)
        all_of_them = self.planned(config)
        some = self.planned(config, "--set", "clients.per_round=2")
        self.assertEqual(some["cohort"], 2)
        for way in ("up", "down"):
            self.assertEqual(some["bytes"][way]["round"] * 3, all_of_them["bytes"][way]["round"])

    def test_link_and_time(self):
        config = self.write("exp.yaml", TOY)
        plan = self.planned(config, "--up-mbit", "0.1", "--down-mbit", "0", "--latency-ms", "250")
        expected = 2 * 0.25 + plan["bytes"]["up"]["sum"] * 8 / 1e5
        self.assertAlmostEqual(plan["time"]["transfer_s"], expected, delta=1e-9)
        self.assertAlmostEqual(plan["time"]["total_s"],
                               5 * (expected + plan["time"]["train_s"]), delta=1e-9)

    def test_a_server_is_tried_by_real_processes(self):
        self.write("exp.yaml", TOY)
        status, out, err = self.run_fedctl("plan", "--config", "exp.yaml", "--format", "json", "--threads", "1", "--hosts", "2", cwd=self.folder)
        self.assertEqual((status, err), (0, ""))
        plan, server = json.loads(out), json.loads(out)["server"]
        self.assertEqual((server["hosts"], server["tried"], server["evaluations"]), (2, plan["rounds"], 6))
        for part in ("start_s", "round_s", "evaluate_s", "end_s"):
            self.assertGreater(server[part], 0, part)
        self.assertAlmostEqual(server["total_s"], server["start_s"] + server["tried_s"] + 6 * server["evaluate_s"] + server["end_s"])
        self.assertAlmostEqual(server["peak_memory"], plan["memory"]["server_estimate"], delta=0.3 * server["peak_memory"])
        self.assertFalse((self.folder / "runs").exists())
        self.assertIn("--hosts is 7", self.run_fedctl("plan", "--config", "exp.yaml", "--hosts", "7", cwd=self.folder)[2])

    def test_a_trial_that_fails_says_why(self):
        many = TOY.replace("clients: 6", "clients: 200").replace("count: 6", "count: 200")
        self.write("exp.yaml", many)
        command = [FEDCTL, "plan", "--config", "exp.yaml", "--hosts", "1", "--threads", "1"]
        found = subprocess.run(["bash", "-c", 'ulimit -n 64; exec "$@"', "bash", *command], cwd=self.folder, capture_output=True, text=True, timeout=120)
        self.assertEqual((found.returncode, found.stdout), (2, ""))
        self.assertIn("the trial of a server failed: ", found.stderr)
        self.assertIn("clients.per_round", found.stderr)
        self.assertFalse((self.folder / "runs").exists())

    def test_a_trial_ends_at_a_signal_and_leaves_nothing(self):
        self.write("exp.yaml", TOY)
        process = self.start("plan", "--config", "exp.yaml", "--hosts", "1", "--threads", "1", "--set", "rounds=1000000", cwd=self.folder)
        wait_until(lambda: list(self.folder.glob("runs/*/run/journal.jsonl")), "the trial's server")
        process.send_signal(signal.SIGINT)
        self.finish(process, 130)
        self.assertFalse((self.folder / "runs").exists())

    def test_the_written_deal_is_the_same_deal(self):
        text = TOY.replace("clients: 6, partition: {kind: by_field}, holdout: 0}",
                           "clients: 60, partition: {kind: quantity_skew}, holdout: 0.2}")
        config = self.write("exp.yaml", text)
        before = self.ran(config, "skewed", "--set", "rounds=2")
        for name in ("deal.txt", "deal.json"):
            with self.subTest(name):
                deal = self.folder / name
                self.planned(config, "--write-partition", deal)
                again = self.ran(config, name + "-run", "--set", "rounds=2",
                                 "--set", f"data.partition={{kind: file, path: {deal}}}")
                self.assertEqual([line["digest"] for line in again], [line["digest"] for line in before])

    def test_table_and_drawing(self):
        config = self.write("exp.yaml", GLYPHS)
        drawing = self.folder / "labels.svg"
        status, out, err = self.run_fedctl("plan", "--config", config, "--format", "text", "--threads", "1",
                                           "--svg", drawing)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"bytes up +\d+ a client and round")
        self.assertRegex(out, r"(?m)^epsilon +none$")
        rows = [line.split() for line in out[out.index("client  examples"):].splitlines()[1:]]
        self.assertEqual(len(rows), 8)
        for client, row in enumerate(rows):
            self.assertEqual(int(row[0]), client)
            self.assertEqual(sum(map(int, row[2:])), int(row[1]))
        root = xml.etree.ElementTree.parse(drawing).getroot()
        space = "{http://www.w3.org/2000/svg}"
        bars = sum(int(count) > 0 for row in rows for count in row[2:])
        self.assertEqual(len(root.findall(space + "rect")), bars + 5)  # and the legend

    def test_what_cannot_be_done_is_said(self):
        config = self.write("exp.yaml", TOY)
        for more, status, words in [(("--up-mbit", "-1"), 2, "--up-mbit"),
                                    (("--svg", "/nowhere/at/all.svg"), 5, "/nowhere/at/all.svg"),
                                    (("--threads", "100000"), 2, "--threads"),
                                    (("--set", "clients.count=7"), 2, "6 owners")]:
            with self.subTest(more):
                code, out, err = self.run_fedctl("plan", "--config", config, *more)
                self.assertEqual((code, out), (status, ""))
                self.assertIn(words, err)

    @unittest.skipUnless((DATA / "fsdd" / "recordings.zip").exists(), "no shared data")
    def test_three_thousand_recordings(self):
        with zipfile.ZipFile(DATA / "fsdd" / "recordings.zip") as archive:
            archive.extractall(self.folder)
        plan = self.planned(self.write("exp.yaml", SPOKEN.replace("PATH", str(self.folder / "recordings"))))
        self.assertEqual(plan["classes"], [str(digit) for digit in range(10)])
        self.assertEqual(plan["labels"], [[45] * 10] * 6)  # 50 takes, less 5 for testing
        self.assertEqual(plan["examples"]["test"], 300)


if __name__ == "__main__":
    unittest.main()
