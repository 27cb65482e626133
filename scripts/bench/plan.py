#!/usr/bin/env python3
"""What `fedctl plan` says against what a run then takes: seconds and peak memory.

    scripts/bench/plan.py                  # all of CASES
    scripts/bench/plan.py tcp-10000 mlp    # some of them"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import scale

ROOT = pathlib.Path(__file__).resolve().parents[2]


def toy(clients, per_round, values):
    return scale.experiment(scale.options(["--clients", str(clients), "--per-round", str(per_round), "--values", str(values)]))


# Name: experiment, rounds, processes of clients (0: a simulation).
CASES = {
    "tcp-10000": (lambda: toy(10000, 1000, 1024), 100, 3),
    "tcp-1024": (lambda: toy(1024, 0, 1024), 200, 2),
    "tcp-2-of-8-mib": (lambda: toy(2, 0, 2097152), 40, 2),
    "tcp-64-of-8-mib": (lambda: toy(64, 0, 2097152), 12, 2),
    "tcp-mlp": (lambda: (ROOT / "configs/fashion-mnist-mlp.yaml").read_text(), 30, 2),
    "tcp-shakespeare": (lambda: (ROOT / "configs/shakespeare-lora.yaml").read_text(), 12, 2),
    "mlp": (lambda: (ROOT / "configs/fashion-mnist-mlp.yaml").read_text(), 30, 0),
    "shakespeare": (lambda: (ROOT / "configs/shakespeare-lora.yaml").read_text(), 12, 0),
}


def peak_mib(process):
    """Waits for it. The most it has held."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{process.args}: exit status {process.returncode}")
    return usage.ru_maxrss / 1024


def run(fedctl, folder, config, hosts, count):
    """Seconds, and MiB of the server or the simulation."""
    begun = time.time()
    if not hosts:
        peak = peak_mib(subprocess.Popen([fedctl, "simulate", "--config", config, "--run-dir", folder / "run", "--quiet"], stdout=subprocess.DEVNULL))
        return time.time() - begun, peak
    given = scale.options(["--fedctl", fedctl, "--clients", str(count), "--hosts", str(hosts), "--threads", str(os.cpu_count())])
    server, port = scale.start_server(given, config, folder / "run")
    clients = scale.start_clients(given, folder, config, port, "")
    peak = peak_mib(server)
    took = time.time() - begun
    for client in clients:
        client.wait()
    return took, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--fedctl", default=str(ROOT / "build/release/bin/fedctl"))
    given = parser.parse_args()
    os.chdir(ROOT)  # where the paths in configs/ begin
    print("| run | seconds in all | planned | peak memory | planned |\n|---|---:|---:|---:|---:|")
    for name in given.cases or CASES:
        text, rounds, hosts = CASES[name]
        with tempfile.TemporaryDirectory(dir=ROOT / "build", ignore_cleanup_errors=True) as folder:
            folder = pathlib.Path(folder)
            config = folder / "exp.yaml"
            config.write_text(re.sub(r"(?m)^rounds: .*$", f"rounds: {rounds}", text()))
            found = json.loads(subprocess.run([given.fedctl, "plan", "--config", config, "--format", "json", *(["--hosts", str(hosts)] if hosts else [])],
                                              check=True, stdout=subprocess.PIPE).stdout)
            planned = found["server" if hosts else "simulation"]
            took, peak = run(given.fedctl, folder, config, hosts, found["clients"])
        memory = planned["peak_memory"] / 2**20
        print(f"| {name} | {took:.1f} | {planned['total_s']:.1f} ({planned['total_s'] / took - 1:+.0%}) | {peak:.0f} MiB | {memory:.0f} ({memory / peak - 1:+.0%}) |",
              flush=True)


if __name__ == "__main__":
    main()
