#!/usr/bin/env python3
"""A synthetic llama of about 1 GiB in safetensors, with tensors that no model uses beside it: prints the peak of resident
memory of `fedctl simulate` on it against the bytes of the parts used, as float32, which is what the model keeps.

  scripts/acceptance/big-base.py [F32|F16|BF16] [--shards N]

Fails above 1.1 times the parts plus what the same run takes on a tiny model (the program, LibTorch and its buffers).
Needs 3 GB of disk and up to 2.5 GB of memory.
"""
import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FEDCTL = str(ROOT / os.environ.get("FEDCTL", "build/release/bin/fedctl"))
BYTES = {"F32": 4, "F16": 2, "BF16": 2}
EXPERIMENT = """
name: big
seed: 1
rounds: 1
model: {{kind: llama, path: {path}}}
adapter: {{kind: lora, rank: 2, alpha: 4, targets: [query, value], train_head: false}}
data: {{kind: phrases, task: language, per_client: 2, test_per_client: 1, partition: {{kind: by_field}}, holdout: 0}}
clients: {{count: 12, per_round: 1, quorum: 1.0, deadline_s: 600}}
train: {{steps: 1, batch_size: 1, optimizer: {{kind: sgd, lr: 0.01, momentum: 0}}}}
evaluate: {{batch_size: 1}}
"""


def shapes(width, hidden, depth, vocabulary):
    yield "model.embed_tokens.weight", (vocabulary, width)
    yield "model.norm.weight", (width,)
    for layer in range(depth):
        at = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}{norm}.weight", (width,)
        for matrix in "qkvo":
            yield f"{at}self_attn.{matrix}_proj.weight", (width, width)
        yield f"{at}mlp.gate_proj.weight", (hidden, width)
        yield f"{at}mlp.up_proj.weight", (hidden, width)
        yield f"{at}mlp.down_proj.weight", (width, hidden)


def count(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def pattern(dtype):
    """A megabyte of small values in this format, from bytes drawn once."""
    random.seed(1)
    values = [random.gauss(0, 0.02) for _ in range(1 << 14)]
    if dtype == "BF16":
        data = b"".join(struct.pack("<f", value)[2:] for value in values)
    else:
        data = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'e'}", *values)
    return data * ((1 << 20) // len(data))


def write_file(path, tensors, dtype):
    header, at = {}, 0
    for name, shape in tensors:
        end = at + count(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    chunk = pattern(dtype)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _ in range(at // len(chunk)):
            out.write(chunk)
        out.write(chunk[:at % len(chunk)])
    return path.stat().st_size


def write_model(folder, dtype, shards, width, hidden, depth, heads, unused):
    folder.mkdir()
    vocabulary = 256
    used = list(shapes(width, hidden, depth, vocabulary))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": depth,
        "num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": vocabulary, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "hidden_act": "silu", "tie_word_embeddings": True}))
    tensors = used + [(f"vision_tower.{i}.weight", (width, hidden)) for i in range(unused)]
    if shards == 1:
        size = write_file(folder / "model.safetensors", tensors, dtype)
    else:
        size, weight_map = 0, {}
        for shard in range(shards):
            name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            part = tensors[shard::shards]
            size += write_file(folder / name, part, dtype)
            weight_map |= {tensor: name for tensor, _ in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return size, 4 * sum(count(shape) for _, shape in used)


def peak_kib(folder, work):
    """VmHWM of a whole run, as the kernel counted it for the child."""
    config = work / f"{folder.name}.yaml"
    config.write_text(EXPERIMENT.format(path=folder))
    process = subprocess.Popen([FEDCTL, "simulate", "--config", str(config), "--run-dir", str(work / f"{folder.name}.run"),
                                "--quiet", "--threads", "1"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"fedctl simulate failed on {folder}")
    return usage.ru_maxrss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dtype", nargs="?", default="F32", choices=BYTES)
    parser.add_argument("--shards", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        write_model(work / "tiny", "F32", 1, width=16, hidden=32, depth=1, heads=4, unused=0)
        fixed = peak_kib(work / "tiny", work) / 1024
        depth = 16 if arguments.dtype == "F32" else 30
        size, used = write_model(work / "big", arguments.dtype, arguments.shards, width=1024, hidden=4096, depth=depth,
                                 heads=16, unused=4)
        used /= 1 << 20
        peak = peak_kib(work / "big", work) / 1024
    ratio = (peak - fixed) / used
    print(f"{arguments.dtype} in {arguments.shards} file(s), {size / (1 << 20):.0f} MiB; parts used {used:.0f} MiB as float32; "
          f"peak resident {peak:.0f} MiB = {peak / used:.3f} x in all, {ratio:.3f} x without the {fixed:.0f} MiB that a tiny "
          f"model takes (target 1.1): {'ok' if ratio < 1.1 else 'MISSED'}")
    sys.exit(ratio >= 1.1)


if __name__ == "__main__":
    main()
