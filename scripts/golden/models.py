"""Writes tests/golden/models/: tiny models in HF's format with loss, logits and gradients as PyTorch, transformers and
peft compute them. Compared by tests/learn/torch/golden_test.cpp. See setup.sh.

  NAME/config.json, model.safetensors   the base
  NAME/lora/, prompt/, prefix/          adapters with random values, saved by peft
  NAME/golden.safetensors               tokens, lengths, labels or pixels, labels; then by "full.", "lora.", "prompt.",
                                        "prefix.": loss, logits, and "grad." with a parameter's name
"""
import json
import pathlib
import shutil
import sys

import tiny
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/models"
VOCABULARY = 29
LENGTHS = [7, 3, 1, 5]
NAMES = ["cat", "dog", "owl"]


def texts(labelled):
    generator = torch.Generator().manual_seed(7)
    # Token 0 is left out: it pads, and PyTorch gives the embedding of a padding no gradient.
    tokens = [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in LENGTHS]
    batch = {"tokens": torch.cat(tokens), "lengths": torch.tensor(LENGTHS)}
    if labelled:
        batch["labels"] = torch.randint(0, len(NAMES), (len(LENGTHS),), generator=generator)
    else:  # the next token; none at a text's end
        batch["labels"] = torch.cat([torch.cat([text[1:], torch.tensor([-100])]) for text in tokens])
    return batch


def images():
    generator = torch.Generator().manual_seed(8)
    return {"pixels": torch.randn((3, 2, 8, 8), generator=generator), "labels": torch.tensor([0, 2, 1])}


def logits_of(model, batch, skip=0):
    if "pixels" in batch:
        return model(pixel_values=batch["pixels"]).logits
    rows, at = [], 0
    for length in batch["lengths"].tolist():
        out = model(input_ids=batch["tokens"][None, at:at + length]).logits[0]
        rows.append(out[skip:] if out.dim() == 2 else out[None])
        at += length
    return torch.cat(rows)


def block_name(name):
    """The parameter's name in HF's files: without peft's wrappers, and as it was before transformers 5 renamed ViT's modules."""
    for wrapper in ("base_model.model.", "modules_to_save.", "default."):
        name = name.replace(wrapper, "")
    if name.startswith("vit.layers."):
        for new, old in (("vit.layers", "vit.encoder.layer"), ("q_proj", "attention.query"), ("k_proj", "attention.key"),
                         ("v_proj", "attention.value"), ("o_proj", "output.dense"), ("mlp.fc1", "intermediate.dense"),
                         ("mlp.fc2", "output.dense")):
            name = name.replace(new, old)
    name = name.removesuffix(".default").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
    return "prompt_embeddings" if name.startswith("prompt_encoder") else name


def measure(model, batch, prefix, out, skip=0):
    model.eval()  # no dropout anywhere; gradients flow all the same
    model.zero_grad()
    logits = logits_of(model, batch, skip)
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"], ignore_index=-100)
    loss.backward()
    out[prefix + "loss"] = loss.detach().reshape(1)
    out[prefix + "logits"] = logits.detach().contiguous()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            out[prefix + "grad." + block_name(name)] = parameter.grad.contiguous()


def save_adapter(model, folder):
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's model card
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    for key in ("target_modules", "feedforward_modules"):  # sets, in any order
        if key in config:
            config[key] = sorted(config[key])
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(name, family, make, batch, task=None, head=None):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(11)
    tiny.save(make(), folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    load = lambda: type(make()).from_pretrained(folder, dtype=torch.float32)
    out = dict(batch)
    measure(load(), batch, "full.", out)

    lora = get_peft_model(load(), LoraConfig(r=2, lora_alpha=4, target_modules=list(tiny.TARGETS[family].values()),
                                             modules_to_save=head))
    tiny.randomize(lora, ["lora_", "modules_to_save"])
    measure(lora, batch, "lora.", out)
    save_adapter(lora, folder / "lora")

    # Soft prompts come out of the model with logits of their own, prefixes do not.
    for kind, config, skip in (("prompt", PromptTuningConfig, 3), ("prefix", PrefixTuningConfig, 0)):
        if task is None:
            continue
        soft = get_peft_model(load(), config(task_type=task, num_virtual_tokens=3))
        tiny.randomize(soft, ["prompt_encoder"])
        measure(soft, batch, kind + ".", out, skip)
        save_adapter(soft, folder / kind)
    save_file(out, folder / "golden.safetensors")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: {size} bytes")


CASES = {
    "llama": lambda: write("llama", "llama", lambda: tiny.llama(VOCABULARY), texts(False), "CAUSAL_LM"),
    "llama-tied": lambda: write("llama-tied", "llama", lambda: tiny.llama(VOCABULARY, tied=True), texts(False)),
    "vit": lambda: write("vit", "vit", lambda: tiny.vit(NAMES, 2, 8, 4), images(), head=["classifier"]),
    "bert": lambda: write("bert", "bert", lambda: tiny.bert(VOCABULARY, NAMES), texts(True), head=["classifier"]),
    "gpt2": lambda: write("gpt2", "gpt2", lambda: tiny.gpt2(VOCABULARY), texts(False), "CAUSAL_LM"),
}

if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        CASES[case]()
