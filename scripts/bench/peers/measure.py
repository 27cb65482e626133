"""What the measuring scripts share: processes that are always stopped, their memory and CPU time, network counters, and
the one JSON line that each script prints. Linux, standard library only."""
import atexit
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MIB = 2**20
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SERVER_CORE, CLIENT_CORE = (1, 0) if os.cpu_count() > 1 else (None, None)
# One thread a process: these tables compare programs, not thread pools. No telemetry, no questions to the outside.
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1",
                   FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", RAY_USAGE_STATS_ENABLED="0",
                   GRPC_VERBOSITY="NONE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
_started = []


def start(arguments, core=None, log=subprocess.DEVNULL, **more):
    """A child that dies with this script, whatever ends it."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    child = subprocess.Popen(pin + [str(word) for word in arguments], stdout=log, stderr=subprocess.STDOUT,
                             env=more.pop("env", ENVIRONMENT), **more)
    _started.append(child)
    return child


def stop_all():
    for child in _started:
        for pid in reversed(tree(child.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    for child in _started:
        child.wait()
    _started.clear()


atexit.register(stop_all)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def tree(pid):
    """The process and all that descend from it, living ones."""
    found, todo = [], [int(pid)]
    while todo:
        found.append(todo.pop())
        for task in pathlib.Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                todo += [int(word) for word in task.read_text().split()]
            except OSError:
                pass
    return [pid for pid in found if os.path.exists(f"/proc/{pid}/stat")]


def _status_mib(pid, key):
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def rss_mib(pid):
    """Resident memory of the whole tree, in MiB."""
    return sum(_status_mib(one, "VmRSS") for one in tree(pid))


def peak_mib(pid="self"):
    return _status_mib(pid, "VmHWM")


def cpu_s(pid):
    """User and system time of a living process with all its threads and the children it has waited for."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(word) for word in fields[11:15]) * TICK_S


def born():
    """When this process began, seconds since 1970: interpreter and imports are part of a start."""
    ticks = int(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    return time.time() - float(pathlib.Path("/proc/uptime").read_text().split()[0]) + ticks * TICK_S


class Peak(threading.Thread):
    """Samples the memory of a process tree; `mib` is the highest sum seen."""

    def __init__(self, pid, every_s=0.1):
        super().__init__(daemon=True)
        self.pid, self.mib, self.over, self.every_s = pid, 0.0, threading.Event(), every_s
        self.start()

    def run(self):
        while not self.over.wait(self.every_s):
            self.mib = max(self.mib, rss_mib(self.pid))


def wait_for(condition, what, limit_s=60.0, every_s=0.002):
    """Polls until the condition holds and returns what it gave; ends the script at the limit."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            sys.exit(f"waited {limit_s:.0f} s for {what}")
        time.sleep(every_s)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def socket_bytes(port):
    """(sent, received) TCP payload over the living connections of that local port."""
    out = subprocess.run(["ss", "-tinH", "state", "established", f"( sport = :{port} )"],
                         capture_output=True, text=True).stdout
    return tuple(sum(int(n) for n in re.findall(rf"bytes_{way}:(\d+)", out)) for way in ("sent", "received"))


def device_bytes(name):
    """(transmitted, received) bytes and the transmitted packets of a network device of this namespace."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith(name + ":"):
            words = line.split(":")[1].split()
            return int(words[8]), int(words[0]), int(words[9])
    return 0, 0, 0


def private_network():
    """True in a network namespace that holds nothing but what this script starts (peers.sh makes one as root)."""
    return os.environ.get("PEERS_PRIVATE_NETWORK") == "1"


def report(**fields):
    """One result line; floats to six significant digits. The load tells a busy machine from a quiet one."""
    fields["load"] = os.getloadavg()[0]
    print(json.dumps({key: float(f"{value:.6g}") if isinstance(value, float) else value
                      for key, value in fields.items()}), flush=True)
