#!/usr/bin/env python3
"""The stories260K shape in PyTorch + PEFT, op by op: training (LoRA rank 4 on query and value, AdamW) and evaluation, 16 x 128 tokens, one thread.
Beside build/release/tests/llama_bench. Prints samples/s: least, median, most of nine."""
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
torch.manual_seed(1)
model = LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=172, num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=4,
                                     vocab_size=512, max_position_embeddings=512, tie_word_embeddings=True, use_cache=False))
model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
tokens = torch.randint(0, 512, (16, 128))


def train():
    optimizer.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()


def evaluate():
    with torch.inference_mode():
        model(input_ids=tokens, labels=tokens)


for name, step in (("train", train), ("eval", evaluate)):
    step()
    rates = []
    for _ in range(9):
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < 0.7:
            step()
            steps += 1
        rates.append(16 * steps / (time.perf_counter() - start))
    rates.sort()
    print(f"{name} 16x128: {rates[0]:.1f} {rates[4]:.1f} {rates[-1]:.1f} samples/s")
