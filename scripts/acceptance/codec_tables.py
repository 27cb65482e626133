#!/usr/bin/env python3
"""Makes the tables of docs/codecs.md again with `fedctl codec` and compares them: bits a value and lost share of every chain on
normally distributed values (drawn here, by Python), and with the folder of UPDATES that rate-distortion.sh leaves, of auto on real
updates. Status 1 if a figure is off.
   scripts/acceptance/codec_tables.py [UPDATES]"""
import array
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FEDCTL = str(ROOT / os.environ.get("FEDCTL", "build/release/bin/fedctl"))
TEXT = (ROOT / "docs" / "codecs.md").read_text()
COUNT = 1 << 20
BITS_OFF, LOST_OFF = 0.01, 0.02  # another sample of the same distribution; the docs have three digits


def yaml_of(chain):
    """topk:ratio=0.05:chunk=64+sign"""
    stages = []
    for stage in chain.split("+"):
        kind, *options = stage.split(":")
        stages.append("{" + ", ".join([f"kind: {kind}", *(f"{key}: {value}" for key, value in (o.split("=") for o in options))]) + "}")
    return "[" + ", ".join(stages) + "]"


def coded(chain, path, *more):
    line = subprocess.run([FEDCTL, "codec", "--chain", chain, "--in", path, "--format", "json", "--quiet", *more], check=True,
                          capture_output=True, text=True).stdout
    return json.loads(line)["all"]


def write_normal(path):
    draw = random.Random(1)
    values = array.array("f", (draw.gauss(0, 1) for _ in range(COUNT)))
    header = json.dumps({"x": {"dtype": "F32", "shape": [COUNT], "data_offsets": [0, 4 * COUNT]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(header)) + header + values.tobytes())


def rows_below(heading):
    """The rows of the first table behind this line."""
    lines = TEXT[TEXT.index(heading):].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    for line in lines[first + 1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def compare(what, found, tabled, tolerance):
    off = abs(found / tabled - 1) > tolerance
    print(f"| {what} | {found:.4g} | {tabled:.4g} | {'off' if off else 'ok'} |", flush=True)
    return off


def normal_table():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/normal.safetensors"
        write_normal(path)
        switches = {"rms", "unbiased", "symmetric"}
        for chain, bits, _, lost, *_ in rows_below("| chain | bits a value | tabled | lost |"):
            spelled = re.sub(r"(\w+)=([01])(?=[:+]|$)",
                             lambda m: f"{m[1]}={'true' if m[2] == '1' else 'false'}" if m[1] in switches else m[0], chain)
            found = coded(yaml_of(spelled), path)
            wrong += compare(f"{chain}, bits", found["bits_per_value"], float(bits), BITS_OFF)
            wrong += compare(f"{chain}, lost", found["lost"], float(lost), LOST_OFF)
    return wrong


def real_table(updates):
    wrong = 0
    for column, name in ((1, "banking77"), (3, "shakespeare")):
        files = sorted(pathlib.Path(updates, name).glob("exchange-00000[135]-*.safetensors"))
        if not files:
            sys.exit(f"{updates}/{name}: no updates; UPDATES={updates} scripts/acceptance/rate-distortion.sh writes them")
        for row in rows_below("| bits a value | banking77, auto |"):
            parts = [coded(f"{{kind: auto, bits_per_parameter: {row[0]}}}", path, "--together") for path in files]
            lost = sum(part["lost"] * part["squared_norm"] for part in parts) / sum(part["squared_norm"] for part in parts)
            bits = 8 * sum(part["bytes"] for part in parts) / sum(part["values"] for part in parts)
            wrong += compare(f"{name}, auto, bits", bits, float(row[0]), BITS_OFF)
            wrong += compare(f"{name}, auto {row[0]}, lost", lost, float(row[column]), LOST_OFF)
    return wrong


print("| chain | here | docs/codecs.md | |\n|---|---|---|---|")
off = normal_table() + (real_table(sys.argv[1]) if len(sys.argv) > 1 else 0)
sys.exit(f"{off} figures are off" if off else 0)
