"""Experiments of fedctl that are as much work as the peers' and no more: models of a given number of weights, random data."""
import json
import pathlib
import random
import struct
import subprocess

# No LibTorch where it can be had: one weight vector pulled to a target of its own size. Above this many numbers in all clients'
# targets the data would be larger than what is measured; then clients share two targets or, where this fedctl has no
# data.distinct, a linear classifier takes over.
QUADRATIC_NUMBERS_MAX = 2**20


def write_safetensors(path, tensors):
    """tensors: name to (dtype, shape, bytes)."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def write_features(path, rows, width, classes):
    """Rows of random bytes as features with random classes, and one row more as the test set."""
    draw = random.Random(1)
    labels = [classes - 1] + [draw.randrange(classes) for _ in range(rows)]
    write_safetensors(path, {
        "features": ("U8", [rows + 1, width], draw.randbytes((rows + 1) * width)),
        "labels": ("I64", [rows + 1], struct.pack(f"<{rows + 1}q", *labels)),
        "part": ("I64", [rows + 1], struct.pack(f"<{rows + 1}q", *([0] * rows + [1]))),
    })


def experiment(folder, *, clients, per_round, rounds, model, train, server="", on="server"):
    """Writes exp.yaml; returns its path. Evaluation happens before the first round and behind the last."""
    path = pathlib.Path(folder) / "exp.yaml"
    path.write_text(f"""name: bench
seed: 1
rounds: {rounds}
{model}
clients: {{count: {clients}, per_round: {per_round}, quorum: 1.0, deadline_s: 600}}
train: {train}
evaluate: {{every: 1000000, on: {on}}}
{server}""")
    return path


def exchange(fedctl, folder, clients, values):
    """(model lines, train) of a round that is hardly more than the exchange of `values` float32 weights."""
    train = "{steps: 1, batch_size: 1, optimizer: {kind: sgd, lr: 0.01}}"
    side = 1 << ((values.bit_length() - 1) // 2)
    few = clients * values > QUADRATIC_NUMBERS_MAX  # then two targets, dealt out in turn, if this fedctl can
    model = f"""model: {{kind: quadratic}}
adapter: {{kind: full}}
data:
  kind: quadratic_targets
  rows: {side}
  cols: {values // side}
  clients: {clients}
  {"distinct: 2" if few else ""}
  partition: {{kind: by_field}}
  holdout: 0
"""
    if not few:
        return model, train
    probe = experiment(folder, clients=clients, per_round=0, rounds=1, model=model, train=train)
    if subprocess.run([fedctl, "check", "--config", probe], capture_output=True).returncode == 0:
        return model, train
    return classifier(folder, clients, 1, values // side - 1, side), train


def classifier(folder, clients, samples, width, classes, hidden=0):
    """Model lines of a classifier on random features, `samples` a client; hidden 0: a linear model."""
    model = f"{{kind: mlp, hidden: {hidden}, layers: 1}}" if hidden else "{kind: mlp, layers: 0}"
    path = pathlib.Path(folder) / "data.safetensors"
    write_features(path, clients * samples, width, classes)
    return f"""model: {model}
adapter: {{kind: full}}
data: {{kind: safetensors, path: {path}, scale: 0.004, test_tensor: part, partition: {{kind: iid}}, holdout: 0}}
"""


def lora(data, path, dtype):
    """Model lines: MiniLM with LoRA of rank 8 on query and value, and banking77's head; `path`: the texts."""
    return f"""model: {{kind: bert, path: {data}/models/minilm-l6, backbone_dtype: {dtype}, pooling: mean}}
adapter: {{kind: lora, rank: 8, alpha: 16, targets: [query, value]}}
data:
  kind: csv
  path: {path}
  label: category
  tokenizer: {data}/models/minilm-l6
  partition: {{kind: iid}}
  holdout: 0.001
"""


def write_full_texts(data, path, rows, words=30):
    """Texts of `words` words that are one token each, so that batches have the peers' 32 tokens a text and no padding."""
    draw = random.Random(2)
    vocabulary = [word for word in pathlib.Path(data, "models/minilm-l6/vocab.txt").read_text().split("\n")
                  if word.isascii() and word.isalpha() and len(word) > 2]
    lines = [" ".join(draw.choices(vocabulary, k=words)) + f",class {i % 77}" for i in range(rows)]
    pathlib.Path(path).write_text("\n".join(["text,category", *lines, ""]))


def journal_rounds(run):
    """The committed rounds after round 0, as far as they are written."""
    try:
        lines = (pathlib.Path(run) / "journal.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if '"event":"round"' in line and line.endswith("}")]
    return [line for line in found if line["round"] > 0]
