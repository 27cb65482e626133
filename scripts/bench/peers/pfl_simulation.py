"""Apple's pfl simulator: one process, one thread, on one core.

    PYTHON pfl_simulation.py linear|mlp COHORT ROUNDS CLIENTS"""
import sys
import time

import numpy
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel

import measure
import torch_work as work

kind, cohort, rounds, clients = sys.argv[1], *map(int, sys.argv[2:])


class Stopwatch(TrainingProcessCallback):
    ends = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.ends.append(time.perf_counter())
        return False, type(aggregate_metrics)()


inputs, labels = work.data_pool(kind)
data = FederatedDataset(lambda user: Dataset(raw_data=[inputs[user % work.POOL], labels[user % work.POOL]]),
                        get_user_sampler("random", list(range(clients))))
net = work.Net(kind)
model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
FederatedAveraging().run(
    algorithm_params=NNAlgorithmParams(central_num_iterations=rounds, evaluation_frequency=10**9, train_cohort_size=cohort,
                                       val_cohort_size=0),
    backend=SimulatedBackend(training_data=data, val_data=data), model=model,
    model_train_params=NNTrainHyperParams(local_batch_size=work.BATCH, local_num_epochs=1,
                                          local_learning_rate=work.LEARNING_RATE),
    model_eval_params=NNEvalHyperParams(local_batch_size=None), callbacks=[Stopwatch()])
round_s = float(numpy.median(numpy.diff(Stopwatch.ends)[1:]))
measure.report(peer="pfl", version="0.6.0", work=kind, clients=clients, cohort=cohort, rounds=rounds, cores=1,
               seconds_a_round=round_s, updates_a_second=cohort / round_s, rss_mib=measure.peak_mib())
