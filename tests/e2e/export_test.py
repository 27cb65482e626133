"""fedctl export: what a run leaves, as files for other tools; and, where Python has peft, the same logits there."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import unittest

from fedctl import FEDCTL, GLYPHS, ROOT, TOY, Case, digests, rounds

PYTHON = os.environ.get("FEDCTL_PYTHON", sys.executable)


def header(path):
    bytes = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", bytes[:8])[0]
    return json.loads(bytes[8:8 + size])


def values(path, name):
    """The raw bytes of a tensor."""
    bytes = pathlib.Path(path).read_bytes()
    begin, end = header(path)[name]["data_offsets"]
    start = 8 + struct.unpack("<Q", bytes[:8])[0]
    return bytes[start + begin:start + end]


class Export(Case):
    def trained(self, text=GLYPHS):
        run = self.folder / "run"
        config = self.write("exp.yaml", text)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", run, "--quiet")
        self.assertEqual(status, 0, err)
        return run

    def export(self, run, out, *more, status=0):
        found, text, err = self.run_fedctl("export", run, "--out", self.folder / out, *more)
        self.assertEqual(found, status, err)
        return json.loads(text) if status == 0 else err

    def test_the_adapter_of_every_round_on_disk(self):
        run = self.trained()
        expected = digests(run)
        for choice in ("last", "3", "2"):
            line = self.export(run, choice, "--round", choice)
            self.assertEqual(line["digest"], expected[line["round"]])
        best = self.export(run, "best")
        self.assertEqual(best["round"], max(range(4), key=lambda i: rounds(run)[i]["accuracy"]))
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            self.assertEqual((self.folder / "best" / name).read_bytes(), (run / "adapter/best" / name).read_bytes())
        metadata = header(self.folder / "2/adapter_model.safetensors")["__metadata__"]
        self.assertEqual(metadata["run"], "glyphs")
        self.assertEqual(metadata["round"], "2")
        self.assertEqual(metadata["digest"], expected[2])
        self.assertEqual(len(metadata["base"]), 64)

        err = self.export(run, "gone", "--round", "17", status=2)
        self.assertIn("round 17 is not kept", err)
        self.assertRegex(err, r"rounds on disk: .*3")
        self.assertFalse((self.folder / "gone").exists())

    def test_a_merged_model_is_one_that_runs_start_from(self):
        run = self.trained()
        self.export(run, "merged", "--round", "last", "--as", "merged")
        last = rounds(run)[-1]
        # Whole, with nothing adapted, it scores as the run did.
        text = GLYPHS.replace("{kind: vit, patch: 7, width: 32, depth: 2, heads: 2, mlp: 64}",
                              f"{{kind: vit, path: {self.folder / 'merged'}}}")
        again = self.folder / "again"
        status, _, err = self.run_fedctl("simulate", "--config", self.write("again.yaml", text), "--run-dir", again,
                                         "--quiet", "--set", "rounds=1")
        self.assertEqual(status, 0, err)
        self.assertAlmostEqual(rounds(again)[0]["loss"], last["loss"], places=5)
        self.assertEqual(rounds(again)[0]["accuracy"], last["accuracy"])

        self.export(run, "half", "--round", "last", "--as", "merged", "--dtype", "bfloat16")
        dtypes = {entry["dtype"] for name, entry in header(self.folder / "half/model.safetensors").items()
                  if name != "__metadata__"}
        self.assertEqual(dtypes, {"BF16"})

    def test_reference_logits(self):
        run = self.trained()
        path = self.folder / "logits.safetensors"
        self.export(run, "peft", "--logits", path, "--examples", "3")
        found = header(path)
        self.assertEqual(sorted(name for name in found if name.endswith("logits")), ["0.logits", "1.logits", "2.logits"])
        self.assertEqual(found["0.logits"]["shape"], [1, 5])
        self.assertEqual(found["0.pixels"]["shape"], [1, 1, 28, 28])

    def test_reference_logits_of_all_examples(self):
        run = self.trained(GLYPHS.replace("test_per_class: 10", "test_per_class: 220").replace("rounds: 3", "rounds: 1"))
        path = self.folder / "logits.safetensors"
        self.export(run, "peft", "--logits", path, "--examples", "5000")
        self.assertEqual(sum(name.endswith("logits") for name in header(path)), 5 * 220)

    def test_a_prompt_cannot_be_merged(self):
        run = self.trained(GLYPHS.replace("{kind: lora, rank: 2, alpha: 4, targets: [query, value]}",
                                          "{kind: prompt, tokens: 3}"))
        err = self.export(run, "merged", "--as", "merged", status=2)
        self.assertIn("adapter.kind is prompt", err)
        self.export(run, "peft")

    def test_faults_are_named(self):
        run = self.trained(TOY)
        self.assertIn("no such run directory", self.export(self.folder / "absent", "out", status=2))
        self.assertIn("must be best, last or a number", self.export(run, "out", "--round", "first", status=2))
        self.assertIn("must be peft or merged", self.export(run, "out", "--as", "onnx", status=2))
        self.assertIn("must be float32", self.export(run, "out", "--as", "merged", "--dtype", "int8", status=2))
        self.assertIn("--dtype is for", self.export(run, "out", "--dtype", "float16", status=2))
        status, _, err = self.run_fedctl("export", run)
        self.assertEqual((status, "--out DIR is missing" in err), (2, True))

        # A value that changed on disk is not exported as if it were the run's.
        model = run / "adapter/last/model.safetensors"
        shutil.copytree(run, self.folder / "damaged")
        damaged = self.folder / "damaged/adapter/best/model.safetensors"
        bytes = bytearray(damaged.read_bytes())
        bytes[-2] ^= 1
        damaged.write_bytes(bytes)
        self.assertIn("digest", self.export(self.folder / "damaged", "out", status=5))
        damaged.write_bytes(bytes[:-1])
        self.assertIn(str(damaged), self.export(self.folder / "damaged", "out", status=5))
        for file in (self.folder / "damaged/checkpoint").iterdir():
            file.write_bytes(b"torn")
        shutil.rmtree(self.folder / "damaged/adapter")
        self.assertIn("damaged", self.export(self.folder / "damaged", "out", "--round", "last", status=6))
        self.assertTrue(model.exists())
        (self.folder / "empty").mkdir()
        self.assertIn("no run was here", self.export(self.folder / "empty", "out", status=6))

    def test_python_computes_the_same_logits(self):
        probe = subprocess.run([PYTHON, "-c", "import peft"], capture_output=True)
        if probe.returncode != 0:
            self.skipTest(f"{PYTHON} has no peft; scripts/golden/setup.sh makes an environment, FEDCTL_PYTHON names it")
        check = subprocess.run([PYTHON, "-W", "ignore", ROOT / "scripts/golden/peft_check.py", "--fedctl", FEDCTL],
                               capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)


if __name__ == "__main__":
    unittest.main()
