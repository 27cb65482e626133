"""A server that lies to its clients: plans that name their files, that never end, that ask for more than the site allows. Nothing is opened
that the client's own side has not named, and the server learns no more than that the client does not take part."""
import ctypes
import os
import signal
import socket
import struct
import time
import unittest

from frames import frame, read_frame, text, varint
from fedctl import TOY, Case

UNFIT = "this client's data or model cannot be used for the plan; its own messages say why"
TABLE = "1.5,2.5,a\n3.5,4.5,b\n"
COLUMNS = "header: false, features: ['0', '1'], label: '2', classes: [a, b], holdout: 0"


def plan(model="{kind: mlp, hidden: 2, layers: 1}", data="{kind: glyphs, holdout: 0}", rounds=3, steps=1, adapter="{kind: full}", more=""):
    return (f"name: evil\nrounds: {rounds}\nmodel: {model}\nadapter: {adapter}\ndata: {data}\nclients: {{count: 1}}\n"
            f"train: {{steps: {steps}, batch_size: 1, optimizer: {{kind: sgd, lr: 0.1, momentum: 0}}}}\n{more}")


def quadratic(partition="{kind: iid}", **more):
    return plan(model="{kind: quadratic}", data=f"{{kind: quadratic_targets, clients: 1, holdout: 0, partition: {partition}}}", **more)


def control(kind, **scalars):
    body = text(kind) + varint(len(scalars))
    for name, value in sorted(scalars.items()):
        if isinstance(value, str):
            body += text(name) + b"\3" + varint(len(value.encode())) + value.encode()
        else:
            body += text(name) + (b"\1" + struct.pack("<d", value) if isinstance(value, float) else b"\0" + struct.pack("<q", value))
    return frame(1, 0, body + varint(0))


def said(peer):
    """Kind and text scalars of the next control message."""
    _, _, body = read_frame(peer)
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            at += 1
            value |= (body[at - 1] & 127) << shift
            shift += 7
            if body[at - 1] < 128:
                return value

    def word():
        nonlocal at
        size = number()
        at += size
        return body[at - size:at].decode()

    kind, texts = word(), {}
    for _ in range(number()):
        name, at = word(), at + 1
        if body[at - 1] == 3:
            texts[name] = word()
        else:
            at += 1 if body[at - 1] == 2 else 8
    return kind, texts


class Watch:
    """Every opening and reading of a file in some folders, as the kernel reports it (inotify)."""
    def __init__(self, *folders):
        libc = ctypes.CDLL(None, use_errno=True)
        self.file = libc.inotify_init1(os.O_NONBLOCK)
        for folder in folders:
            assert libc.inotify_add_watch(self.file, str(folder).encode(), 0x1 | 0x20) >= 0  # IN_ACCESS, IN_OPEN

    def names(self):
        try:
            events = os.read(self.file, 65536)
        except BlockingIOError:
            return set()
        names = set()
        while events:
            size = struct.unpack("=iIII", events[:16])[3]
            names.add(events[16:16 + size].rstrip(b"\0").decode())
            events = events[16 + size:]
        return names

    def close(self):
        os.close(self.file)


