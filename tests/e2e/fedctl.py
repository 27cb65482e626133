"""Helpers of the end-to-end tests: real fedctl processes on loopback, each stopped by the test that started it."""
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FEDCTL = str(ROOT / os.environ.get("FEDCTL", "build/release/bin/fedctl"))
DATA = pathlib.Path(os.environ.get("FEDCTL_DATA", ROOT.parent / "shared" / "data"))

# Six clients on quadratics: a whole run in well under a second.
TOY = """
name: toy
seed: 3
rounds: 5
model: {kind: quadratic}
adapter: {kind: full}
data: {kind: quadratic_targets, rows: 24, cols: 32, clients: 6, partition: {kind: by_field}, holdout: 0}
clients: {count: 6, quorum: 1.0, deadline_s: 20}
train: {steps: 5, batch_size: 1, optimizer: {kind: sgd, lr: 0.05, momentum: 0}}
"""
# A vision transformer from random weights: small, but through LibTorch, codecs and error feedback.
GLYPHS = """
name: glyphs
seed: 5
rounds: 3
model: {kind: vit, patch: 7, width: 32, depth: 2, heads: 2, mlp: 64}
adapter: {kind: lora, rank: 2, alpha: 4, targets: [query, value]}
data: {kind: glyphs, classes: 5, hands: 8, per_hand: 24, test_per_class: 10, partition: {kind: by_field}, holdout: 0.1}
clients: {count: 8, quorum: 1.0, deadline_s: 120}
train: {epochs: 1, batch_size: 8, optimizer: {kind: sgd, lr: 0.05, momentum: 0.9}}
codec: {up: [{kind: topk, ratio: 0.2}, {kind: quantize, bits: 6}], down: [{kind: float16}], error_feedback: ef14}
"""


def wait_until(condition, what, limit_s=60):
    """Polls a condition of another process; fails loudly at the limit."""
    end = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit_s} s for {what}")
        pause.wait(0.01)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) if hasattr(self, "enterContext") \
            else pathlib.Path(self._temporary())
        self.processes = []
        self.addCleanup(self.stop_all)

    def _temporary(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def stop_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def start(self, *arguments, cwd=None, env=None):
        process = subprocess.Popen([FEDCTL, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, cwd=cwd or ROOT, env=env)
        self.processes.append(process)
        return process

    def run_fedctl(self, *arguments, limit_s=120, cwd=None, env=None):
        process = self.start(*arguments, cwd=cwd, env=env)
        out, err = process.communicate(timeout=limit_s)
        return process.returncode, out, err

    def server(self, config, run="run", *more, port=0):
        """Starts a server, on a free port if none is given; returns (process, port, run directory)."""
        port_file = self.folder / f"{run}.port"
        port_file.unlink(missing_ok=True)
        directory = self.folder / run
        process = self.start("server", "--config", config, "--run-dir", directory, "--listen", f"127.0.0.1:{port}",
                             "--port-file", port_file, *more)
        wait_until(lambda: port_file.exists() or process.poll() is not None, "the server's port")
        self.assertIsNone(process.poll(), "the server ended early")
        return process, int(port_file.read_text()), directory

    def client(self, ids, port, *more):
        return self.start("client", "--ids", ids, "--server", f"127.0.0.1:{port}", "--threads", "1", *more)

    def finish(self, process, status=0, limit_s=120):
        out, err = process.communicate(timeout=limit_s)
        self.assertEqual(process.returncode, status, err)
        return out, err


def journal(directory):
    lines = (pathlib.Path(directory) / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def events(directory, name):
    return [line for line in journal(directory) if line["event"] == name]


def rounds(directory):
    return events(directory, "round")


def ca(folder, *arguments):
    """`fedctl ca` on the authority in the folder, which must succeed; what it prints."""
    return subprocess.run([FEDCTL, "ca", *arguments, "--dir", folder], check=True, capture_output=True, text=True).stdout


def digests(directory):
    return [line["digest"] for line in rounds(directory)]


def without_times(line):
    return {key: value for key, value in line.items() if not key.endswith("_ms")}


class CountingProxy:
    """Stands between clients and server; keeps every byte of each direction, per connection."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.streams = []  # (up bytes, down bytes)
        self.threads = []
        self.sockets = []
        self._start(self._accept)

    def _start(self, run, *arguments):
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [near, far]
            pair = (bytearray(), bytearray())
            self.streams.append(pair)
            self._start(self._pump, near, far, pair[0])
            self._start(self._pump, far, near, pair[1])

    @staticmethod
    def _pump(source, sink, record):
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                try:
                    sink.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                return
            record += data
            sink.sendall(data)

    def cut(self):
        """Breaks every connection that is open now; new ones are served."""
        for end in self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already

    def close(self):
        self.listener.close()
        for thread in self.threads[1:]:
            thread.join(timeout=10)
        for end in self.sockets:
            end.close()
