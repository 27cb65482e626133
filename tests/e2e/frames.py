"""Messages and frames of docs/protocol.md, for the tests that speak for a client or a server themselves."""
import struct
import zlib

DATA, CONTROL = 0, 1


def varint(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def text(word):
    word = word if isinstance(word, bytes) else word.encode()
    return varint(len(word)) + word


def scalar(value):
    if isinstance(value, bool):
        return b"\2" + bytes([value])
    if isinstance(value, int):
        return b"\0" + struct.pack("<q", value)
    if isinstance(value, float):
        return b"\1" + struct.pack("<d", value)
    return b"\3" + text(value)


def message(kind, scalars=(), tensors=()):
    """docs/protocol.md, "Message"; tensors are lists of floats, one axis each."""
    body = text(kind) + varint(len(scalars))
    for name, value in sorted(scalars):
        body += text(name) + scalar(value)
    body += varint(len(tensors))
    for name, values in tensors:
        body += text(name) + b"\0\1" + varint(len(values)) + struct.pack(f"<{len(values)}f", *values)
    return body


def frame(kind, exchange, body, claim=None):
    head = b"fc\1" + bytes([kind]) + struct.pack("<IQ", len(body) if claim is None else claim, exchange)
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


def control(kind, **scalars):
    return frame(CONTROL, 0, message(kind, scalars.items()))


def read_frame(peer):
    def exactly(count):
        data = b""
        while len(data) < count:
            piece = peer.recv(count - len(data))
            if not piece:
                raise ConnectionError("hung up")
            data += piece
        return data
    head = exactly(20)
    return head[3], struct.unpack("<Q", head[8:16])[0], exactly(struct.unpack("<I", head[4:8])[0])
