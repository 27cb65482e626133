"""Checks a build of fedctl against transformers and peft: tiny models go in, adapters and merged models come out, and the
logits must agree. See setup.sh.

  peft_check.py [--fedctl build/release/bin/fedctl] [--only llama/lora ...] [--work DIR]

One line a check with the largest difference of a logit; exit status 1 if one is above 1e-4.
"""
import argparse
import itertools
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import tiny
import torch
from peft import LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (AttentionInterface, AutoModelForCausalLM, AutoModelForImageClassification,
                          AutoModelForSequenceClassification)

LIMIT = 1e-4
TOKENS = 4  # of prompts and prefixes
GLYPHS = [str(name) for name in range(5)]
VOCABULARY = 160  # the phrases' has fewer
INTENTS = ["play", "pause", "volume", "rate", "rain", "heat", "wind", "sun", "send", "balance", "block", "loan", "book",
           "cancel", "delay", "hotel", "light", "warm", "clean", "lock", "add", "move", "remind", "list"]
PHRASES = ("{{kind: phrases, task: {}, per_client: 12, test_per_client: 2, partition: {{kind: by_field}}, holdout: 0}}\n"
           "clients: {{count: 12, quorum: 1.0, deadline_s: 120}}")
IMAGES = ("{kind: glyphs, classes: 5, hands: 4, per_hand: 10, test_per_class: 3, partition: {kind: by_field}, holdout: 0}\n"
          "clients: {count: 4, quorum: 1.0, deadline_s: 120}")

FAMILIES = {
    "llama": (lambda: tiny.llama(VOCABULARY), AutoModelForCausalLM, PHRASES.format("language"), "CAUSAL_LM"),
    "llama-tied": (lambda: tiny.llama(VOCABULARY, tied=True), AutoModelForCausalLM, PHRASES.format("language"),
                   "CAUSAL_LM"),
    "vit": (lambda: tiny.vit(GLYPHS), AutoModelForImageClassification, IMAGES, None),
    "bert": (lambda: tiny.bert(VOCABULARY, INTENTS), AutoModelForSequenceClassification, PHRASES.format("classify"),
             "SEQ_CLS"),
    "gpt2": (lambda: tiny.gpt2(VOCABULARY), AutoModelForCausalLM, PHRASES.format("language"), "CAUSAL_LM"),
}
ADAPTERS = {"lora": "rank: 2, alpha: 4, targets: [{}], train_head: {}", "prompt": f"tokens: {TOKENS}, train_head: {{1}}",
            "prefix": f"tokens: {TOKENS}, train_head: {{1}}"}


class Check:
    def __init__(self, fedctl, work):
        self.fedctl, self.work, self.failed = fedctl, work, 0

    def report(self, name, difference):
        good = difference < LIMIT
        self.failed += not good
        print(f"{name:32} max |difference| {difference:.1e}  {'ok' if good else 'MISSED'}", flush=True)

    def run(self, *arguments):
        result = subprocess.run([self.fedctl, *map(str, arguments)], capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"fedctl {' '.join(map(str, arguments))}: {result.stderr}")
        return result.stdout

    def kinds(self, registry):
        listed = json.loads(self.run("list", registry, "--format", "json"))
        text = json.dumps(listed)
        return lambda kind: f'"{kind}"' in text

    def train(self, name, family, base, adapter, path=None, train_head=True, rounds=2):
        """Runs fedctl; returns the run directory."""
        kind = family.split("-")[0]
        options = ADAPTERS[adapter].format(", ".join(tiny.TARGETS[kind]), str(train_head).lower())
        if path:
            options += f", path: {path}"
        file = self.work / f"{name}.yaml"
        file.write_text(f"name: check\nseed: 3\nrounds: {rounds}\nmodel: {{kind: {kind}, path: {base}}}\n"
                        f"adapter: {{kind: {adapter}, {options}}}\ndata: {FAMILIES[family][2]}\n"
                        "train: {epochs: 1, batch_size: 4, optimizer: {kind: sgd, lr: 0.05, momentum: 0.9}}\n")
        run = self.work / f"{name}.run"
        self.run("simulate", "--config", file, "--run-dir", run, "--quiet", "--threads", "1")
        return run

    def export(self, run, name, *arguments):
        """Returns the folder and fedctl's own examples and logits."""
        out = self.work / name
        self.run("export", run, "--out", out, "--logits", f"{out}.logits.safetensors", *arguments)
        return out, load_file(f"{out}.logits.safetensors")


