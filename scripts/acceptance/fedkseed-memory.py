#!/usr/bin/env python3
"""Peak memory of training all 22.7 M weights of MiniLM in one process, one worker: inference alone (up to the end of round 0), fedkseed, fedavg. Needs ../shared/data.

  scripts/acceptance/fedkseed-memory.py
"""
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
name: memory
rounds: 1
model: {{kind: bert, path: ../shared/data/models/minilm-l6, pooling: mean}}
adapter: {{kind: full}}
data: {{kind: tsv, path: ../shared/data/snips, label: intent, tokenizer: ../shared/data/models/minilm-l6, partition: {{kind: iid}}, holdout: 0}}
clients: {{count: 2, per_round: 1, quorum: 1.0, deadline_s: 3600}}
train: {{steps: 2, batch_size: 16, optimizer: {{kind: sgd, lr: 0.0001, momentum: 0}}}}
evaluate: {{batch_size: 16}}
method: {{kind: {method}}}
"""


def high_water_mb(process):
    try:
        lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max([int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")], default=0)


def peak_mb(method, inference_only=False):
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "exp.yaml"
        config.write_text(CONFIG.format(method=method))
        command = [ROOT / "build/release/bin/fedctl", "simulate", "--config", config, "--run-dir", pathlib.Path(folder) / "run", "--quiet", "--threads", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        process.stdout.readline()  # round 0: the untuned model has been evaluated
        peak = high_water_mb(process)
        if inference_only:
            process.kill()
        while process.poll() is None:
            peak = max(peak, high_water_mb(process))
            time.sleep(0.02)
        return peak


def main():
    if not (ROOT / "../shared/data/models/minilm-l6").exists():
        sys.exit("skipped: ../shared/data is not there")
    inference = peak_mb("fedkseed", inference_only=True)
    print(f"inference {inference:.0f} MB")
    for method in ("fedkseed, candidates: 4", "fedavg"):
        peak = peak_mb(method)
        print(f"{method.split(',')[0]} {peak:.0f} MB, {peak / inference:.2f} times inference", flush=True)


if __name__ == "__main__":
    main()