class HostileServer(Case):
    def setUp(self):
        super().setUp()
        self.private = self.folder / "private"
        self.private.mkdir()
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        for name in ("table.csv", "vocab.txt", "deal"):
            (self.private / name).write_text(TABLE)
        (self.shared / "table.csv").write_text(TABLE)
        (self.shared / "link.csv").symlink_to(self.private / "table.csv")
        os.mkfifo(self.shared / "pipe.csv")
        self.watch = Watch(self.private)
        self.addCleanup(self.watch.close)

    def answer(self, experiment, *options):
        """What a client says to the plan, its exit status (None if it stays) and its messages."""
        with socket.create_server(("127.0.0.1", 0)) as ear:
            ear.settimeout(20)
            client = self.start("client", "--id", "0", "--server", f"127.0.0.1:{ear.getsockname()[1]}", "--threads", "1", *options)
            peer, _ = ear.accept()
            with peer:
                peer.settimeout(20)
                said(peer)
                peer.sendall(control("plan", experiment=experiment, idle_s=30.0, run=7))
                kind, texts = said(peer)
        if kind == "ready":
            client.kill()
        _, err = client.communicate(timeout=20)
        return kind, texts, client.returncode, err

    def declined(self, experiment, *options, key, path, status=3):
        """The server hears the one sentence; the people here hear which key and which path."""
        kind, texts, code, err = self.answer(experiment, *options)
        self.assertEqual((kind, texts, code), ("decline", {"reason": UNFIT}, status), err)
        self.assertIn(f"{key} is {path}", err)
        self.assertIn(f"--allow-path {os.path.abspath(path)}", err)
        self.assertIn(f"policy: {{paths: [{os.path.abspath(path)}]}}", err)
        self.assertEqual(self.watch.names(), set(), f"{key}: a private file was opened")

    def test_no_key_of_a_plan_opens_a_file(self):
        own = f"path: {self.shared}/table.csv"
        allowed = ("--allow-path", self.shared)
        for name in ("table.csv", "vocab.txt", "deal", "absent", "../private/table.csv", "../shared/../private/deal", ""):
            path = f"{self.private}/{name}"
            for key, experiment, options in (
                    ("data.path", plan(data=f"{{kind: csv, path: {path}, {COLUMNS}}}"), ()),
                    ("data.path", plan(data=f"{{kind: idx, path: {path}}}"), allowed),
                    ("data.path", plan(data=f"{{kind: wav, path: {path}}}", model="{kind: kwt}", adapter="{kind: head}"), ()),
                    ("data.test", plan(data=f"{{kind: csv, {own}, test: {path}, {COLUMNS}}}"), allowed),
                    ("data.tokenizer", plan(data=f"{{kind: csv, {own}, tokenizer: {path}, label: a}}", model="{kind: bert}", adapter="{kind: head}"),
                     allowed),
                    ("data.partition.path", quadratic(f"{{kind: file, path: {path}}}"), allowed),
                    ("model.path", plan(model=f"{{kind: vit, path: {path}}}", adapter="{kind: head}"), allowed),
                    ("adapter.path", plan(model="{kind: vit}", adapter=f"{{kind: lora, path: {path}}}"), ())):
                with self.subTest(key, name=name):
                    self.declined(experiment, *options, key=key, path=path)

    def test_what_is_no_file_is_not_waited_for(self):
        for path in ("/dev/zero", "/proc/self/mem", "/proc/self/environ", "/etc/shadow"):
            with self.subTest(path):
                self.declined(quadratic(f"{{kind: file, path: {path}}}"), key="data.partition.path", path=path)
        # A pipe and an endless device that the site has allowed are refused all the same, and at once.
        for path in (f"{self.shared}/pipe.csv", "/dev/zero"):
            for experiment in (quadratic(f"{{kind: file, path: {path}}}"), plan(data=f"{{kind: csv, path: {path}, {COLUMNS}}}"),
                               plan(data=f"{{kind: safetensors, path: {path}}}"), plan(data=f"{{kind: cifar, path: {path}}}")):
                with self.subTest(path, experiment=experiment):
                    kind, texts, code, err = self.answer(experiment, "--allow-path", path)
                    self.assertEqual((kind, texts, code), ("decline", {"reason": UNFIT}, 5), err)

    def test_what_the_server_alone_opens_needs_no_leave(self):
        public = f"{{kind: csv, path: {self.private}/table.csv, {COLUMNS.replace(', holdout: 0', '')}}}"
        kind, _, _, err = self.answer(plan(data=f"{{kind: csv, path: {self.shared}/table.csv, {COLUMNS}}}",
                                           more=f"method: {{kind: meerkat, public: [{public}]}}\n"), "--allow-path", self.shared)
        self.assertEqual(kind, "ready", err)
        self.assertEqual(self.watch.names(), set())

    def test_links_lead_no_further_than_the_path_itself(self):
        link = f"{self.shared}/link.csv"
        self.declined(plan(data=f"{{kind: csv, path: {link}, {COLUMNS}}}"), "--allow-path", self.shared, key="data.path", path=link)
        (self.folder / "way").symlink_to(self.private)
        path = f"{self.folder}/way/table.csv"
        self.declined(plan(data=f"{{kind: csv, path: {path}, {COLUMNS}}}"), "--allow-path", self.shared, key="data.path", path=path)
        # A link that the site itself has named is what it wants.
        kind, _, _, err = self.answer(plan(data=f"{{kind: csv, path: {path}, {COLUMNS}}}"), "--allow-path", self.folder / "way")
        self.assertEqual(kind, "ready", err)
        kind, _, _, err = self.answer(plan(data=f"{{kind: csv, path: {self.private}/table.csv, {COLUMNS}}}"), "--allow-path", self.folder / "way")
        self.assertEqual(kind, "ready", err)

    def test_ways_to_allow(self):
        experiment = plan(data=f"{{kind: csv, path: {self.shared}/table.csv, {COLUMNS}}}")
        relative = self.write("relative.yaml", "policy: {paths: [shared]}\n")  # from where the site file is
        exact = self.write("exact.yaml", f"policy: {{paths: [{self.shared}/table.csv]}}\n")
        own = self.write("own.yaml", "data: {path: shared/table.csv}\n")
        for options in (("--allow-path", self.shared), ("--allow-path", f"{self.shared}/"), ("--allow-path", self.private, "--allow-path", self.folder),
                        ("--site", relative), ("--site", exact), ("--site", own)):
            with self.subTest(options):
                kind, _, _, err = self.answer(experiment, *options)
                self.assertEqual(kind, "ready", err)
        beside = f"{self.shared}2/table.csv"
        self.declined(plan(data=f"{{kind: csv, path: {beside}, {COLUMNS}}}"), "--allow-path", self.shared, key="data.path", path=beside)

    def test_own_data_stand_in_for_all_of_the_servers(self):
        site = self.write("site.yaml", "data: {path: shared/table.csv}\n")
        secret = f"{self.private}/table.csv"
        kind, _, _, err = self.answer(plan(data=f"{{kind: csv, path: /nowhere, test: {secret}, partition: {{kind: file, path: {secret}}}, {COLUMNS}}}"),
                                      "--site", site)
        self.assertEqual(kind, "ready", err)
        self.assertEqual(self.watch.names(), set())
        kind, texts, code, err = self.answer(plan(), "--site", site)
        self.assertEqual((kind, texts, code), ("decline", {"reason": UNFIT}, 2), err)
        self.assertIn("data.path, which this plan lacks", err)

    def test_what_is_wrong_with_a_file_stays_here(self):
        for text_of_file, columns, fault in (("1.5,2.5,secret\n", COLUMNS, "secret"), ("1,2\n", COLUMNS, "table.csv:1"),
                                             (TABLE, COLUMNS.replace("['0', '1']", "['0', '7']"), "no column")):
            with self.subTest(fault):
                (self.shared / "table.csv").write_text(text_of_file)
                kind, texts, code, err = self.answer(plan(data=f"{{kind: csv, path: {self.shared}/table.csv, {columns}}}"), "--allow-path", self.shared)
                self.assertEqual((kind, texts, code), ("decline", {"reason": UNFIT}, 5), err)
                self.assertIn(fault, err)

    def test_time_that_a_site_does_not_give(self):
        site = self.write("site.yaml", "policy: {max_rounds: 100, max_steps: 50}\n")
        for experiment, word in ((quadratic(rounds=101), "policy.max_rounds 100: the plan has 101 rounds"),
                                 (quadratic(steps=51), "policy.max_steps 50: the plan asks for more"),
                                 (TOY.replace("steps: 5", "epochs: 51"), "policy.max_steps 50: the plan asks for more"),
                                 (plan(data="{kind: glyphs, hands: 1000000, per_hand: 100000}"), "more than 5000000 images")):
            with self.subTest(word):
                kind, texts, code, err = self.answer(experiment, "--site", site)
                self.assertEqual((kind, code), ("decline", 3 if "policy" in word else 2), err)
                self.assertIn(word, texts["reason"])
                self.assertIn(word, err)
        for experiment in (quadratic(rounds=100, steps=50), TOY.replace("steps: 5", "epochs: 50")):
            kind, _, _, err = self.answer(experiment, "--site", site)
            self.assertEqual(kind, "ready", err)

    def test_a_signal_ends_what_never_ends(self):
        weights = [0.0] * (24 * 32)
        question = (text("train") + varint(1) + text("round") + b"\0" + struct.pack("<q", 1) + varint(1) + text("weights") + b"\0\1"
                    + varint(len(weights)) + struct.pack(f"<{len(weights)}f", *weights) + b"")
        for experiment, asked in ((TOY.replace("steps: 5", "steps: 1000000000"), True),
                                  (plan(data="{kind: glyphs, hands: 50000, per_hand: 100, test_per_class: 0, holdout: 0}"), False)):
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(asked=asked, signal=number), socket.create_server(("127.0.0.1", 0)) as ear:
                    ear.settimeout(20)
                    client = self.start("client", "--id", "0", "--server", f"127.0.0.1:{ear.getsockname()[1]}", "--threads", "1", "--verbose")
                    peer, _ = ear.accept()
                    with peer:
                        peer.settimeout(20)
                        said(peer)
                        peer.sendall(control("plan", experiment=experiment, idle_s=60.0, run=7))
                        if asked:
                            self.assertEqual(said(peer)[0], "ready")
                            peer.sendall(control("welcome") + frame(0, 1, question))
                            self.assertIn("round 1", client.stderr.readline())
                        begun = time.monotonic()
                        client.send_signal(number)
                        self.assertEqual(client.wait(10), 128 + number)
                        self.assertLess(time.monotonic() - begun, 4)


if __name__ == "__main__":
    unittest.main()
