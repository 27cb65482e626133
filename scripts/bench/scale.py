#!/usr/bin/env python3
"""What a server costs: memory, CPU and time against the number of clients and the size of an update, over TCP on loopback, without LibTorch.

    scripts/bench/scale.py --clients 10000 --per-round 1000 --values 1024 --rounds 100 --hosts 3
    scripts/bench/scale.py --clients 1024 --values 2097152 --rounds 2 --swarm 2    # clients that train nothing (swarm.py)

Prints one line: peak memory, how it grew behind the first round, CPU a client and round, seconds a round."""
import argparse
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PLAN = """
name: scale
seed: 1
rounds: {rounds}
model: {{kind: quadratic}}
adapter: {{kind: full}}
data: {{kind: quadratic_targets, rows: {rows}, cols: {cols}, rank: 1, clients: {owners}{distinct}, partition: {{kind: by_field}}, holdout: 0}}
clients: {{count: {clients}, per_round: {per_round}, quorum: 1.0, deadline_s: 600}}
train: {{steps: 1, batch_size: 1, optimizer: {{kind: sgd, lr: 0.05, momentum: 0}}}}
evaluate: {{every: {every}}}
"""
TICK = os.sysconf("SC_CLK_TCK")


def options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedctl", default=str(HERE.parents[1] / "build/release/bin/fedctl"))
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--per-round", type=int, default=0, help="0: all")
    parser.add_argument("--values", type=int, default=1024, help="float32 values of an update, a power of two")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hosts", type=int, default=2, help="fedctl client processes")
    parser.add_argument("--threads", type=int, default=1, help="of the server; a host has one")
    parser.add_argument("--swarm", type=int, default=0, help="processes of clients that train nothing, instead of hosts")
    parser.add_argument("--every", type=int, default=1, help="evaluate every so many rounds")
    parser.add_argument("--own-targets", action="store_true", help="for a fedctl without data.distinct")
    parser.add_argument("--dir", default=None, help="where run directories are made")
    parser.add_argument("--keep", action="store_true", help="do not remove the run directory")
    return parser.parse_args(arguments)


