"""Rounds of fedctl over TCP on loopback: `fedctl server` on one core, `fedctl client` processes on the other.

    fedctl_rounds.py --clients 50 --values 262144 --rounds 10 [--per-round K] [--hosts H] [--tls] [--no-disk]

Bytes are the journal's; in a private network they are checked against the loopback device's own counter."""
import argparse
import pathlib
import subprocess
import tempfile
import time

import fedctl_work as work
import measure

HEADERS_BYTES = 20 + 32  # of a packet as the loopback device counts it: IPv4, TCP with time stamps

parser = argparse.ArgumentParser()
parser.add_argument("--fedctl", default=str(measure.ROOT / "build/release/bin/fedctl"))
parser.add_argument("--clients", type=int, required=True)
parser.add_argument("--per-round", type=int, default=0)
parser.add_argument("--values", type=int, required=True)
parser.add_argument("--rounds", type=int, default=10)
parser.add_argument("--hosts", type=int, default=1)
parser.add_argument("--tls", action="store_true")
parser.add_argument("--no-disk", action="store_true", help="run directory in memory: the peers keep nothing on the disk")
options = parser.parse_args()


def certificates(folder):
    """The experiment's server section and what each host says beside its ids."""
    def ca(*words):
        return subprocess.run([options.fedctl, "ca", *words, "--dir", f"{folder}/ca"], check=True, capture_output=True,
                              text=True).stdout
    ca("init")
    section = ca("issue", "--server", "127.0.0.1")
    for ids in shares():
        ca("issue", "--ids", ids)
    return section, {ids: ["--site", f"{folder}/ca/client-{ids}.yaml"] for ids in shares()}


def shares():
    edges = [options.clients * i // options.hosts for i in range(options.hosts + 1)]
    return [f"{low}-{high - 1}" for low, high in zip(edges, edges[1:])]


def main(folder):
    section, sites = certificates(folder) if options.tls else ("", {})
    model, train = work.exchange(options.fedctl, folder, options.clients, options.values)
    config = work.experiment(folder, clients=options.clients, per_round=options.per_round, rounds=options.rounds,
                             model=model, train=train, server=section)
    run, port_file = pathlib.Path(folder, "run"), pathlib.Path(folder, "port")
    device_before = measure.device_bytes("lo")
    begin = time.time()
    log = open(f"{folder}/server.log", "w")
    server = measure.start([options.fedctl, "server", "--config", config, "--run-dir", run, "--listen", "127.0.0.1:0",
                            "--port-file", port_file, "--threads", "1", "--quiet"], measure.SERVER_CORE, log)
    measure.wait_for(lambda: port_file.exists() or server.poll() is not None, "the server's port")
    if server.poll() is not None:
        raise SystemExit("fedctl server: " + pathlib.Path(folder, "server.log").read_text().strip()[-500:])
    listening_s = time.time() - begin
    idle = measure.rss_mib(server.pid)
    address = f"127.0.0.1:{port_file.read_text().strip()}"
    hosts = [measure.start([options.fedctl, "client", "--ids", ids, "--server", address, "--threads", "1", "--quiet", "--allow-path", folder,
                            *sites.get(ids, [])], measure.CLIENT_CORE, log) for ids in shares()]
    first = measure.wait_for(lambda: len(work.journal_rounds(run)) or server.poll() is not None, "the first round", 300)
    mark_s, peak, hosts_peak = measure.cpu_s(server.pid), 0, 0
    last_s, hosts_mark_s = mark_s, sum(measure.cpu_s(host.pid) for host in hosts)
    hosts_last_s = hosts_mark_s
    while server.poll() is None:  # VmHWM outlives its cause, so that a slow look misses nothing but the end
        peak = max(peak, measure.peak_mib(server.pid))
        hosts_peak = max(hosts_peak, sum(measure.peak_mib(host.pid) for host in hosts))
        last_s = max(last_s, measure.cpu_s(server.pid))
        hosts_last_s = max(hosts_last_s, sum(measure.cpu_s(host.pid) for host in hosts))
        time.sleep(0.02)
    rounds = work.journal_rounds(run)
    if server.returncode != 0 or len(rounds) != options.rounds:
        raise SystemExit(f"fedctl server ended with {server.returncode} after {len(rounds)} rounds: "
                         + pathlib.Path(folder, "server.log").read_text().strip()[-500:])
    for host in hosts:
        host.wait()
    cohort, later = options.per_round or options.clients, rounds[1:]
    total = sum(rounds[-1][f"bytes_{way}_total"] for way in ("up", "down"))
    extra = {}
    if measure.private_network():
        sent, _, packets = (b - a for a, b in zip(device_before, measure.device_bytes("lo")))
        extra["bytes_of_device_over_journal"] = (sent - packets * HEADERS_BYTES) / total
    begun_s = (rounds[0]["t_ms"] - sum(rounds[0][part + "_ms"] for part in ("train", "aggregate", "evaluate"))) / 1e3
    version = subprocess.run([options.fedctl, "--version"], capture_output=True, text=True).stdout.split()
    measure.report(
        peer="fedctl" + ", no disk" * options.no_disk, version=version[-1], work="rounds", clients=options.clients,
        cohort=cohort,
        payload_bytes=4 * options.values, tls=options.tls, rounds=len(rounds),
        seconds_a_round=(rounds[-1]["t_ms"] - rounds[0]["t_ms"]) / 1e3 / len(later),
        server_cpu_ms=1e3 * (last_s - mark_s) / (len(rounds) - int(first)) / cohort,
        clients_cpu_ms=1e3 * (hosts_last_s - hosts_mark_s) / (len(rounds) - int(first)) / cohort, rss_mib=peak,
        rss_idle_mib=idle, clients_rss_mib=hosts_peak,
        bytes_up=sum(line["bytes_up"] for line in later) / len(later) / cohort,
        bytes_down=sum(line["bytes_down"] for line in later) / len(later) / cohort,
        listening_s=listening_s, start_s=begun_s - begin, **extra)


with tempfile.TemporaryDirectory(dir="/dev/shm" if options.no_disk else None) as folder:
    main(folder)
