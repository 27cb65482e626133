"""`fedctl verify`: an untouched run passes, and every edit is found and named."""
import re
import shutil
import unittest

from fedctl import TOY, Case


class Verify(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls("test_an_untouched_run_passes")
        Case.setUp(case)
        cls.addClassCleanup(case.doCleanups)
        cls.original = case.folder / "original"
        status, _, err = case.run_fedctl("simulate", "--config", case.write("exp.yaml", TOY), "--run-dir", cls.original)
        assert status == 0, err

    def setUp(self):
        super().setUp()
        self.run_dir = self.folder / "run"
        shutil.copytree(self.original, self.run_dir)
        self.journal = self.run_dir / "journal.jsonl"
        self.lines = self.journal.read_text().splitlines(keepends=True)

    def found(self, *expected):
        status, out, err = self.run_fedctl("verify", self.run_dir)
        self.assertEqual(status, 6, out + err)
        for text in expected:
            self.assertIn(text, err)

    def rewrite(self, lines):
        self.journal.write_text("".join(lines))

    def test_an_untouched_run_passes(self):
        status, out, err = self.run_fedctl("verify", self.run_dir)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"8 journal lines|\d+ journal lines, rounds 0 to 5, \d+ bytes up, \d+ down, checkpoint of round 4, checkpoint of round 5")

    def test_every_line_that_is_edited(self):
        for at, line in enumerate(self.lines):
            edited = re.sub(r'"t_ms":(\d)', lambda match: f'"t_ms":{(int(match[1]) + 1) % 10 or 1}', line)
            self.assertNotEqual(edited, line)
            self.rewrite(self.lines[:at] + [edited] + self.lines[at + 1:])
            self.found(f"journal.jsonl:{at + 1}: is not the line that was written here")

    def test_lines_removed_moved_and_added(self):
        count = len(self.lines)
        self.rewrite(self.lines[:2] + self.lines[3:])
        self.found("journal.jsonl:3")
        self.rewrite(self.lines[:3] + [self.lines[4], self.lines[3]] + self.lines[5:])
        self.found("journal.jsonl:")
        self.rewrite(self.lines[:-1])
        self.found(f"ends after line {count - 1}, {count} were written")
        self.rewrite(self.lines + [self.lines[-1]] * 2)
        self.found(f"journal.jsonl:{count + 1}")

    def test_sums_that_do_not_add_up(self):
        at = next(i for i, line in enumerate(self.lines) if '"round":3,"event":"round"' in line)
        self.rewrite(self.lines[:at] + [re.sub(r'"bytes_up":(\d+)', r'"bytes_up":1\1', self.lines[at])] + self.lines[at + 1:])
        self.found(f"journal.jsonl:{at + 1}: bytes_up is", "its parts add up to")

    def test_files_that_are_not_as_written(self):
        files = [path for folder in ("checkpoint", "adapter") for path in sorted((self.run_dir / folder).rglob("*"))
                 if path.is_file()]
        self.assertGreaterEqual(len(files), 4)
        for path in files:
            whole = path.read_bytes()
            middle = len(whole) // 2
            flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:]
            for bad in [flipped] if path.name == "B2SUMS" else [flipped, whole[:-1]]:
                path.write_bytes(bad)
                self.found(str(path.parent))
            path.write_bytes(whole)

    def test_a_journal_that_was_edited_is_not_gone_on_with(self):
        self.rewrite(self.lines[:2] + [self.lines[2].replace('"lost":0', '"lost":1')] + self.lines[3:])
        status, _, err = self.run_fedctl("simulate", "--config", self.run_dir / "experiment.yaml", "--run-dir", self.run_dir, "--resume")
        self.assertEqual(status, 6, err)

    def test_no_chain(self):
        (self.run_dir / "journal.chain").unlink()
        self.found("journal.chain: is not there")


if __name__ == "__main__":
    unittest.main()
