"""`fedctl ca` killed before each single call that changes a file: what is there is good for servers and clients at once, and for the next command."""
import os
import pathlib
import shutil
import ssl
import unittest

from fedctl import FEDCTL, Case, ca

LIBRARY = pathlib.Path(FEDCTL).parent.parent / "tests" / "libfailing_disk.so"


def handshake(folder, server, client):
    """A TLS handshake in memory of two who trust the authority of the folder, as it is now; raises ssl.SSLError if one refuses."""
    def context(protocol, files):
        made = ssl.SSLContext(protocol)
        made.load_cert_chain(f"{files}.pem", f"{files}.key")
        made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
        made.load_verify_locations(folder / "authority.pem")
        made.load_verify_locations(folder / "revoked.pem")
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return made
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [context(ssl.PROTOCOL_TLS_SERVER, server).wrap_bio(up, down, server_side=True), context(ssl.PROTOCOL_TLS_CLIENT, client).wrap_bio(down, up)]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
                end.read(1) if end.server_side else None
            except ssl.SSLWantReadError:
                pass


@unittest.skipUnless(LIBRARY.exists(), f"{LIBRARY} is not built")
class Killed(Case):
    def setUp(self):
        super().setUp()
        self.base = self.folder / "base"
        ca(self.base, "init")
        ca(self.base, "issue", "--server", "127.0.0.1")
        ca(self.base, "issue", "--ids", "0-3")
        self.own = self.folder / "ca"

    def new(self, rotated=False):
        shutil.rmtree(self.own, ignore_errors=True)
        shutil.copytree(self.base, self.own)
        if rotated:
            ca(self.own, "rotate")

    def killed(self, at, *words):
        """Runs the command, killed before its call number `at`; False if it has fewer."""
        env = {**os.environ, "LD_PRELOAD": str(LIBRARY), "FAILING_DISK_FOLDER": str(self.folder), "FAILING_DISK_KIND": "kill", "FAILING_DISK_AT": str(at)}
        status, _, err = self.run_fedctl("ca", *words, "--dir", self.own, env=env)
        self.assertIn(status, (0, -9), err)
        return status == -9

    def every_kill(self, *words, rotated=False):
        at = 1
        while True:
            self.new(rotated)
            if not self.killed(at, *words):
                break
            with self.subTest(words, at=at):
                yield at
            at += 1
        self.assertGreater(at, 4, "the library has not seen the command")

    def again(self, *words, done="is there already"):
        """The same command once more: it works, or had been killed behind its last change."""
        status, _, err = self.run_fedctl("ca", *words, "--dir", self.own)
        self.assertTrue(status == 0 or done in err, err)

    def require_well(self):
        """New certificates are good, and nothing of the interruption is left."""
        for ids in ("7", "8-9"):
            ca(self.own, "issue", "--ids", ids, "--out", self.own / "new")
        ca(self.own, "issue", "--server", "127.0.0.1", "--out", self.own / "new")
        handshake(self.own, self.own / "new/server", self.own / "new/client-7")
        ca(self.own, "revoke", "--id", "7")
        with self.assertRaises(ssl.SSLError):
            handshake(self.own, self.own / "new/server", self.own / "new/client-7")
        handshake(self.own, self.own / "new/server", self.own / "new/client-8-9")
        self.assertEqual([name for name in os.listdir(self.own) if name == "next.key"], [])

    def test_rotate(self):
        for _ in self.every_kill("rotate"):
            handshake(self.own, self.own / "server", self.own / "client-0-3")  # both of before, at any time
            self.require_well()
            handshake(self.own, self.own / "new/server", self.own / "client-0-3")
            self.again("rotate", done="a rotation is under way")
            ca(self.own, "issue", "--server", "127.0.0.1", "--out", self.own / "later")
            ca(self.own, "issue", "--ids", "5", "--out", self.own / "later")
            ca(self.own, "rotate", "--finish")
            handshake(self.own, self.own / "later/server", self.own / "later/client-5")
            with self.assertRaises(ssl.SSLError):
                handshake(self.own, self.own / "later/server", self.own / "client-0-3")

    def test_finish(self):
        for _ in self.every_kill("rotate", "--finish", rotated=True):
            self.require_well()
            self.again("rotate", "--finish", done="no rotation is under way")
            handshake(self.own, self.own / "new/server", self.own / "new/client-8-9")
            with self.assertRaises(ssl.SSLError):
                handshake(self.own, self.own / "new/server", self.own / "client-0-3")
            self.assertFalse((self.own / "previous.key").exists())
            ca(self.own, "rotate")  # and so on

    def test_issue(self):
        for words in (("issue", "--id", "2", "--out", self.folder / "kit"), ("issue", "--server", "127.0.0.1", "--out", self.folder / "kit")):
            for _ in self.every_kill(*words):
                self.again(*words)
                kit, other = self.folder / "kit", self.own
                client, server = (kit / "client-2", other / "server") if "--id" in words else (other / "client-0-3", kit / "server")
                handshake(self.own, server, client)
                if "--id" in words:
                    self.assertIn("certificate: client-2.pem", (kit / "client-2.yaml").read_text())
                self.require_well()
                shutil.rmtree(kit)
            shutil.rmtree(self.folder / "kit", ignore_errors=True)

    def test_revoke(self):
        for _ in self.every_kill("revoke", "--ids", "0-3"):
            ca(self.own, "revoke", "--ids", "0-3")
            with self.assertRaises(ssl.SSLError):
                handshake(self.own, self.own / "server", self.own / "client-0-3")
            self.require_well()

    def test_init(self):
        at = 1
        while True:
            shutil.rmtree(self.own, ignore_errors=True)
            if not self.killed(at, "init"):
                break
            with self.subTest(at=at):
                self.again("init")
                self.require_well()
            at += 1
        self.assertGreater(at, 4)


class Kit(Case):
    def test_the_folder_of_issue_is_all_that_a_client_needs(self):
        ca(self.folder / "ca", "init")
        ca(self.folder / "ca", "issue", "--ids", "0-1", "--out", str(self.folder / "kit"))
        (self.folder / "machine").mkdir()
        shutil.move(self.folder / "kit", self.folder / "machine/kit")
        shutil.move(self.folder / "ca", self.folder / "elsewhere")
        status, _, err = self.run_fedctl("client", "--id", "0", "--server", "127.0.0.1:1", "--site", "kit/client-0-1.yaml",
                                         cwd=self.folder / "machine")
        self.assertEqual(status, 3, err)
        self.assertIn("cannot connect", err)
        ca(self.folder / "other", "init")
        status, _, err = self.run_fedctl("ca", "issue", "--id", "5", "--dir", self.folder / "elsewhere", "--out", self.folder / "other")
        self.assertEqual(status, 2, err)
        self.assertIn("holds another authority", err)

    def test_what_a_site_has_added_stays(self):
        folder = self.folder / "ca"
        ca(folder, "init")
        ca(folder, "issue", "--id", "3")
        site = folder / "client-3.yaml"
        site.write_text(site.read_text() + "policy: {max_steps: 10}\n")
        for name in ("client-3.pem", "client-3.key"):
            (folder / name).unlink()
        ca(folder, "issue", "--id", "3")
        self.assertIn("max_steps: 10", site.read_text())


if __name__ == "__main__":
    unittest.main()
