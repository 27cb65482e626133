"""footprint.sh's measuring: see there."""
import argparse
import os
import pathlib
import socket
import statistics
import tempfile
import time

import fedctl_work as work
import measure

parser = argparse.ArgumentParser()
parser.add_argument("--fedctl", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--turns", type=int, required=True)
options = parser.parse_args()
# Kind of work, and who evaluates.
CASES = {"quadratic, 4 KiB": ("exchange", "server"), "mlp 784-128-10": ("mlp", "server"),
         "mlp, clients evaluate": ("mlp", "clients"), "MiniLM, LoRA": ("lora", "server"),
         "MiniLM, clients evaluate": ("lora", "clients")}


def settings(kind, folder):
    """(model lines, train, MiB of the frozen backbone)"""
    if kind == "exchange":
        return *work.exchange(options.fedctl, folder, 2, 1024), 0
    if kind == "mlp":
        model = work.classifier(folder, 2, 50, 784, 10, 128).replace("holdout: 0}", "holdout: 0.1}")
        return model, "{steps: 5, batch_size: 10, optimizer: {kind: sgd, lr: 0.1}}", 0
    backbone = os.path.getsize(f"{options.data}/models/minilm-l6/model.safetensors") / measure.MIB
    return (work.lora(options.data, f"{options.data}/banking77/train.csv", "float32"),
            "{steps: 2, batch_size: 16, optimizer: {kind: adamw, lr: 0.001}}", backbone)


def client_words(number, port, folder="."):
    return [options.fedctl, "client", "--ids", number, "--server", f"127.0.0.1:{port}", "--threads", "1", "--quiet",
            "--allow-path", folder, "--allow-path", options.data]


def first_frame_s():
    """From exec of a client to the first byte of its first frame."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = time.monotonic()
        client = measure.start(client_words(0, listener.getsockname()[1]))
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(30)
            if not connection.recv(1):
                raise SystemExit("the client hung up without a frame")
            taken = time.monotonic() - begin
        client.kill()
        client.wait()
    return taken


def loads_torch(process):
    return "libtorch_cpu" in pathlib.Path(f"/proc/{process.pid}/maps").read_text()


def run(kind, on, folder):
    model, train, backbone = settings(kind, folder)
    config = work.experiment(folder, clients=2, per_round=0, rounds=3, model=model, train=train, on=on)
    folder = pathlib.Path(folder)
    begin = time.monotonic()
    server = measure.start([options.fedctl, "server", "--config", config, "--run-dir", folder / "run", "--listen",
                            "127.0.0.1:0", "--port-file", folder / "port", "--threads", "1", "--quiet"])
    measure.wait_for(lambda: (folder / "port").exists() or server.poll() is not None, "the server's port")
    if server.poll() is not None:
        raise SystemExit(f"fedctl server ended with {server.returncode} ({kind})")
    found = {"server_start_s": time.monotonic() - begin, "server_idle_mib": measure.rss_mib(server.pid),
             "server_torch": loads_torch(server)}
    port = (folder / "port").read_text().strip()
    first = measure.start(client_words(0, port, folder))
    journal = folder / "run/journal.jsonl"
    measure.wait_for(lambda: '"event":"join"' in journal.read_text(), "the first client")
    found["client_idle_mib"] = measure.rss_mib(first.pid) - backbone  # joined, and waits for the other one
    second = measure.start(client_words(1, port, folder))
    found["server_peak_mib"] = found["client_peak_mib"] = 0
    while server.poll() is None:
        found["server_peak_mib"] = max(found["server_peak_mib"], measure.peak_mib(server.pid))
        if first.poll() is None:
            found["client_peak_mib"] = max(found["client_peak_mib"], measure.peak_mib(first.pid) - backbone)
            found["client_torch"] = found.get("client_torch", False) or loads_torch(first)
        time.sleep(0.005)
    if any(process.wait() for process in (server, first, second)):
        raise SystemExit(f"a process of {kind} failed")
    return found


def main():
    results = {name: [] for name in CASES}
    if not os.path.isdir(f"{options.data}/models/minilm-l6"):
        print("skipped MiniLM: no data folder (--data)")
        results = {name: runs for name, runs in results.items() if CASES[name][0] != "lora"}
    starts = [first_frame_s() for _ in range(options.turns)]
    for _ in range(options.turns):
        for name in results:
            with tempfile.TemporaryDirectory() as folder:
                results[name].append(run(*CASES[name], folder))
    keys = {"server_start_s": "server: start to port, s", "server_idle_mib": "server idle, MiB", "server_peak_mib": "peak",
            "client_idle_mib": "client joined, less the backbone, MiB", "client_peak_mib": "peak"}
    print(f"Client: start to first frame {spread(starts, 3)} s.\n")
    print("| experiment | " + " | ".join(keys.values()) + " | LibTorch in server, client |\n|---|" + "---:|" * len(keys) + "---|")
    for name, runs in results.items():
        cells = [spread([one[key] for one in runs], 3 if key.endswith("_s") else 1) for key in keys]
        torch = ", ".join("yes" if any(one[f"{side}_torch"] for one in runs) else "no" for side in ("server", "client"))
        print(f"| {name} | " + " | ".join(cells) + f" | {torch} |")


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


main()
