"""Adds dora, ia3 and vera to the models of tests/golden/models/ that models.py wrote, as peft computes them. Compared
by tests/learn/torch/golden_test.cpp. See setup.sh.

  NAME/dora/, ia3/, vera/     adapters with random values, saved by peft
  NAME/adapters.safetensors   by "dora.", "ia3.", "vera.": loss, logits, and "grad." with a parameter's name

VeRA's frozen matrices come from fedctl's own generator: they are taken from NAME/vera/, where
`learn_torch_test "[.projections]"` puts them after models.py, which empties NAME/. bitfit needs no values of its own:
its gradients are some of full training's.
"""
import sys

import models
import tiny
import torch
from peft import IA3Config, LoraConfig, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, AutoModelForImageClassification, AutoModelForSequenceClassification)

LAYERS = range(2)
# By family: the class, modules trained as a whole, and the target modules: IA3's by output, IA3's by input, VeRA's.
FAMILIES = {
    "llama": (AutoModelForCausalLM, None, ["k_proj", "v_proj"], ["down_proj"], ["q_proj", "v_proj", "down_proj"]),
    "vit": (AutoModelForImageClassification, ["classifier"], ["k_proj", "v_proj"], ["fc2"], ["q_proj", "v_proj"]),
    # The output layers of bert's attention end in output.dense too.
    "bert": (AutoModelForSequenceClassification, ["classifier"], ["key", "value"],
             [f"layer.{i}.output.dense" for i in LAYERS], ["query", "value"]),
    "gpt2": (AutoModelForCausalLM, None, ["c_attn"], ["mlp.c_proj"], ["c_attn"]),
}
BATCH = ("tokens", "lengths", "labels", "pixels")
RANK = 5  # of VeRA


def set_projections(model, tensors):
    """All adapted layers share the two matrices."""
    for module in model.modules():
        for name in ("vera_A", "vera_B"):
            if hasattr(module, name):
                getattr(module, name)["default"].copy_(tensors["base_model." + name])


def write(name):
    folder, family = models.ROOT / name, name.split("-")[0]
    auto, head, outputs, inputs, vera_targets = FAMILIES[family]
    batch = {key: value for key, value in load_file(folder / "golden.safetensors").items() if key in BATCH}
    projections = load_file(folder / "vera/adapter_model.safetensors")
    load = lambda: auto.from_pretrained(folder, dtype=torch.float32)
    out = {}

    def add(kind, config, names):
        torch.manual_seed(13)
        model = get_peft_model(load(), config)
        if kind == "vera":
            with torch.no_grad():
                set_projections(model, projections)
        tiny.randomize(model, names + ["modules_to_save"])
        models.measure(model, batch, kind + ".", out)
        models.save_adapter(model, folder / kind)

    add("dora", LoraConfig(r=2, lora_alpha=4, use_dora=True, target_modules=list(tiny.TARGETS[family].values()),
                           modules_to_save=head), ["lora_"])
    add("ia3", IA3Config(target_modules=outputs + inputs, feedforward_modules=inputs, modules_to_save=head), ["ia3_"])
    add("vera", VeraConfig(r=RANK, target_modules=vera_targets, modules_to_save=head, save_projection=True),
        ["vera_lambda"])
    save_file(out, folder / "adapters.safetensors")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    print(f"{name}: {(folder / 'adapters.safetensors').stat().st_size} bytes of values")


if __name__ == "__main__":
    for case in sys.argv[1:] or ["llama", "llama-tied", "vit", "bert", "gpt2"]:
        write(case)
