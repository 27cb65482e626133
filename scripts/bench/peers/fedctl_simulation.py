"""fedctl's simulation: all clients in one process, the same frames as over TCP.

    fedctl_simulation.py exchange|linear|mlp|lora --clients N --cohort K --rounds R [--threads T] [--codec]
    fedctl_simulation.py linear|mlp|lora|lora-16x32 --bare

--bare: one client that takes as many steps as --cohort clients would: the engine's own loop, hardly any federation."""
import argparse
import os
import pathlib
import subprocess
import tempfile
import time

import fedctl_work as work
import measure

# kind: inputs, hidden width, classes, samples a client, steps a client and round
SHAPES = {"linear": (64, 0, 10, 10, 1), "mlp": (784, 128, 10, 50, 5)}
CODEC = "codec: {up: [{kind: quantize, bits: 8}], down: [{kind: float16}]}"

parser = argparse.ArgumentParser()
parser.add_argument("kind", choices=["exchange", "lora", "lora-16x32", *SHAPES])
parser.add_argument("--fedctl", default=str(measure.ROOT / "build/release/bin/fedctl"))
parser.add_argument("--data", default=str(measure.ROOT.parent / "shared/data"))
parser.add_argument("--clients", type=int, default=1)
parser.add_argument("--cohort", type=int, default=100)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=5, help="of a client and round with lora")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--codec", action="store_true")
parser.add_argument("--dtype", default="float32", help="of lora's frozen matrices")
parser.add_argument("--bare", action="store_true")
options = parser.parse_args()
if options.bare:
    options.clients = 1


def settings(folder):
    """(model lines, train, samples of a client in a round)"""
    if options.kind == "exchange":
        return *work.exchange(options.fedctl, folder, options.clients, 1024), 1
    if options.kind in SHAPES:
        inputs, hidden, classes, samples, steps = SHAPES[options.kind]
        rows = samples * min(options.cohort, 64) if options.bare else samples
        model = work.classifier(folder, options.clients, rows, inputs, classes, hidden)
        optimizer, batch = "{kind: sgd, lr: 0.1, momentum: 0}", 10
    else:
        path, steps, batch = f"{options.data}/banking77/train.csv", options.steps, 16
        if options.kind == "lora-16x32":
            path = f"{folder}/texts.csv"
            work.write_full_texts(options.data, path, 1000)
        model = work.lora(options.data, path, options.dtype)
        samples, optimizer = steps * batch, "{kind: adamw, lr: 0.001}"
    total = steps * options.cohort if options.bare else steps
    return model, f"{{steps: {total}, batch_size: {batch}, optimizer: {optimizer}}}", samples


def main(folder):
    model, train, samples = settings(folder)
    config = work.experiment(folder, clients=options.clients, per_round=min(options.cohort, options.clients),
                             rounds=options.rounds, model=model, train=train, server=CODEC if options.codec else "")
    run = pathlib.Path(folder, "run")
    pin = {1: measure.SERVER_CORE}.get(options.threads)
    with open(f"{folder}/log", "w") as log:
        process = measure.start([options.fedctl, "simulate", "--config", config, "--run-dir", run, "--threads", options.threads,
                                 "--quiet", "--format", "json"], pin, log)
        peak, marks = 0.0, []  # marks: rounds done and the CPU seconds until then, taken as soon as a round ends
        while process.poll() is None:
            peak = max(peak, measure.peak_mib(process.pid))
            done = len(work.journal_rounds(run))
            if done and (not marks or done > marks[-1][0]):
                marks.append((done, measure.cpu_s(process.pid)))
            time.sleep(0.005)
    rounds = work.journal_rounds(run)
    if process.returncode != 0:
        raise SystemExit("fedctl simulate: " + pathlib.Path(folder, "log").read_text().strip()[-500:])
    later = rounds[1:]
    round_s = sum(line["round_ms"] - line["evaluate_ms"] for line in later) / len(later) / 1e3
    version = subprocess.run([options.fedctl, "--version"], capture_output=True, text=True).stdout.split()[-1]
    name = "fedctl" + (" bare loop" if options.bare else "") + (" bfloat16" if options.dtype == "bfloat16" else "") \
        + (", codecs" if options.codec else "")
    cpu_s = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]) if len(marks) > 1 else float("nan")
    one = options.cohort * (samples if options.bare and options.kind.startswith("lora") else 1)
    sizes = {} if options.bare else {way: later[-1][way] / options.cohort for way in ("bytes_up", "bytes_down")}
    measure.report(
        peer=name, version=version, work=options.kind, clients=options.clients, cohort=options.cohort, rounds=len(rounds),
        cores=options.threads, seconds_a_round=round_s, updates_a_second=options.cohort / round_s,
        samples_a_second=options.cohort * samples / round_s, rss_mib=peak, cpu_ms=1e3 * cpu_s / one,
        **sizes)


os.environ.setdefault("OMP_NUM_THREADS", "1")
with tempfile.TemporaryDirectory() as folder:
    main(folder)
