"""A port in the open: everything that strangers and hostile clients can send while a run goes on. It ends with the digests of a quiet one,
and the server's memory grows by no more than a few megabytes. ATTACK_CONNECTIONS=1000: how many of them stay open, saying nothing."""
import itertools
import os
import pathlib
import socket
import ssl
import threading
import unittest

from fedctl import GLYPHS, TOY, Case, CountingProxy, ca, digests, journal, rounds, wait_until
from frames import frame, message, read_frame, text

CONNECTIONS = int(os.environ.get("ATTACK_CONNECTIONS", "1000"))
# What 128 strangers and their handshakes may cost: 2.7 MB were measured (docs/security.md).
MORE_KIB = 4096
EVIL = 4  # a client with a good certificate and bad intentions
EXPERIMENT = (TOY.replace("quorum: 1.0", "quorum: 0.8").replace("steps: 5", "steps: 20000").replace("rounds: 5", "rounds: 20")
              + "codec: {up: [], down: []}\n")
MODEL = (GLYPHS.replace("count: 8, quorum: 1.0", "count: 6, quorum: 0.8").replace("rounds: 3", "rounds: 20").replace("epochs: 1", "epochs: 3"))
SIZE = 24 * 32
FLOOD = "127.0.0.2"  # the address the strangers come from


def update(exchange, value, size=SIZE):
    return frame(0, exchange, message("update", [("examples", 1), ("loss", 0.5), ("steps", 1)], [("delta", [value] * size)]))


