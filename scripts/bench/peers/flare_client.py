"""NVIDIA FLARE's client of flare_simulation.py: answers with fresh numbers, writes down when it was asked.

    flare_client.py VALUES LOG"""
import sys
import time

import numpy
import nvflare.client as flare

values, log = int(sys.argv[1]), sys.argv[2]
flare.init()
draw = numpy.random.default_rng(abs(hash(flare.get_site_name())) % 2**32)
while flare.is_running():
    question = flare.receive()
    if question is None:
        break
    with open(log, "a") as file:
        file.write(f"{question.current_round} {time.time()}\n")
    flare.send(flare.FLModel(params={"numpy_key": draw.standard_normal(values, dtype=numpy.float32)}, params_type="FULL",
                             metrics={"accuracy": 0.1}, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
