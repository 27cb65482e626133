"""Many rounds of a tiny experiment over TCP with clients that come and go: the server's resident memory and file descriptors must not grow.
   scripts/acceptance/endurance.py [ROUNDS=20000]"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FEDCTL = str(ROOT / "build/release/bin/fedctl")
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
CLIENTS = 4
EXPERIMENT = f"""
name: endurance
rounds: {ROUNDS}
model: {{kind: quadratic}}
adapter: {{kind: full}}
data: {{kind: quadratic_targets, rows: 24, cols: 32, clients: {CLIENTS}, partition: {{kind: by_field}}, holdout: 0}}
clients: {{count: {CLIENTS}, quorum: 0.25, deadline_s: 60}}
train: {{steps: 2, batch_size: 1, optimizer: {{kind: sgd, lr: 0.05}}}}
codec: {{up: {{kind: auto, bits_per_parameter: 4}}, error_feedback: ef21, down: {{kind: auto, bits_per_parameter: 8}}, error_feedback_down: ef21}}
evaluate: {{every: 1000}}
server: {{idle_s: 1}}
"""


def resident_kib(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))


def last_round(journal):
    with open(journal, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        lines = [json.loads(line) for line in file.read().split(b"\n")[1:-1] if b'"event":"round"' in line]
    return lines[-1]["round"] if lines else 0


def main():
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "exp.yaml").write_text(EXPERIMENT)
        port_file, run = folder / "port", folder / "run"
        server = subprocess.Popen([FEDCTL, "server", "--config", folder / "exp.yaml", "--run-dir", run, "--listen", "127.0.0.1:0", "--port-file",
                                   port_file, "--quiet"], stdout=subprocess.DEVNULL)
        while not port_file.exists():
            time.sleep(0.01)
        place = f"127.0.0.1:{port_file.read_text().strip()}"

        def client(i):
            return subprocess.Popen([FEDCTL, "client", "--id", str(i), "--server", place, "--quiet", "--threads", "1", "--retry-s", "60",
                                     "--state-dir", folder / "state"])

        clients = [client(i) for i in range(CLIENTS)]
        samples, goings = [], 0
        try:
            while server.poll() is None:
                time.sleep(0.25)
                # One goes and comes back, by the state directory the same client.
                i = rng.randrange(CLIENTS)
                if clients[i].poll() is None and server.poll() is None and rng.random() < 0.5:
                    clients[i].kill()
                    clients[i].wait()
                    clients[i] = client(i)
                    goings += 1
                try:
                    samples.append((last_round(run / "journal.jsonl"), resident_kib(server.pid), len(os.listdir(f"/proc/{server.pid}/fd"))))
                except (OSError, StopIteration):
                    break
        finally:
            for process in clients:
                process.kill()
        assert server.wait(60) == 0, server.returncode
        assert last_round(run / "journal.jsonl") == ROUNDS
    settled = [sample for sample in samples if sample[0] > ROUNDS / 5]  # the allocator has what it needs by then
    n = len(settled)
    mean_round, mean_kib = sum(s[0] for s in settled) / n, sum(s[1] for s in settled) / n
    slope = sum((s[0] - mean_round) * (s[1] - mean_kib) for s in settled) / sum((s[0] - mean_round) ** 2 for s in settled)
    files = [s[2] for s in settled]
    print(f"{ROUNDS} rounds, clients killed and back {goings} times: resident {settled[0][1]} to {settled[-1][1]} KiB, "
          f"slope {1000 * slope:.2f} KiB a thousand rounds, file descriptors {min(files)} to {max(files)}")
    return abs(slope) * ROUNDS > 0.05 * mean_kib or max(files) > min(files) + CLIENTS + 4


sys.exit(main())
