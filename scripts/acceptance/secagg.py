#!/usr/bin/env python3
"""Secure aggregation against the number of clients: payload up and down of a client, and seconds a round, of 10,000 values, without drop-outs.

  scripts/acceptance/secagg.py [CLIENTS ...]       default: 16 32 64 128 256 512
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
name: secagg
rounds: 3
model: {{kind: quadratic}}
adapter: {{kind: full}}
data: {{kind: quadratic_targets, rows: 100, cols: 100, clients: {n}, partition: {{kind: by_field}}, holdout: 0}}
clients: {{count: {n}, quorum: 0.5}}
train: {{steps: 1, batch_size: 1, optimizer: {{kind: sgd, lr: 0.05, momentum: 0}}}}
privacy: {{secure_aggregation: {{kind: {kind}, levels: 65535, examples_max: 1}}}}
"""


def measure(n, kind):
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "exp.yaml"
        config.write_text(CONFIG.format(n=n, kind=kind))
        run = pathlib.Path(folder) / "run"
        subprocess.run([ROOT / "build/release/bin/fedctl", "simulate", "--config", config, "--run-dir", run, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        line = [json.loads(text) for text in (run / "journal.jsonl").read_text().splitlines() if '"event":"round"' in text][-1]
        return line["bytes"]["up"]["payload"] / n, line["bytes"]["down"]["payload"] / n, line["round_ms"] / 1e3


def main():
    print("| clients | float32 up, down | secagg up, down | s | secagg_plus up, down | s |")
    print("|---|---|---|---|---|---|")
    for n in [int(text) for text in sys.argv[1:]] or [16, 32, 64, 128, 256, 512]:
        cells = [f"{up:,.0f}, {down:,.0f}" + ("" if kind == "none" else f" | {seconds:.2f}")
                 for kind in ("none", "secagg", "secagg_plus") for up, down, seconds in [measure(n, kind)]]
        print(f"| {n} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