def experiment(given):
    cols = min(given.values, 1024)
    return PLAN.format(rounds=given.rounds, clients=given.clients, per_round=given.per_round or given.clients, owners=given.clients,
                       rows=max(1, given.values // cols), cols=cols, every=given.every, distinct="" if given.own_targets else ", distinct: 1")


class Watch(threading.Thread):
    """Samples a process's memory and CPU until it ends."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.peak_kib = pid, [], 0

    def run(self):
        while True:
            try:
                status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
                stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                return
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            if "VmRSS" not in fields:
                return
            self.peak_kib = int(fields["VmHWM"].split()[0])
            self.samples.append((time.time(), int(fields["VmRSS"].split()[0]), (int(stat[11]) + int(stat[12])) / TICK))
            time.sleep(0.02)

    def cpu_at(self, when):
        before = [sample for sample in self.samples if sample[0] <= when] or self.samples[:1]
        return before[-1][2]

    def rss(self, begin, end):
        found = [sample[1] for sample in self.samples if begin <= sample[0] <= end]
        return max(found) if found else 0


def start_server(given, config, run):
    port_file = run.with_suffix(".port")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = subprocess.Popen([given.fedctl, "server", "--config", config, "--run-dir", run, "--listen", "127.0.0.1:0",
                               "--threads", str(given.threads), "--port-file", port_file, "--quiet"], stdout=subprocess.DEVNULL)
    while not port_file.exists():
        if server.poll() is not None:
            sys.exit("the server ended early")
        time.sleep(0.002)
    return server, int(port_file.read_text())


def ready_body(given, folder, config):
    """What a client says to be let in, heard by a server that is none: the plan comes from a run that is not waited for."""
    server, port = start_server(given, config, folder / "probe")
    ear = socket.create_server(("127.0.0.1", 0))
    client = subprocess.Popen([given.fedctl, "client", "--id", "0", "--server", f"127.0.0.1:{ear.getsockname()[1]}", "--threads", "1", "--quiet"],
                              stderr=subprocess.DEVNULL)
    near, _ = ear.accept()
    far = socket.create_connection(("127.0.0.1", port))

    def read_frame(peer):
        data = b""
        while len(data) < 20 or len(data) < 20 + int.from_bytes(data[4:8], "little"):
            data += peer.recv(1 if len(data) >= 20 else 20 - len(data)) if len(data) < 20 else peer.recv(
                20 + int.from_bytes(data[4:8], "little") - len(data))
        return data
    far.sendall(read_frame(near))
    near.sendall(read_frame(far))
    ready = read_frame(near)[20:]
    for end in (ear, near, far):
        end.close()
    for process in (server, client):
        process.kill()
        process.wait()
    return ready.hex()


def start_clients(given, folder, config, port, ready):
    shares = given.swarm or given.hosts
    edges = [given.clients * i // shares for i in range(shares + 1)]
    clients = []
    for first, end in zip(edges, edges[1:]):
        if given.swarm:
            command = [sys.executable, HERE / "swarm.py", str(port), str(first), str(end - first), str(given.values), ready]
        else:
            command = [given.fedctl, "client", "--ids", f"{first}-{end - 1}", "--server", f"127.0.0.1:{port}", "--threads", "1", "--quiet",
                       "--retry-s", "120"]
        clients.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    return clients


def measure(given, folder):
    config = folder / "exp.yaml"
    config.write_text(experiment(given))
    ready = ready_body(given, folder, config) if given.swarm else ""
    begun = time.time()
    server, port = start_server(given, config, folder / "run")
    watch = Watch(server.pid)
    watch.start()
    listening = time.time()
    idle_kib = watch.samples[-1][1] if watch.samples else 0
    clients = start_clients(given, folder, config, port, ready)
    hosts = [Watch(client.pid) for client in clients]
    for host in hosts:
        host.start()
    status = server.wait()
    for client in clients:
        client.wait()
    lines = [json.loads(line) for line in (folder / "run/journal.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["event"] == "round"]
    joins = [line["t_ms"] / 1e3 for line in lines if line["event"] == "join"]
    times = [line["t_ms"] / 1e3 for line in rounds]
    walls = [b - a for a, b in zip(times[1:], times[2:])] or [0]
    last, first = times[-1], times[1] if len(times) > 1 else times[-1]
    answers = sum(line["replied"] for line in rounds[2:]) or 1
    return {"status": status, "listen_s": listening - begun, "idle_kib": idle_kib, "join_s": max(joins) - min(joins) if joins else 0,
            "peak_kib": watch.peak_kib, "rss_first_kib": watch.rss(0, first), "rss_last_kib": watch.rss(times[-2], last) if len(times) > 1 else 0,
            "cpu_ms": (watch.cpu_at(last) - watch.cpu_at(first)) * 1e3 / answers, "cpu_s": watch.samples[-1][2],
            "round_s": sum(walls) / len(walls), "round_min_s": min(walls), "round_max_s": max(walls),
            "host_kib": [host.peak_kib for host in hosts], "leaves": sum(line["event"] == "leave" and line["t_ms"] / 1e3 < last for line in lines),
            "refused": sum(line["event"] == "refuse" for line in lines), "digest": rounds[-1].get("digest", "")[:16], "wall_s": time.time() - begun}


def main():
    given = options()
    with tempfile.TemporaryDirectory(dir=given.dir, ignore_cleanup_errors=True) as folder:
        found = measure(given, pathlib.Path(folder))
        if given.keep:
            print(folder)
            input("enter: remove it ")
    print(f"{given.clients} clients, {given.per_round or given.clients} a round, {given.values * 4 / 1024:.0f} KiB: status {found['status']}; "
          f"peak {found['peak_kib'] / 1024:.1f} MiB (first round {found['rss_first_kib'] / 1024:.1f}, last {found['rss_last_kib'] / 1024:.1f}, "
          f"idle {found['idle_kib'] / 1024:.1f}); CPU {found['cpu_ms']:.3f} ms a client and round, {found['cpu_s']:.1f} s in all; "
          f"{found['round_s']:.3f} s a round ({found['round_min_s']:.3f}-{found['round_max_s']:.3f}); join {found['join_s']:.2f} s, "
          f"listening after {found['listen_s']:.3f} s; hosts {[round(kib / 1024) for kib in found['host_kib']]} MiB; "
          f"{found['leaves']} left, {found['refused']} refused; {found['wall_s']:.1f} s; digest {found['digest']}")
    return found["status"]


if __name__ == "__main__":
    sys.exit(main())
