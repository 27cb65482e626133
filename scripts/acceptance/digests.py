#!/usr/bin/env python3
"""What must not change when code moves: digest and bytes by cause of every round, of every method's file, every codec, every way of
error feedback, every adapter and secure aggregation, simulated, and the methods over TCP too. One line each, sorted.
   scripts/acceptance/digests.py > before.tsv          FEDCTL=path/to/fedctl: another program
   scripts/acceptance/digests.py --against before.tsv  prints the lines that differ; status 1 if there are any
   scripts/acceptance/digests.py --only quadratic      without LibTorch and TCP: the same on every machine (tests/golden/digests.tsv)"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FEDCTL = str(ROOT / os.environ.get("FEDCTL", "build/release/bin/fedctl"))
METHODS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
# What is merged when depends on who is faster; over TCP there is nothing to compare.
WITHOUT_ROUNDS = {"decoupled-diloco", "fedasync", "fedbuff"}

QUADRATICS = """name: digests
seed: 11
rounds: 6
model: {kind: quadratic}
adapter: {kind: full}
data: {kind: quadratic_targets, rows: 48, cols: 40, clients: 6, partition: {kind: by_field}, holdout: 0}
clients: {count: 6, per_round: 4, quorum: 0.5}
train: {steps: 5, batch_size: 1, optimizer: {kind: sgd, lr: 0.05, momentum: 0}}
"""
GLYPHS = """name: digests-glyphs
seed: 5
rounds: 2
model: {kind: vit, patch: 7, width: 32, depth: 2, heads: 2, mlp: 64}
data: {kind: glyphs, classes: 5, hands: 8, per_hand: 24, test_per_class: 10, partition: {kind: by_field}, holdout: 0.1}
clients: {count: 8, per_round: 4, quorum: 1.0}
train: {epochs: 1, batch_size: 8, optimizer: {kind: sgd, lr: 0.05, momentum: 0.9}}
"""
FEEDBACK = "codec: {up: [{kind: topk, ratio: 0.1}, {kind: quantize, bits: 4}], down: [{kind: quantize, bits: 4}], error_feedback: %s, error_feedback_down: %s}\n"
SECURE = "privacy: {secure_aggregation: {kind: secagg, clip: 0.5, levels: 4095, examples_max: 1%s}}\n"


def kinds(what):
    out = subprocess.run([FEDCTL, "list", what, "--format", "json"], check=True, capture_output=True, text=True).stdout
    return [kind["name"] for kind in json.loads(out)[what]]


def experiments(quadratics_alone):
    """(name, text) of everything that is simulated."""
    for path in METHODS:
        text = path.read_text()
        if not quadratics_alone or "{kind: quadratic}" in text:
            yield f"method {path.stem}", text
    for kind in kinds("codecs"):
        # Some need another one in front; some may not shorten what clients start from.
        for ahead in ("", "{kind: quantize, bits: 4}, ", "{kind: topk, ratio: 0.2}, ", "{kind: topk, ratio: 0.2}, {kind: sign}, "):
            chain = f"[{ahead}{{kind: {kind}}}]"
            yield f"codec up {chain}", QUADRATICS + f"codec: {{up: {chain}}}\n"
            yield f"codec down {chain}", QUADRATICS + f"codec: {{down: {chain}, error_feedback_down: ef14}}\n"
    for up in ("none", "ef14", "ef21"):
        for down in ("none", "ef14", "ef21"):
            yield f"feedback {up} {down}", QUADRATICS + FEEDBACK % (up, down)
    for name, more in (("all", ""), ("sparse", ", ratio: 0.25"), ("rotated", ", rotate: true")):
        yield f"secagg {name}", QUADRATICS + SECURE % more
    for kind in ("sgd", "adam", "adagrad", "yogi"):
        yield f"server optimizer {kind}", QUADRATICS + f"method: {{kind: fedavg, server_optimizer: {{kind: {kind}}}}}\n"
    if quadratics_alone:
        return
    for adapter in kinds("adapters"):
        yield f"adapter {adapter}", GLYPHS + f"adapter: {{kind: {adapter}}}\n"
    yield "glyphs coded", GLYPHS + "adapter: {kind: lora, rank: 2}\n" + FEEDBACK % ("ef14", "none")


def lines_of(name, how, directory):
    for text in (directory / "journal.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["event"] != "round":
            continue
        parts = [f"{way} {part} {count}" for way, by_cause in sorted(line["bytes"].items())
                 for part, count in sorted(by_cause.items()) if how == "simulated" or part in ("payload", "framing")]
        yield "\t".join([name, how, f"{line['round']:03}", line["digest"], *parts])


def simulated(number, name, text, folder):
    directory = folder / str(number)
    config = directory.with_suffix(".yaml")
    config.write_text(text)
    run = subprocess.run([FEDCTL, "simulate", "--config", config, "--run-dir", directory, "--quiet"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        return [f"{name}\tsimulated\tstatus {run.returncode}"]
    return list(lines_of(name, "simulated", directory))


def over_tcp(path, folder):
    directory, port_file = folder / f"tcp-{path.stem}", folder / f"tcp-{path.stem}.port"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([FEDCTL, "server", "--config", path, "--run-dir", directory, "--listen", "127.0.0.1:0", "--port-file", port_file], **quiet)
    while not port_file.exists() and server.poll() is None:
        time.sleep(0.01)
    clients = [subprocess.Popen([FEDCTL, "client", "--ids", ids, "--server", f"127.0.0.1:{port_file.read_text().strip()}"], **quiet) for ids in ("0-2", "3-5")]
    statuses = [process.wait(timeout=300) for process in (server, *clients)]
    if any(statuses):
        return [f"method {path.stem}\ttcp\tstatuses {statuses}"]
    return list(lines_of(f"method {path.stem}", "tcp", directory))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=pathlib.Path)
    parser.add_argument("--only", choices=["quadratic"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = pathlib.Path(name)
        jobs = [pool.submit(simulated, number, *each, folder) for number, each in enumerate(experiments(arguments.only is not None))]
        if arguments.only is None:
            jobs += [pool.submit(over_tcp, path, folder) for path in METHODS if path.stem not in WITHOUT_ROUNDS]
        found = sorted(line for job in jobs for line in job.result())
    if arguments.against is None:
        print("\n".join(found))
        return 0
    before = arguments.against.read_text().splitlines()
    lost, new = sorted(set(before) - set(found)), sorted(set(found) - set(before))
    for line in sorted([f"{line}\t- before" for line in lost] + [f"{line}\t+ now" for line in new]):
        print(line)
    print(f"digests: {len(found)} lines, {len(lost)} of {len(before)} before are gone, {len(new)} are new", file=sys.stderr)
    return 1 if lost or new else 0


if __name__ == "__main__":
    sys.exit(main())
