"""Mutual TLS: three commands to set it up, who is let in, what the bytes are, revocation and rotation while a run goes on."""
import os
import pathlib
import shutil
import socket
import ssl
import unittest

from fedctl import FEDCTL, GLYPHS, TOY, Case, CountingProxy, digests, events, journal, rounds, wait_until

SLOW = TOY.replace("steps: 5", "steps: 20000").replace("rounds: 5", "rounds: 8").replace("quorum: 1.0", "quorum: 0.5")


class Tls(Case):
    def ca(self, *arguments, status=0):
        code, out, err = self.run_fedctl("ca", *arguments, "--dir", self.folder / "ca")
        self.assertEqual(code, status, err)
        return out if status == 0 else err

    def set_up(self, *clients, algorithm="ed25519"):
        """An authority, a server's certificate and one for each of the clients; returns the experiment's server section."""
        self.ca("init", "--algorithm", algorithm)
        server = self.ca("issue", "--server", "127.0.0.1", "--server", "localhost", "--algorithm", algorithm)
        for ids in clients:
            self.ca("issue", "--ids", ids, "--algorithm", algorithm)
        return server

    def site(self, ids):
        return self.folder / "ca" / f"client-{ids}.yaml"

    def secure(self, ids, port, *more, site=None):
        return self.client(ids, port, "--site", site or self.site(ids), *more)

    def test_the_run_is_the_same_and_every_byte_is_the_kernels(self):
        for algorithm in ("ed25519", "p256"):
            with self.subTest(algorithm):
                shutil.rmtree(self.folder / "ca", ignore_errors=True)
                plain = self.write("plain.yaml", GLYPHS)
                config = self.write("exp.yaml", GLYPHS + self.set_up("0-3", "4-7", algorithm=algorithm))
                counts = self.folder / f"{algorithm}.bytes"
                library = pathlib.Path(FEDCTL).parents[1] / "tests" / "libkernel_bytes.so"
                environment = {**os.environ, "LD_PRELOAD": str(library), "KERNEL_BYTES": str(counts)}
                port_file = self.folder / f"{algorithm}.port"
                directory = self.folder / algorithm
                server = self.start("server", "--config", config, "--run-dir", directory, "--listen", "127.0.0.1:0",
                                    "--port-file", port_file, env=environment)
                wait_until(port_file.exists, "the port")
                port = int(port_file.read_text())
                clients = [self.secure(ids, port) for ids in ("0-3", "4-7")]
                for process in [server, *clients]:
                    self.finish(process)
                status, _, err = self.run_fedctl("simulate", "--config", plain, "--run-dir", self.folder / "plain", "--fresh")
                self.assertEqual(status, 0, err)
                self.assertEqual(digests(directory), digests(self.folder / "plain"))
                end = events(directory, "end")[-1]
                kernel = [list(map(int, line.split())) for line in counts.read_text().splitlines()]
                self.assertEqual(len(kernel), 8)
                # The kernel counts the mark at the end of a stream as one byte.
                self.assertEqual(end["bytes_up_total"], sum(line[0] - 1 for line in kernel))
                self.assertEqual(end["bytes_down_total"], sum(line[1] for line in kernel))
                for line in rounds(directory)[1:]:
                    for way in ("up", "down"):
                        parts = line["bytes"][way]
                        self.assertGreater(parts["tls"], 0)
                        self.assertEqual(sum(parts.values()), line[f"bytes_{way}"])
                self.signatures(directory)

    def signatures(self, directory):
        """A journal that was replaced together with its chain is found by the signature; another authority's is none."""
        authority = self.folder / "ca" / "authority.pem"
        status, out, err = self.run_fedctl("verify", directory, "--authority", authority)
        self.assertEqual(status, 0, err)
        self.assertIn(f"{len(journal(directory))} lines signed", out)
        status, _, err = self.run_fedctl("verify", self.folder / "plain", "--authority", authority)
        self.assertEqual(status, 6)
        self.assertIn("journal.signature: is not there", err)
        stranger = self.folder / f"{directory.name}-stranger"
        self.assertEqual(self.run_fedctl("ca", "init", "--dir", stranger)[0], 0)
        status, _, err = self.run_fedctl("verify", directory, "--authority", stranger / "authority.pem")
        self.assertEqual(status, 6)
        self.assertIn("its certificate", err)
        for name in ("journal.jsonl", "journal.chain", "checkpoint", "adapter"):  # consistent in itself, and another run's
            target = directory / name
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            source = self.folder / "plain" / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        status, _, err = self.run_fedctl("verify", directory)
        self.assertEqual(status, 6)
        self.assertIn("journal.signature: ", err)

    def test_who_is_not_let_in(self):
        config = self.write("exp.yaml", SLOW + self.set_up("0-5", "3", "4"))
        self.ca("revoke", "--certificate", self.folder / "ca" / "client-4.pem")
        foreign = self.folder / "foreign"
        for arguments in (["init"], ["issue", "--id", "3"]):
            self.assertEqual(self.run_fedctl("ca", *arguments, "--dir", foreign)[0], 0)
        shutil.copy(self.folder / "ca" / "authority.pem", foreign / "authority.pem")  # it trusts the server
        server, port, directory = self.server(config)

        def refused(client, *words):
            _, err = self.finish(client, 3)
            for word in words:
                self.assertIn(word, err)

        refused(self.secure("3", port, site=foreign / "client-3.yaml"), "TLS: the other side refuses", "unknown ca")
        refused(self.secure("4", port), "TLS: the other side refuses", "certificate revoked")
        refused(self.secure("5", port, site=self.site("3")), "the certificate is one for client 3, not for client 5")
        refused(self.client("3", port), "plaintext, and this server speaks TLS alone")
        refused(self.secure("0", port, site=self.write("mute.yaml", "tls: {}\n")), "plaintext")

        # A client without a certificate, and one that speaks TLS 1.2.
        for version, shown in ((ssl.TLSVersion.TLSv1_3, "peer did not return a certificate"),
                               (ssl.TLSVersion.TLSv1_2, "unsupported protocol")):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = version
            with socket.create_connection(("127.0.0.1", port)) as raw:
                with self.assertRaises((ssl.SSLError, ConnectionError)):
                    with context.wrap_socket(raw) as secured:
                        secured.recv(1)
                        raise ConnectionError("hung up")
            wait_until(lambda: any(shown in line["reason"] for line in events(directory, "refuse")), shown)

        # The client will not talk to a server of another authority, nor to one of another name.
        strange = (foreign / "client-3.yaml").read_text().replace("authority.pem", "own.pem")
        self.run_fedctl("ca", "init", "--dir", self.folder / "third")
        shutil.copy(self.folder / "third" / "authority.pem", foreign / "own.pem")
        (foreign / "strange.yaml").write_text(strange)
        refused(self.secure("3", port, site=foreign / "strange.yaml"), "self-signed certificate")
        status, _, err = self.run_fedctl("client", "--id", "3", "--server", f"127.0.0.2:{port}", "--site", self.site("3"))
        self.assertEqual(status, 3)

        good = self.secure("0-5", port)
        self.finish(server)
        self.finish(good)
        self.assertEqual(rounds(directory)[-1]["round"], 8)

    def test_files_that_cannot_be_used(self):
        section = self.set_up("3")
        config = self.write("exp.yaml", TOY + section)
        key = self.folder / "ca" / "server.key"
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        key.chmod(0o640)
        status, _, err = self.run_fedctl("server", "--config", config, "--run-dir", self.folder / "r1")
        self.assertEqual(status, 2)
        self.assertIn("server.tls.key", err)
        self.assertIn("chmod 600", err)
        key.chmod(0o600)
        for word, text in (("server.tls.authority is missing", section.replace("authority:", "#")),
                           ("is not the key of", section.replace("server.key", "client-3.key")),
                           ("holds no certificate", section.replace("server.pem", "server.key")),
                           ("cannot be read", section.replace("revoked.pem", "nothing.pem"))):
            status, _, err = self.run_fedctl("server", "--config", self.write("bad.yaml", TOY + text),
                                             "--run-dir", self.folder / "r2", "--fresh")
            self.assertEqual(status, 2, err)
            self.assertIn(word, err)
        for arguments, word in ((["init"], "is there already"), (["issue"], "give --ids A-B or --server HOST"),
                                (["issue", "--id", "3"], "is there already"), (["issue", "--server", "a,b"], "no host name"),
                                (["revoke", "--id", "77"], "no certificate was issued"), (["rotate", "--finish"], "no rotation"),
                                (["issue", "--id", "9", "--days", "-4"], "--days"), (["melt"], "unknown action")):
            self.assertIn(word, self.ca(*arguments, status=2))
        status, _, err = self.run_fedctl("server", "--config", self.write("open.yaml", TOY), "--listen", "0.0.0.0:0",
                                         "--run-dir", self.folder / "r3")
        self.assertEqual(status, 2)
        self.assertIn("not a loopback address", err)

    def test_revoked_while_it_takes_part(self):
        config = self.write("exp.yaml", SLOW.replace("rounds: 8", "rounds: 40") + self.set_up("0-4", "5"))
        server, port, directory = self.server(config, "run", "--set", "server.idle_s=2")
        good, bad = self.secure("0-4", port), self.secure("5", port)
        wait_until(lambda: len(rounds(directory)) > 2, "two rounds")
        self.assertIn("revoked", self.ca("revoke", "--id", "5"))
        _, err = self.finish(bad, 3)
        self.assertIn("certificate revoked", err)
        self.finish(server)
        self.finish(good)
        leave = [line for line in events(directory, "leave") if line["peer"] == 5]
        self.assertIn("certificate revoked", leave[0]["reason"])
        self.assertEqual(rounds(directory)[-1]["replied"], 5)

    def test_rotation_during_a_run_and_short_handshakes(self):
        text = SLOW.replace("rounds: 8", "rounds: 30").replace("deadline_s: 20", "deadline_s: 60")
        config = self.write("exp.yaml", text + self.set_up("0-5"))
        server, port, directory = self.server(config)
        proxy = CountingProxy(port)
        self.addCleanup(proxy.close)
        client = self.secure("0-5", proxy.port)
        wait_until(lambda: len(rounds(directory)) > 2, "two rounds")

        def reconnect(joins):
            before = len(proxy.streams)
            proxy.cut()
            wait_until(lambda: len(events(directory, "join")) == joins, f"{joins} joins")
            return before

        at = reconnect(12)
        sizes = self.handshake_bytes(proxy.streams[:6] + proxy.streams[at:at + 6])
        full, short = sizes[:6], sizes[6:]
        print(f"the server's side of a handshake: {max(full)} bytes, with a ticket {max(short)}", flush=True)
        self.assertLess(max(short), 0.5 * min(full), "a ticket makes the handshake shorter")
        # Another authority: both sides get new certificates while the run goes on, then the old one is dropped.
        self.ca("rotate")
        ca = self.folder / "ca"
        for name in ("server", "client-0-5"):
            for ending in (".pem", ".key"):
                (ca / (name + ending)).unlink()
        self.ca("issue", "--server", "127.0.0.1")
        self.ca("issue", "--ids", "0-5")
        reconnect(18)
        self.ca("rotate", "--finish")
        reconnect(24)
        self.finish(server, limit_s=300)
        self.finish(client)
        self.assertEqual(rounds(directory)[-1]["round"], 30)
        self.assertEqual(sum(line["lost"] for line in rounds(directory)), 0)

    @staticmethod
    def handshake_bytes(streams):
        """What the server says on each connection before the plan, which is the first long record that all of them have in common."""
        records = []  # of each stream: (start, length)
        for _, down in streams:
            at, found = 0, []
            while at + 5 <= len(down) and len(found) < 12:
                found.append((at, int.from_bytes(down[at + 3:at + 5], "big")))
                at += 5 + found[-1][1]
            records.append(found)
        common = set.intersection(*({length for _, length in found if length > 300} for found in records))
        plan = next(length for _, length in records[0] if length in common)
        return [next(start for start, length in found if length == plan) for found in records]


if __name__ == "__main__":
    unittest.main()
