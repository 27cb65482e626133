"""Rounds of Flower's current engine, without training: flower-superlink, SuperNodes, `flwr run`. Needs root.

    PYTHON flower_superlink.py --clients 10 --values 1024 --rounds 3 [--light]

The nodes live in a second network namespace joined by a veth pair, whose counters are the traffic between server and clients,
packet headers included; what SuperNode and ClientApp, or SuperLink and ServerApp, say to each other stays on loopback devices.
--light: nodes as threads of one process on a core of their own; else flower-supernode, one a client."""
import argparse
import atexit
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import measure

parser = argparse.ArgumentParser()
parser.add_argument("--clients", type=int, required=True)
parser.add_argument("--values", type=int, required=True)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--light", action="store_true")
options = parser.parse_args()
HOST, SPACE, PORT = "10.77.0.1", f"peers{os.getpid()}", 9092
BIN = pathlib.Path(sys.executable).parent
INSIDE = ["ip", "netns", "exec", SPACE]


def make_network():
    atexit.register(lambda: subprocess.run(["ip", "netns", "del", SPACE], check=False))
    atexit.register(measure.stop_all)  # before the namespace goes
    for line in (f"ip netns add {SPACE}", f"ip link add veth0 type veth peer name veth1 netns {SPACE}",
                 f"ip addr add {HOST}/24 dev veth0", "ip link set veth0 up",
                 f"ip netns exec {SPACE} ip addr add 10.77.0.2/24 dev veth1",
                 f"ip netns exec {SPACE} ip link set veth1 up", f"ip netns exec {SPACE} ip link set lo up"):
        subprocess.run(line.split(), check=True)


def listens():
    try:
        socket.create_connection((HOST, PORT), 0.2).close()
        return True
    except OSError:
        return False


def start_nodes(log, environment):
    if options.light:
        words = [sys.executable, measure.HERE / "flower_superlink_nodes.py", f"{HOST}:{PORT}", options.clients, options.values]
        pin = ["taskset", "-c", str(measure.CLIENT_CORE)] if measure.CLIENT_CORE is not None else []
        measure.start(INSIDE + pin + words, None, log, env=environment)
        return 4 + 0.05 * options.clients
    for number in range(options.clients):
        measure.start(INSIDE + [BIN / "flower-supernode", "--insecure", "--superlink", f"{HOST}:{PORT}", "--port", 20000 + number,
                                "--node-config", f"partition-id={number} num-partitions={options.clients}"], None, log,
                      env=environment)
    return 3 + 0.7 * options.clients


def submit(folder, out, environment):
    pathlib.Path(folder, "home/config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{HOST}:{PORT}"\ninsecure = true\n')
    config = f'clients={options.clients} values={options.values} rounds={options.rounds} out="{out}"'
    subprocess.run([BIN / "flwr", "run", measure.HERE / "flower_app", "bench", "--run-config", config], env=environment,
                   check=True, stdout=subprocess.DEVNULL, cwd=folder)


def watch(out, link):
    """[(rounds done, bytes down, bytes up, the SuperLink's CPU s)] as rounds end, and the rounds themselves."""
    marks, rounds, end = [], [], time.monotonic() + 400
    while len(rounds) < options.rounds:
        if time.monotonic() > end:
            sys.exit(f"Flower's SuperLink: {len(rounds)} of {options.rounds} rounds within 400 s")
        if os.path.exists(out) and len(found := json.load(open(out))) > len(rounds):
            rounds = found
            marks.append((len(rounds), *measure.device_bytes("veth0")[:2], measure.cpu_s(link.pid)))
        time.sleep(0.05)
    return marks, rounds


def main(folder):
    make_network()
    environment = {**measure.ENVIRONMENT, "FLWR_HOME": f"{folder}/home", "PATH": f"{BIN}:{os.environ['PATH']}"}
    os.mkdir(f"{folder}/home")
    out, log = f"{folder}/out.json", open(f"{folder}/log", "w")
    begin = time.time()
    link = measure.start([BIN / "flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--host", HOST,
                          "--port", PORT], None, log, env=environment, cwd=folder)
    measure.wait_for(listens, "the SuperLink's port", every_s=0.05)
    listening_s = time.time() - begin
    settle_s = start_nodes(log, environment)
    time.sleep(settle_s)  # all nodes registered: without them `flwr run` waits in steps of seconds
    idle, submitted, peak = measure.rss_mib(link.pid), time.time(), measure.Peak(link.pid)
    submit(folder, out, environment)
    marks, rounds = watch(out, link)
    errors = [text for line in rounds for text in line["errors"]]
    if errors or any(line["replies"] != options.clients for line in rounds):
        sys.exit(f"Flower's SuperLink: replies {[line['replies'] for line in rounds]}, errors {errors[:1]}")
    (first, down, up, cpu_s), (last, down_end, up_end, cpu_end_s) = marks[0], marks[-1]
    per = (last - first) * options.clients
    app_cpu_s = rounds[last - 1]["cpu_s"] - rounds[first - 1]["cpu_s"]
    import flwr
    measure.report(
        peer="Flower SuperLink", version=flwr.__version__, work="rounds", clients=options.clients, cohort=options.clients,
        payload_bytes=4 * options.values, tls=False, light=options.light, rounds=options.rounds,
        seconds_a_round=(rounds[-1]["end"] - rounds[0]["end"]) / (options.rounds - 1),
        server_cpu_ms=1e3 * (cpu_end_s - cpu_s + app_cpu_s) / per, rss_mib=max(peak.mib, idle), rss_idle_mib=idle,
        bytes_up=(up_end - up) / per, bytes_down=(down_end - down) / per,
        start_s=listening_s + rounds[0]["begin"] - submitted)


with tempfile.TemporaryDirectory() as folder:
    main(folder)