def difference(model, reference, skip=0):
    model.eval()
    most, count = 0.0, 0
    with torch.no_grad():
        while f"{count}.logits" in reference:
            part = lambda name: reference.get(f"{count}.{name}")
            if part("pixels") is not None:
                logits = model(pixel_values=part("pixels")).logits
            else:
                segments = part("segments")
                more = {} if segments is None else {"token_type_ids": segments[None]}
                logits = model(input_ids=part("tokens")[None], **more).logits
                logits = logits[0][skip:] if logits.dim() == 3 else logits
            expected = part("logits")
            assert logits.shape == expected.shape, (logits.shape, expected.shape)
            most = max(most, (logits - expected).abs().max().item())
            count += 1
    assert count > 0
    return most


def load_rest(model, tensors):
    """The output layer that was trained beside a prompt or prefix."""
    state = {name.removeprefix("base_model."): value for name, value in tensors.items()}
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    return model


def with_image_prompt(auto, base, folder):
    """peft has no prompts for images: the soft tokens go behind the class token by hand."""
    tensors = load_file(folder / "adapter_model.safetensors")
    prompt = tensors.pop("prompt_embeddings")
    model = auto.from_pretrained(base, dtype=torch.float32)
    model.vit.embeddings.register_forward_hook(
        lambda module, inputs, out: torch.cat([out[:, :1], prompt.expand(out.shape[0], -1, -1), out[:, 1:]], 1))
    return load_rest(model, tensors)


def with_encoder_prefix(auto, base, folder):
    """transformers 5 has no past keys and values for encoders, which peft would need: they go into each layer by hand."""
    tensors = load_file(folder / "adapter_model.safetensors")
    prefix = tensors.pop("prompt_embeddings")
    calls = itertools.count()

    def attend(module, query, key, value, mask, **_):
        heads, width = query.shape[1], query.shape[3]
        pairs = prefix.view(prefix.shape[0], -1, 2, heads, width)
        layer = next(calls) % pairs.shape[1]
        front = pairs[:, layer].permute(1, 2, 0, 3).unsqueeze(1)
        key, value = torch.cat([front[0], key], 2), torch.cat([front[1], value], 2)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).contiguous(), None

    def move(module, arguments, keywords):  # as transformers 4 did: a text's positions begin behind its prefix
        if "input_ids" in keywords:
            keywords["position_ids"] = prefix.shape[0] + torch.arange(keywords["input_ids"].shape[1])[None]
        return arguments, keywords

    AttentionInterface.register("prefix_by_hand", attend)
    model = auto.from_pretrained(base, dtype=torch.float32, attn_implementation="prefix_by_hand")
    model.register_forward_pre_hook(move, with_kwargs=True)
    return load_rest(model, tensors)


def load_peft(auto, base, folder):
    kind = PeftConfig.from_pretrained(folder).peft_type.value
    if auto is AutoModelForImageClassification and kind == "PROMPT_TUNING":
        return with_image_prompt(auto, base, folder)
    if auto is not AutoModelForCausalLM and kind == "PREFIX_TUNING":
        return with_encoder_prefix(auto, base, folder)
    # transformers 5 keeps a file's float16 unless told otherwise.
    return PeftModel.from_pretrained(auto.from_pretrained(base, dtype=torch.float32), folder)


def outgoing(check, family, adapter, base):
    make, auto, _, _ = FAMILIES[family]
    name = f"{family}/{adapter}"
    stem = f"{family}-{adapter}"
    run = check.train(stem, family, base, adapter)
    folder, reference = check.export(run, f"{stem}.peft", "--round", "last")
    skip = TOKENS if adapter == "prompt" else 0
    check.report(f"{name} to peft", difference(load_peft(auto, base, folder), reference, skip))
    if adapter == "lora":
        folder, reference = check.export(run, f"{stem}.merged", "--round", "last", "--as", "merged")
        check.report(f"{name} merged", difference(auto.from_pretrained(folder, dtype=torch.float32), reference))


