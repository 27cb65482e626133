"""Writes tests/golden/models/{mlp,cnn,kwt}: the families that transformers lacks, in plain PyTorch. Files as models.py's:
config.json, model.safetensors, golden.safetensors ("full." only). See setup.sh.
"""
import json

import models
import tiny
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

LABELS = torch.tensor([0, 2, 1])


class Mlp(nn.Module):
    def __init__(self, inputs, width, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs if i == 0 else width, width) for i in range(depth))
        self.classifier = nn.Linear(width, len(models.NAMES))

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.classifier(x)


class Cnn(nn.Module):
    def __init__(self, channels, rows, columns, filters, width):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 5, padding=2)
        self.conv2 = nn.Conv2d(filters, 2 * filters, 5, padding=2)
        self.fc1 = nn.Linear(2 * filters * (rows // 2 // 2) * (columns // 2 // 2), width)
        self.classifier = nn.Linear(width, len(models.NAMES))

    def forward(self, x):
        for convolution in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self.classifier(F.relu(self.fc1(x.flatten(1))))


class KwtBlock(nn.Module):
    def __init__(self, width, heads, hidden, eps):
        super().__init__()
        self.heads = heads
        self.attn, self.mlp = nn.Module(), nn.Module()
        for name in "qkv":
            setattr(self.attn, name, nn.Linear(width, width, bias=False))
        self.attn.proj = nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)

    def forward(self, x):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = split(self.attn.q(x)), split(self.attn.k(x)), split(self.attn.v(x))
        weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, -1)
        x = self.norm1(x + self.attn.proj((weights @ v).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.mlp.fc2(F.gelu(self.mlp.fc1(x), approximate="tanh")))


class Kwt(nn.Module):
    def __init__(self, frames, coefficients, width, depth, heads, hidden, eps):
        super().__init__()
        self.patch = nn.Linear(coefficients, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, frames + 1, width))
        self.blocks = nn.ModuleList(KwtBlock(width, heads, hidden, eps) for _ in range(depth))
        self.head = nn.Linear(width, len(models.NAMES))

    def forward(self, x):
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch(x)], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


def write(name, model, config, inputs):
    folder = models.ROOT / name
    folder.mkdir(exist_ok=True)
    model = model.eval()
    tiny.randomize(model, [""])
    key = "pixels" if inputs.dim() == 4 else "features"
    logits = model(inputs)
    loss = F.cross_entropy(logits, LABELS)
    loss.backward()
    out = {key: inputs, "labels": LABELS, "full.loss": loss.detach().reshape(1), "full.logits": logits.detach()}
    out |= {"full.grad." + part: value.grad.contiguous() for part, value in model.named_parameters()}
    save_file(out, folder / "golden.safetensors")
    save_file({part: value.detach() for part, value in model.named_parameters()}, folder / "model.safetensors")
    config |= tiny.classes(models.NAMES)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def main():
    torch.manual_seed(12)
    write("mlp", Mlp(10, 8, 2), {"model_type": "fedctl_mlp", "hidden_size": 8, "num_hidden_layers": 2}, torch.randn(3, 10))
    # An odd side: pooling leaves its last row out.
    write("cnn", Cnn(2, 9, 8, 3, 7), {"model_type": "fedctl_cnn", "hidden_size": 7, "num_filters": 3},
          torch.randn(3, 2, 9, 8))
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 10}
    write("kwt", Kwt(5, 6, 12, 2, 2, 10, 1e-5),
          {"model_type": "kwt", "num_frames": 5, "num_coefficients": 6, "layer_norm_eps": 1e-5} | sizes, torch.randn(3, 5, 6))


if __name__ == "__main__":
    main()
