#!/usr/bin/env python3
"""Known answers for lib/math/normals.hpp, in double from the definition in its header: prints key, index, value."""
import math


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [right >> 32 ^ c[1] ^ k[0], right & 0xFFFFFFFF, left >> 32 ^ c[3] ^ k[1], left & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def normal(key, i):
    word, block = i % 256 // 64, i // 256 * 64 + i % 64
    words = philox([block & 0xFFFFFFFF, block >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32])
    a, b = words[word // 2 * 2 : word // 2 * 2 + 2]
    radius = math.sqrt(-2 * math.log(((a >> 8) + 1) * 2.0**-24))
    angle = 2 * math.pi * b / 2**32
    return radius * (math.cos(angle) if word % 2 == 0 else math.sin(angle))


for key, i in ((0, 0), (0, 63), (0, 64), (0, 128), (0, 255), (0, 256), (0x0123456789ABCDEF, 1),
               (0x0123456789ABCDEF, 1000003), (2**64 - 1, 2**40 + 77)):
    print(f"{{0x{key:x}U, {i}, {normal(key, i):.9f}}},")
