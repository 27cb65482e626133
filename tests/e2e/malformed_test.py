"""Files that are damaged, hostile or do not fit: status 5, the file and the place named, nothing trained."""
import array
import json
import math
import pathlib
import shutil
import struct

from fedctl import ROOT, Case

GOLDEN = pathlib.Path(ROOT) / "tests/golden"
WORDPIECE = GOLDEN / "tokenizers/wordpiece.json"

EXPERIMENT = """
name: malformed
rounds: 1
model: {model}
adapter: {adapter}
data: {{{data}, holdout: 0}}
clients: {{count: {clients}}}
train: {{steps: 1, batch_size: 2}}
"""
VIT = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, patch_size=7,
           image_size=28, num_channels=1, hidden_act="gelu", model_type="vit")
BERT = "{kind: bert, width: 8, hidden: 8, depth: 1, heads: 2}"
GLYPHS = "kind: glyphs, classes: 3, hands: 2, per_hand: 6, test_per_class: 2"


def vit_tensors():
    shapes = {"vit.embeddings.cls_token": [1, 1, 8], "vit.embeddings.position_embeddings": [1, 17, 8],
              "vit.embeddings.patch_embeddings.projection.weight": [8, 1, 7, 7],
              "vit.embeddings.patch_embeddings.projection.bias": [8], "vit.layernorm.weight": [8],
              "vit.layernorm.bias": [8]}
    layer = "vit.encoder.layer.0."
    for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value",
                 "attention.output.dense", "intermediate.dense", "output.dense"):
        shapes[layer + name + ".weight"], shapes[layer + name + ".bias"] = [8, 8], [8]
    for name in ("layernorm_before", "layernorm_after"):
        shapes[layer + name + ".weight"], shapes[layer + name + ".bias"] = [8], [8]
    return {name: (shape, [0.1] * math.prod(shape)) for name, shape in shapes.items()}


