"""Many clients of one experiment in one process, as fast as a server lets them: they speak the protocol (docs/protocol.md), train nothing
and answer every question with the same update. What a server's memory and time are measured against when no host could hold so many
clients that train. `python3 swarm.py PORT FIRST COUNT VALUES READY_HEX`; READY_HEX: the body of a "ready" that the server accepts."""
import hashlib
import selectors
import socket
import struct
import sys
import zlib

CHUNK = 256 << 10


def varint(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def text(word):
    return varint(len(word)) + word.encode()


def message(kind, scalars=()):
    body = text(kind) + varint(len(scalars))
    for name, value in sorted(scalars):
        body += text(name)
        if isinstance(value, str):
            body += b"\3" + text(value)
        else:
            body += b"\1" + struct.pack("<d", value) if isinstance(value, float) else b"\0" + struct.pack("<q", value)
    return body


def frame(kind, exchange, *parts):
    head = b"fc\1" + bytes([kind]) + struct.pack("<IQ", sum(map(len, parts)), exchange)
    crc = zlib.crc32(head)
    for part in parts:
        crc = zlib.crc32(part, crc)
    return head + struct.pack("<I", crc)


def update(exchange, values):
    """The frames of an answer, as buffers to be sent one after the other."""
    head = message("update", [("examples", 1), ("loss", 0.5), ("steps", 1)]) + varint(1) + text("delta") + b"\0\1" + varint(values)
    data = struct.pack("<f", 0.001) * values
    whole = frame(0, exchange, head, data) + head + data
    if len(whole) <= CHUNK:
        return [memoryview(whole)]
    count, out = -(-len(whole) // CHUNK), []
    checks = [zlib.crc32(whole[at:at + CHUNK]) for at in range(0, len(whole), CHUNK)]
    name = hashlib.blake2b(struct.pack(f"<Q{count}I", len(whole), *checks), digest_size=32).digest()[:16]
    for index in range(count):
        piece = memoryview(whole)[index * CHUNK:(index + 1) * CHUNK]
        front = name + struct.pack("<III", index, count, len(whole) - len(data))
        out += [memoryview(frame(2, exchange, front, piece) + front), piece]
    return out


class Client:
    def __init__(self, swarm, number):
        self.swarm, self.number, self.out = swarm, number, []
        self.head, self.body, self.left = bytearray(), bytearray(), 0
        self.socket = socket.create_connection(("127.0.0.1", swarm.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        swarm.selector.register(self.socket, selectors.EVENT_READ, self)
        body = message("hello", [("client", number), ("version", "swarm")]) + varint(0)
        self.send([memoryview(frame(1, 0, body) + body)])

    def send(self, buffers):
        self.out += buffers
        self.write()

    def write(self):
        try:
            while self.out:
                sent = self.socket.send(self.out[0])
                self.out[0] = self.out[0][sent:]
                if not self.out[0]:
                    self.out.pop(0)
        except BlockingIOError:
            pass
        want = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
        if self.swarm.selector.get_key(self.socket).events != want:
            self.swarm.selector.modify(self.socket, want, self)

    def read(self):
        buffer = self.swarm.buffer
        try:
            got = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        if got == 0:
            raise ConnectionError(f"client {self.number}: the server hung up")
        at = 0
        while at < got:
            if len(self.head) < 20:
                take = min(20 - len(self.head), got - at)
                self.head += buffer[at:at + take]
                at += take
                if len(self.head) < 20:
                    return
                self.left = struct.unpack("<I", self.head[4:8])[0]
            take = min(self.left, got - at)
            self.body += buffer[at:at + min(take, max(0, 64 - len(self.body)))]
            at += take
            self.left -= take
            if self.left == 0:
                kind, exchange = self.head[3], struct.unpack("<Q", self.head[8:16])[0]
                body = bytes(self.body)
                self.head, self.body = bytearray(), bytearray()
                self.heard(kind, exchange, body)

    def heard(self, kind, exchange, body):
        if kind == 2:
            index, count = struct.unpack("<II", body[16:24])
            kind = 0 if index + 1 == count else 2
        if kind == 0:
            self.send(self.swarm.answer(exchange))
        elif kind == 1 and body.startswith(text("plan")):
            self.send([memoryview(frame(1, 0, self.swarm.ready) + self.swarm.ready)])
        elif kind == 1 and body.startswith(text("ping")):
            pong = message("pong") + varint(0)
            self.send([memoryview(frame(1, 0, pong) + pong)])
        elif kind == 1 and body.startswith(text("refuse")):
            raise ConnectionError(f"client {self.number}: refused: {body}")
        elif kind == 1 and body.startswith(text("end")):
            self.swarm.selector.unregister(self.socket)
            self.socket.close()
            self.swarm.open -= 1


class Swarm:
    def __init__(self, port, first, count, values, ready):
        self.port, self.values, self.ready = port, values, ready
        self.selector, self.buffer = selectors.DefaultSelector(), memoryview(bytearray(256 << 10))
        self.answers, self.open, self.waiting = {}, count, list(range(first, first + count))[::-1]

    def answer(self, exchange):
        if exchange not in self.answers:
            self.answers = {exchange: update(exchange, self.values)}
        return list(self.answers[exchange])

    def run(self):
        while self.open:
            for _ in range(min(16, len(self.waiting))):
                Client(self, self.waiting.pop())
            for key, events in self.selector.select(0 if self.waiting else None):
                if events & selectors.EVENT_WRITE:
                    key.data.write()
                if events & selectors.EVENT_READ:
                    key.data.read()


if __name__ == "__main__":
    Swarm(*map(int, sys.argv[1:5]), bytes.fromhex(sys.argv[5])).run()