class Attack(Case):
    def certificates(self):
        own, foreign = self.folder / "ca", self.folder / "foreign"
        ca(own, "init")
        section = ca(own, "issue", "--server", "127.0.0.1")
        for ids in ("0-3", str(EVIL), "5", "3"):
            ca(own, "issue", "--ids", ids)
        ca(own, "revoke", "--certificate", str(own / "client-3.pem"))
        ca(foreign, "init")
        ca(foreign, "issue", "--id", "3")
        return section

    def context(self, name=None, folder="ca", version=ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        if name:
            context.load_cert_chain(self.folder / folder / f"{name}.pem", self.folder / folder / f"{name}.key")
        return context

    def connect(self, port, context=None):
        raw = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(FLOOD, 0))
        return context.wrap_socket(raw) if context else raw

    def ready_frame(self, experiment=EXPERIMENT):
        """What a client of this experiment says to be let in, seen on the wire of a plaintext run that is not waited for."""
        server, port, _ = self.server(self.write("plain.yaml", experiment), "plain")
        proxy = CountingProxy(port)
        self.addCleanup(proxy.close)
        client = self.client(str(EVIL), proxy.port)

        def said():
            up, frames = bytes(proxy.streams[0][0]) if proxy.streams else b"", []
            while len(up) >= 20 and len(up) >= 20 + int.from_bytes(up[4:8], "little"):
                size = 20 + int.from_bytes(up[4:8], "little")
                frames.append(up[:size])
                up = up[size:]
            return frames

        wait_until(lambda: len(said()) >= 2, "hello and ready")
        for process in (server, client):
            process.kill()
        return said()

    def evil(self, port, said, answers):
        """Takes part as EVIL; `answers(round)` are the frames it sends."""
        try:
            with self.context(f"client-{EVIL}").wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60)) as peer:
                peer.sendall(said[0])
                read_frame(peer)
                peer.sendall(said[1])
                while True:
                    kind, exchange, body = read_frame(peer)
                    if kind == 0:
                        for answer in answers(exchange):
                            peer.sendall(answer)
                    elif body.startswith(text("ping")):
                        peer.sendall(frame(1, 0, message("pong")))
                    elif body.startswith(text("end")):
                        return
        except OSError:
            pass

    def run_once(self, run, section, said, answers, attack=None, experiment=EXPERIMENT):
        config = self.write("exp.yaml", experiment + section)
        server, port, directory = self.server(config, run, "--set", "server.max_update_norm=1e6", "--threads", "1")
        evil = threading.Thread(target=self.evil, args=(port, said, answers), daemon=True)
        evil.start()
        stop = threading.Event()
        attackers = attack(port, stop) if attack else []
        honest = [self.client(ids, port, "--site", self.folder / "ca" / f"client-{ids}.yaml", "--retry-s", "60") for ids in ("0-3", "5")]
        peak = 0
        while server.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
                peak = max(peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")))
            except (OSError, TypeError):
                break  # it has just ended
            stop.wait(0.02)
        stop.set()
        self.finish(server)
        for process in honest:
            self.finish(process)
        for thread in [evil, *attackers]:
            thread.join(30)
        return directory, peak

    def strangers(self, port, stop):
        self.done = dict.fromkeys(("idle", "loris", "claims", "refused"), 0)

        def idle():
            held = []
            while not stop.is_set() and len(held) < CONNECTIONS:
                held.append(self.connect(port))
                self.done["idle"] += 1
            stop.wait()
            for peer in held:
                peer.close()

        def loris():
            while not stop.is_set():
                try:
                    with self.connect(port) as peer:
                        for byte in b"\x16\x03\x01\x01\x00" + bytes(200):
                            peer.sendall(bytes([byte]))
                            if stop.wait(0.05):
                                break
                except OSError:
                    self.done["loris"] += 1

        def knock(context, words):
            """Says it and listens until the server hangs up."""
            try:
                with self.connect(port, context) as peer:
                    peer.sendall(words)
                    while peer.recv(4096):
                        pass
            except OSError:
                pass
            stop.wait(0.02)

        def claims():
            while not stop.is_set():
                knock(self.context("client-5"), frame(1, 0, b"", claim=1 << 30))
                self.done["claims"] += 1

        def wrong():
            hello = frame(1, 0, message("hello", [("client", 3)]))
            ways = [(None, b"fc" + os.urandom(4096)), (None, os.urandom(8192)), (None, hello),
                    (self.context(version=ssl.TLSVersion.TLSv1_2), hello), (self.context(), hello),
                    (self.context("client-3"), hello), (self.context("client-3", "foreign"), hello), (self.context(f"client-{EVIL}"), hello)]
            for context, words in itertools.cycle(ways):
                if stop.is_set():
                    return
                knock(context, words)
                self.done["refused"] += 1

        threads = [threading.Thread(target=target, daemon=True) for target in (idle, loris, claims, wrong)]
        for thread in threads:
            thread.start()
        return threads

    @staticmethod
    def failed(round_):
        return [frame(0, round_, text("failed") + b"\1" + text("reason") + b"\3" + text("no") + b"\0")]

    def test_the_memory_of_a_server_with_a_model(self):
        section = self.certificates()
        said = self.ready_frame(MODEL)
        quiet, quiet_peak = self.run_once("quiet", section, said, self.failed, experiment=MODEL)
        attacked, peak = self.run_once("attacked", section, said, self.failed, self.strangers, MODEL)
        print(f"server's peak {quiet_peak} KiB quiet, {peak} KiB attacked: {100 * (peak / quiet_peak - 1):+.1f} %; {self.done}", flush=True)
        self.assertEqual(digests(attacked), digests(quiet))
        self.assertEqual(self.done["idle"], CONNECTIONS)
        self.assertLess(peak, 1.1 * quiet_peak)

    def test_the_run_ends_as_a_quiet_one(self):
        section = self.certificates()
        said = self.ready_frame()

        def hostile(round_):
            replayed = [update(round_ - 1, 0.25), update(round_ - 1, 0.25)] if round_ > 1 else []
            bad = [update(round_, float("nan")), update(round_, 1e30), update(round_, 0.0, SIZE - 1), update(round_, 1e5),
                   frame(0, round_, message("train")), frame(0, round_, message("update"))][round_ % 6]
            return [*replayed, bad]

        quiet, quiet_peak = self.run_once("quiet", section, said, self.failed)
        attacked, peak = self.run_once("attacked", section, said, hostile, self.strangers)
        print(f"server's peak {quiet_peak} KiB quiet, {peak} KiB attacked; {self.done}", flush=True)
        self.assertEqual(digests(attacked), digests(quiet))
        self.assertEqual([line["event"] for line in journal(attacked) if line["peer"] == EVIL and line["event"] in ("join", "leave")][:1], ["join"],
                         [line for line in journal(attacked) if line["peer"] == EVIL][:5])
        self.assertEqual(rounds(attacked)[-1]["round"], 20)
        self.assertLess(peak - quiet_peak, MORE_KIB)
        self.assertEqual(self.done["idle"], CONNECTIONS)
        for attack in ("loris", "claims", "refused"):
            self.assertGreater(self.done[attack], 0, attack)
        lines = journal(attacked)
        rejected = {line["reason"] for line in lines if line["event"] == "reject"}
        for words in ("not finite", "server.max_update_norm", "shape [767]", "where \"update\" was expected", "missing"):
            self.assertTrue(any(words in reason for reason in rejected), (words, rejected))
        self.assertEqual([line["rejected"] for line in lines if line["event"] == "round"][1:], [1] * 20)
        self.assertGreater(len([line for line in lines if line["event"] == "late" and line["peer"] == EVIL]), 20)
        refused = {line["reason"] for line in lines if line["event"] == "refuse"}
        for words in ("claims 1073741824 bytes", "plaintext", "unsupported protocol", "did not return a certificate", "certificate revoked",
                      "unable to get local issuer", f"one for client {EVIL}, not for client 3"):
            self.assertTrue(any(words in reason for reason in refused), (words, refused))


if __name__ == "__main__":
    unittest.main()
