"""The usual loop: tokenise, pad to the longest of the batch, forward, backward, AdamW. Prints samples a second."""
import csv
import random
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertModel, BertTokenizerFast

STEPS, BATCH = 60, 16
MODEL = "../shared/data/models/minilm-l6"

torch.set_num_threads(1)
torch.manual_seed(0)
random.seed(0)
rows = list(csv.DictReader(open("../shared/data/banking77/train.csv")))
labels = {name: i for i, name in enumerate(sorted({row["category"] for row in rows}))}
tokenizer = BertTokenizerFast(MODEL + "/vocab.txt")
model = get_peft_model(BertModel.from_pretrained(MODEL, dtype=torch.float32),
                       LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]))
head = torch.nn.Linear(384, len(labels))
trained = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
optimizer = torch.optim.AdamW(trained, lr=1e-3)
model.train()


def step():
    batch = random.sample(rows, BATCH)
    inputs = tokenizer([row["text"] for row in batch], padding=True, truncation=True, return_tensors="pt")
    hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    loss = torch.nn.functional.cross_entropy(head(pooled), torch.tensor([labels[row["category"]] for row in batch]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


for _ in range(5):
    step()
start = time.perf_counter()
for _ in range(STEPS):
    step()
print("peft", STEPS * BATCH / (time.perf_counter() - start))