def safetensors(tensors, change=lambda header: None):
    """The bytes of a file; `change` edits the header before it is written."""
    header, body = {}, b""
    for name, (shape, values) in sorted(tensors.items()):
        bytes_ = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(bytes_)]}
        body += bytes_
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Malformed(Case):
    def refuse(self, place, *texts, model="{kind: mlp, hidden: 4}", adapter="{kind: full}", data=GLYPHS, clients=2):
        config = self.write("exp.yaml", EXPERIMENT.format(model=model, adapter=adapter, data=data, clients=clients))
        status, out, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "run", "--fresh",
                                           "--threads", "1")
        self.assertEqual(status, 5, out + err)
        self.assertTrue(err.startswith("fedctl: error: "), err)
        for text in (str(place), *texts):
            self.assertIn(text, err)
        self.assertNotIn('"round":1', out)

    # Models.
    def vit(self, file=None, config=None):
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(config if config is not None else json.dumps(VIT))
        if file is not None:
            (folder / "model.safetensors").write_bytes(file)
        return folder

    def refuse_vit(self, folder, place, *texts, adapter="{kind: head}"):
        self.refuse(place, *texts, model=f"{{kind: vit, path: {folder}}}", adapter=adapter)

    def test_the_undamaged_model_runs(self):
        config = self.write("exp.yaml", EXPERIMENT.format(
            model=f"{{kind: vit, path: {self.vit(safetensors(vit_tensors()))}}}", adapter="{kind: head}", data=GLYPHS,
            clients=2))
        status, out, err = self.run_fedctl("simulate", "--config", config, "--run-dir", self.folder / "run")
        self.assertEqual(status, 0, err)
        self.assertIn('"round":1', out)

    def test_a_truncated_file(self):
        self.refuse_vit(self.vit(safetensors(vit_tensors())[:-100]), "model.safetensors")

    def test_a_header_of_100_gib(self):
        self.refuse_vit(self.vit(struct.pack("<Q", 100 << 30) + b"{}" * 50), "model.safetensors", "header")

    def test_a_header_that_is_not_json(self):
        self.refuse_vit(self.vit(struct.pack("<Q", 8) + b"{broken}" + b"\0" * 64), "model.safetensors")

    def test_overlapping_offsets(self):
        def overlap(header):
            header["vit.layernorm.weight"]["data_offsets"] = header["vit.layernorm.bias"]["data_offsets"]
        self.refuse_vit(self.vit(safetensors(vit_tensors(), overlap)), "model.safetensors")

    def test_an_unknown_dtype(self):
        self.refuse_vit(self.vit(safetensors(vit_tensors(), lambda h: h["vit.layernorm.weight"].update(dtype="Q3"))),
                        "model.safetensors", "Q3")

    def test_weights_that_are_not_numbers(self):
        tensors = vit_tensors()
        tensors["vit.layernorm.weight"][1][3] = math.nan
        self.refuse_vit(self.vit(safetensors(tensors)), "model.safetensors", "vit.layernorm.weight")

    def test_a_tensor_of_another_shape(self):
        tensors = vit_tensors()
        tensors["vit.layernorm.weight"] = ([9], [0.1] * 9)
        self.refuse_vit(self.vit(safetensors(tensors)), "vit.layernorm.weight", "[9]", "[8]")

    def test_a_missing_tensor(self):
        tensors = vit_tensors()
        del tensors["vit.layernorm.weight"]
        self.refuse_vit(self.vit(safetensors(tensors)), self.folder / "model", "vit.layernorm.weight")

    def test_no_config(self):
        folder = self.vit(safetensors(vit_tensors()))
        (folder / "config.json").unlink()
        self.refuse_vit(folder, "config.json")

    def test_a_config_that_is_not_json(self):
        self.refuse_vit(self.vit(safetensors(vit_tensors()), "{hidden_size: 8"), "config.json")

    def test_a_config_of_a_huge_model(self):
        self.refuse_vit(self.vit(safetensors(vit_tensors()), json.dumps(VIT | {"hidden_size": 1 << 40})), "config.json",
                        "hidden_size")

    def test_an_index_of_a_missing_shard(self):
        folder = self.vit()
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"vit.layernorm.weight": "model-00001-of-00002.safetensors"}}))
        self.refuse_vit(folder, "index.json", "model-00001-of-00002.safetensors")

    def test_an_index_that_leaves_the_folder(self):
        folder = self.vit()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
        self.refuse_vit(folder, "index.json", "../../etc/passwd")

    def test_an_adapter_of_another_rank(self):
        folder = self.folder / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(
            {"peft_type": "LORA", "r": 3, "lora_alpha": 8, "target_modules": ["query", "value"]}))
        (folder / "adapter_model.safetensors").write_bytes(safetensors({}))
        self.refuse_vit(self.vit(safetensors(vit_tensors())), folder, adapter=f"{{kind: lora, rank: 2, path: {folder}}}")

    def test_a_tokenizer_of_a_larger_vocabulary(self):
        rows = self.folder / "rows.jsonl"
        rows.write_text('{"text":"a b c"}\n' * 4)
        self.refuse(GOLDEN / "models/llama", "tokens", model=f"{{kind: llama, path: {GOLDEN / 'models/llama'}}}",
                    adapter="{kind: head}",
                    data=f"kind: jsonl, path: {rows}, label: '', tokenizer: {WORDPIECE}")

    # Tables.
    def refuse_table(self, kind, content, *texts, test=None):
        folder = self.folder / "table"
        folder.mkdir()
        train = folder / f"train.{kind}"
        train.write_bytes(content if isinstance(content, bytes) else content.encode())
        if test is not None:
            (folder / f"test.{kind}").write_text(test)
        self.refuse(folder, *texts, model=BERT, adapter="{kind: head}",
                    data=f"kind: {kind}, path: {folder}, tokenizer: {WORDPIECE}")

    def test_columns_of_one_name(self):
        self.refuse_table("csv", "text,label,label\na,b,c\n", "train.csv:1: ", "label")

    def test_a_row_with_a_column_too_many(self):
        self.refuse_table("csv", "text,label\na,b\nc,d,e\n", "train.csv:3: ", "3 columns")

    def test_a_quote_that_never_ends(self):
        self.refuse_table("csv", 'text,label\na,b\n"c,d\n', "train.csv:3: ")

    def test_text_that_is_not_utf8(self):
        self.refuse_table("tsv", b"text\tlabel\nfine\tx\nb\xff\tx\n", "train.tsv:3: ", "UTF-8")

    def test_a_label_outside_the_classes(self):
        self.refuse_table("csv", "text,label\na,x\nb,y\n", "test.csv:3: ", "z", test="text,label\na,x\nb,z\n")

    def test_a_column_that_is_not_there(self):
        self.refuse_table("csv", "sentence,label\na,x\n", "train.csv:1: ", "text")

    def test_a_line_that_is_not_json(self):
        self.refuse_table("jsonl", '{"text":"a","label":"x"}\n{"text":\n', "train.jsonl:2: ")

    def test_an_empty_file(self):
        self.refuse_table("csv", "", "train.csv")

    def test_clients_without_examples(self):
        path = self.folder / "shares"
        path.write_text("0\n0\n0\n")
        self.refuse("client 1", "no training example", model=BERT,
                    adapter="{kind: head}", data=self.three_rows(path))

    def three_rows(self, shares):
        table = self.folder / "three.csv"
        table.write_text("text,label\na,x\nb,y\nc,x\n")
        return f"kind: csv, path: {table}, tokenizer: {WORDPIECE}, partition: {{kind: file, path: {shares}}}"

    def test_a_partition_for_other_data(self):
        path = self.folder / "shares"
        path.write_text("0\n1\n0\n1\n")
        self.refuse(f"{path}:4: ", model=BERT,
                    adapter="{kind: head}", data=self.three_rows(path))

    def test_a_damaged_tokenizer(self):
        tokenizer = self.folder / "tokenizer.json"
        tokenizer.write_text(WORDPIECE.read_text()[:2000])
        table = self.folder / "three.csv"
        table.write_text("text,label\na,x\nb,y\n")
        self.refuse(tokenizer, model=BERT, adapter="{kind: head}",
                    data=f"kind: csv, path: {table}, tokenizer: {tokenizer}")

    # Arrays.
    def test_images_that_end_early(self):
        folder = self.folder / "idx"
        folder.mkdir()
        (folder / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 4, 2, 2) + b"\0" * 10)
        (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + b"\0\1\0\1")
        self.refuse(folder / "train-images-idx3-ubyte", data=f"kind: idx, path: {folder}")

    def test_half_a_cifar_record(self):
        folder = self.folder / "cifar"
        folder.mkdir()
        (folder / "train.bin").write_bytes(b"\1" * (3073 + 1000))
        self.refuse(folder / "train.bin", data=f"kind: cifar, path: {folder}")

    def test_features_and_labels_of_different_length(self):
        path = self.folder / "rows.safetensors"
        path.write_bytes(safetensors({"features": ([4, 2], [0.5] * 8), "labels": ([3], [0.0] * 3)}))
        self.refuse(path, "labels", data=f"kind: safetensors, path: {path}")

    def test_a_recording_that_claims_too_much(self):
        folder = self.folder / "wav"
        (folder / "yes").mkdir(parents=True)
        (folder / "yes/a.wav").write_bytes(b"RIFF" + struct.pack("<I", 1 << 31) + b"WAVEfmt " +
                                           struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" +
                                           struct.pack("<I", 1 << 31) + b"\0" * 20)
        shutil.copytree(folder / "yes", folder / "no")
        self.refuse("a.wav", data=f"kind: wav, path: {folder}")
