"""The floor of a simulation in PyTorch: the clients' training in a plain loop, no federation, one thread.

    PYTHON torch_bare.py linear|mlp"""
import sys
import time

import torch

import measure
import torch_work as work

kind = sys.argv[1]
net, (inputs, labels) = work.Net(kind), work.data_pool(kind)


def updates_a_second(clients):
    begin = time.perf_counter()
    for number in range(clients):
        work.train(net, inputs[number % work.POOL], labels[number % work.POOL])
    return clients / (time.perf_counter() - begin)


count = 1000 if kind == "linear" else 200
updates_a_second(count)
cpu_before_s = time.process_time()
rates = sorted(updates_a_second(count) for _ in range(5))
measure.report(peer="bare PyTorch loop", version=torch.__version__, work=kind, updates_a_second=rates[2], cores=1,
               cpu_ms=1e3 * (time.process_time() - cpu_before_s) / (5 * count), rss_mib=measure.peak_mib())