def incoming(check, family, adapter, base):
    """An adapter that peft made is where a run starts: its round 0."""
    make, auto, _, task = FAMILIES[family]
    kind = family.split("-")[0]
    if (kind, adapter) in {("vit", "prompt"), ("vit", "prefix"), ("bert", "prefix")}:
        return  # peft makes none
    head = {"llama": ["lm_head"] if family == "llama" else None, "vit": ["classifier"], "bert": ["classifier"]}.get(kind)
    if adapter == "lora":
        config = LoraConfig(r=2, lora_alpha=4, target_modules=list(tiny.TARGETS[kind].values()), modules_to_save=head,
                            task_type=task)
    else:
        make_config = PromptTuningConfig if adapter == "prompt" else PrefixTuningConfig
        config = make_config(task_type=task, num_virtual_tokens=TOKENS)
    model = get_peft_model(auto.from_pretrained(base, dtype=torch.float32), config)
    tiny.randomize(model, ["lora_", "modules_to_save", "prompt_encoder"])
    stem = f"{family}-{adapter}-in"
    folder = check.work / stem
    model.save_pretrained(folder)
    train_head = adapter == "lora" and bool(head) or kind == "bert"
    run = check.train(stem, family, base, adapter, path=folder, train_head=train_head, rounds=1)
    _, reference = check.export(run, f"{stem}.again", "--round", "0")
    skip = TOKENS if adapter == "prompt" else 0
    check.report(f"{family}/{adapter} from peft", difference(model, reference, skip))


def llama2c(check):
    """A base in llama2.c's order of rows, exported with and without its adapter."""
    torch.manual_seed(5)
    model = tiny.llama(VOCABULARY)
    tiny.randomize(model, ["norm"], spread=0.1)
    c, layers = model.config, model.model.layers
    pairs = lambda weight, heads: weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
    tensors = [model.model.embed_tokens.weight]
    for pick in (lambda l: l.input_layernorm.weight, lambda l: pairs(l.self_attn.q_proj.weight, c.num_attention_heads),
                 lambda l: pairs(l.self_attn.k_proj.weight, c.num_key_value_heads), lambda l: l.self_attn.v_proj.weight,
                 lambda l: l.self_attn.o_proj.weight, lambda l: l.post_attention_layernorm.weight,
                 lambda l: l.mlp.gate_proj.weight, lambda l: l.mlp.down_proj.weight, lambda l: l.mlp.up_proj.weight):
        tensors += [pick(layer) for layer in layers]
    head = c.hidden_size // c.num_attention_heads
    tensors += [model.model.norm.weight, torch.zeros(2 * c.max_position_embeddings * head // 2), model.lm_head.weight]
    path = check.work / "model.bin"
    path.write_bytes(struct.pack("<7i", c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads,
                                 c.num_key_value_heads, -c.vocab_size, c.max_position_embeddings)
                     + b"".join(t.detach().contiguous().numpy().astype("<f4").tobytes() for t in tensors))
    run = check.train("llama2c", "llama", path, "lora", rounds=1)
    base, reference = check.export(run, "llama2c.base", "--round", "0", "--as", "merged")
    check.report("llama2.c base as HF", difference(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
                                                   reference))
    folder, reference = check.export(run, "llama2c.peft", "--round", "1")
    check.report("llama2.c base + adapter to peft", difference(load_peft(AutoModelForCausalLM, base, folder), reference))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fedctl", default=str(pathlib.Path(__file__).resolve().parents[2] / "build/release/bin/fedctl"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--work")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        check = Check(arguments.fedctl, pathlib.Path(arguments.work or temporary))
        has_model, has_adapter = check.kinds("models"), check.kinds("adapters")
        for family, (make, *_) in FAMILIES.items():
            if not has_model(family.split("-")[0]):
                continue
            torch.manual_seed(4)
            base = tiny.save(make(), check.work / f"{family}.base")
            for adapter in ADAPTERS:
                if not has_adapter(adapter) or (arguments.only and f"{family}/{adapter}" not in arguments.only):
                    continue
                for direction in (outgoing, incoming):
                    try:
                        direction(check, family, adapter, base)
                    except Exception as error:  # the others are still worth knowing
                        check.failed += 1
                        print(f"{family}/{adapter} {direction.__name__}: {type(error).__name__}: {error}")
        if not arguments.only:
            llama2c(check)
        sys.exit(check.failed > 0)


if __name__ == "__main__":
    main()
