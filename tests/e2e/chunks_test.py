"""A link that is slow and breaks every two seconds: what has arrived is not sent again."""
import socket
import threading
import time
import unittest

from fedctl import Case, digests, events, rounds

CHUNK = 256 << 10
# One update of 32 MiB, both ways.
LARGE = """
name: large
seed: 1
rounds: 1
model: {kind: quadratic}
adapter: {kind: full}
data: {kind: quadratic_targets, rows: 2048, cols: 4096, clients: 1, partition: {kind: by_field}, holdout: 0}
clients: {count: 1, quorum: 1.0, deadline_s: 300}
train: {steps: 1, batch_size: 1, optimizer: {kind: sgd, lr: 0.05, momentum: 0}}
"""


class BrokenLink:
    """A proxy with a rate a direction that breaks every connection at an interval, and counts what it has passed on."""

    def __init__(self, port, mbit, every_s):
        self.target, self.rate, self.every_s = port, mbit * 1e6 / 8, every_s
        self.up = self.down = self.cuts = 0
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            until = time.monotonic() + self.every_s
            pumps = [threading.Thread(target=self.pump, args=(*ends, until), daemon=True)
                     for ends in ((near, far, "up"), (far, near, "down"))]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()
            self.cuts += 1
            near.close()
            far.close()

    def pump(self, source, sink, way, until):
        begun, passed = time.monotonic(), 0
        try:
            while (left := until - time.monotonic()) > 0:
                source.settimeout(left)
                data = source.recv(16 << 10)
                if not data:
                    break
                passed += len(data)
                # The time that these bytes take on the link.
                threading.Event().wait(max(0, begun + passed / self.rate - time.monotonic()))
                sink.sendall(data)
                setattr(self, way, getattr(self, way) + len(data))
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Chunks(Case):
    def test_a_link_cut_every_two_seconds(self):
        config = self.write("exp.yaml", LARGE)
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "quiet", "--quiet")
        self.assertEqual(status, 0, err)
        quiet = rounds(self.folder / "quiet")[1]

        server, port, directory = self.server(config)
        link = BrokenLink(port, mbit=20, every_s=2)
        self.addCleanup(link.close)
        client = self.client("0", link.port)
        self.finish(server, limit_s=300)
        self.finish(client)
        line = rounds(directory)[1]
        up = line["bytes"]["up"]
        print(f"\n{link.cuts} cuts in {line['round_ms'] / 1e3:.1f} s; over the link: {link.up} bytes up, {link.down} down; {line['bytes']}")
        self.assertEqual(digests(directory), digests(self.folder / "quiet"))
        self.assertGreater(link.cuts, 8)
        for way in ("up", "down"):
            for part in ("payload", "framing"):
                self.assertEqual(line["bytes"][way][part], quiet["bytes"][way][part], (way, part))
        # A cut costs the chunk that was on its way, and a handshake.
        each = CHUNK + 2048
        self.assertLess(link.up, quiet["bytes_up"] + link.cuts * each)
        self.assertLess(link.down, quiet["bytes_down"] + link.cuts * each)
        self.assertLess(up["control"] + up["resent"], link.cuts * each)
        self.assertEqual(line["lost"], 0)
        self.assertEqual(len(events(directory, "late")), 0)


if __name__ == "__main__":
    unittest.main()
