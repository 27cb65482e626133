"""Training speed of PyTorch + PEFT on one thread: MiniLM, LoRA rank 8 on query and value, batches of 16, AdamW.

    PYTHON torch_peft_step.py lora|lora-16x32 STEPS DATA       lora: banking77's texts; lora-16x32: full rows of 32 tokens"""
import sys
import time

import measure
import peft
import torch
import torch_lora_work as work

kind, steps, data = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model = work.LoraClassifier(data)
source = work.Texts(data) if kind == "lora" else work.Tokens()
work.train(model, source, 5)
begin, cpu_before_s = time.perf_counter(), time.process_time()
work.train(model, source, steps)
taken_s = time.perf_counter() - begin
measure.report(peer="PyTorch + PEFT", version=f"{torch.__version__} + {peft.__version__}", work=kind, cores=1,
               samples_a_second=steps * work.BATCH / taken_s, rss_mib=measure.peak_mib(),
               cpu_ms=1e3 * (time.process_time() - cpu_before_s) / (steps * work.BATCH))
