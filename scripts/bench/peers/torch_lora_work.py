"""LoRA on MiniLM and banking77 with PyTorch, transformers and PEFT: the usual loop, padded to the longest text of a batch."""
import csv
import random

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertModel, BertTokenizerFast

BATCH, CLASSES = 16, 77

torch.set_num_threads(1)
torch.manual_seed(0)


class LoraClassifier(torch.nn.Module):
    def __init__(self, data):
        super().__init__()
        encoder = BertModel.from_pretrained(f"{data}/models/minilm-l6", dtype=torch.float32)
        self.encoder = get_peft_model(encoder, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]))
        self.head = torch.nn.Linear(384, CLASSES)

    def trained(self):
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def loss(self, inputs, labels):
        hidden = self.encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return torch.nn.functional.cross_entropy(self.head((hidden * mask).sum(1) / mask.sum(1)), labels)


class Texts:
    """Random batches of banking77's training texts."""

    def __init__(self, data, seed=0):
        with open(f"{data}/banking77/train.csv") as file:
            self.rows = list(csv.DictReader(file))
        self.classes = {name: i for i, name in enumerate(sorted({row["category"] for row in self.rows}))}
        self.tokenizer = BertTokenizerFast(f"{data}/models/minilm-l6/vocab.txt")
        self.draw = random.Random(seed)

    def batch(self):
        rows = self.draw.sample(self.rows, BATCH)
        inputs = self.tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
        return inputs, torch.tensor([self.classes[row["category"]] for row in rows])


class Tokens:
    """Batches of 16 x 32 random tokens: no padding to save, no tokenizer to wait for."""

    def draw(self, count):
        return torch.randint(1000, 30000, (count, 32)), torch.randint(0, CLASSES, (count,))

    def batch(self):
        tokens, labels = self.draw(BATCH)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, labels


def train(model, source, steps):
    """AdamW from a fresh state; the last loss."""
    optimizer = torch.optim.AdamW(model.trained(), lr=1e-3)
    model.train()
    for _ in range(steps):
        inputs, labels = source.batch()
        loss = model.loss(inputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())
