"""NVIDIA FLARE's simulator: FedAvg on numpy arrays, without training. A round is from the first client's question to the
first client's question of the next round.

    PYTHON flare_simulation.py CLIENTS VALUES ROUNDS"""
import collections
import os
import sys
import tempfile

import measure

begin = measure.born()
peak = measure.Peak(os.getpid(), every_s=0.3)
os.environ.update({key: value for key, value in measure.ENVIRONMENT.items() if key not in os.environ})

import numpy  # noqa: E402  (start-up is part of what is measured)
import nvflare  # noqa: E402
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe  # noqa: E402
from nvflare.recipe import SimEnv  # noqa: E402

clients, values, rounds = map(int, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    log = f"{folder}/log"
    recipe = NumpyFedAvgRecipe(name="bench", model=numpy.zeros(values, numpy.float32), min_clients=clients,
                               num_rounds=rounds, train_script=str(measure.HERE / "flare_client.py"),
                               train_args=f"{values} {log}")
    recipe.execute(SimEnv(num_clients=clients, num_threads=clients, workspace_root=f"{folder}/work"))
    asked = collections.defaultdict(list)
    with open(log) as lines:
        for line in lines:
            number, when = line.split()
            asked[int(number)].append(float(when))
starts = [min(asked[number]) for number in sorted(asked)]
round_s = (starts[-1] - starts[0]) / (len(starts) - 1)
measure.report(peer="NVIDIA FLARE simulator", version=nvflare.__version__, work="exchange", clients=clients, cohort=clients,
               payload_bytes=4 * values, rounds=rounds, seconds_a_round=round_s, updates_a_second=clients / round_s,
               start_s=starts[0] - begin, rss_mib=peak.mib)
