"""Apple's pfl simulator: one process, one thread, on one core.

    PYTHON pfl_simulation.py linear|mlp|lora-16x32 COHORT ROUNDS CLIENTS [STEPS DATA]"""
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

kind, cohort, rounds, clients = sys.argv[1], *map(int, sys.argv[2:5])


class Stopwatch(TrainingProcessCallback):
    ends, cpu_s = [], []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.ends.append(time.perf_counter())
        self.cpu_s.append(time.process_time())
        return False, type(aggregate_metrics)()


def make_work():
    """(model, its data of one client, optimizer, learning rate, batch size)"""
    if kind != "lora-16x32":
        import torch_work
        inputs, labels = torch_work.data_pool(kind)
        return (torch_work.Net(kind), lambda user: [inputs[user % torch_work.POOL], labels[user % torch_work.POOL]],
                torch.optim.SGD, torch_work.LEARNING_RATE, torch_work.BATCH)
    import torch_lora_work
    count, tokens = int(sys.argv[5]) * torch_lora_work.BATCH, torch_lora_work.Tokens()

    class Net(torch_lora_work.LoraClassifier):
        def loss(self, inputs, labels, eval=False):  # pfl's names; its data are tensors
            return super().loss({"input_ids": inputs, "attention_mask": torch.ones_like(inputs)}, labels)

        def metrics(self, inputs, labels, eval=True):
            return {}

    return (Net(sys.argv[6]), lambda user: list(tokens.draw(count)), torch.optim.AdamW, 1e-3, torch_lora_work.BATCH)


net, data_of, optimizer, learning_rate, batch = make_work()
data = FederatedDataset(lambda user: Dataset(raw_data=data_of(user)), get_user_sampler("random", list(range(clients))))
model = PyTorchModel(net, optimizer, torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=1.0))
FederatedAveraging().run(
    algorithm_params=NNAlgorithmParams(central_num_iterations=rounds, evaluation_frequency=10**9, train_cohort_size=cohort,
                                       val_cohort_size=0),
    backend=SimulatedBackend(training_data=data, val_data=data), model=model,
    model_train_params=NNTrainHyperParams(local_batch_size=batch, local_num_epochs=1,
                                          local_learning_rate=learning_rate),
    model_eval_params=NNEvalHyperParams(local_batch_size=None), callbacks=[Stopwatch()])
round_s = float(numpy.median(numpy.diff(Stopwatch.ends)[1:]))
measure.report(peer="pfl", version="0.6.0", work=kind, clients=clients, cohort=cohort, rounds=rounds, cores=1,
               seconds_a_round=round_s, updates_a_second=cohort / round_s, rss_mib=measure.peak_mib(),
               cpu_ms=1e3 * (Stopwatch.cpu_s[-1] - Stopwatch.cpu_s[0]) / (rounds - 1) / cohort)
