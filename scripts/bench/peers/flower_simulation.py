"""Flower's simulation engine (Ray, one actor a core), with work from torch_work.py or torch_lora_work.py, or an exchange of
VALUES numbers alone.

    PYTHON flower_simulation.py exchange|mlp|lora COHORT ROUNDS CLIENTS [STEPS DATA]"""
import logging
import os
import sys
import time

import numpy
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

import measure

kind, cohort, rounds, clients = sys.argv[1], *map(int, sys.argv[2:5])
steps, data = (int(sys.argv[5]), sys.argv[6]) if kind == "lora" else (0, "")
VALUES = 1024
begin = measure.born()
starts, ends, cpu_s = [], [], []
os.environ["PYTHONPATH"] = str(measure.HERE)  # the actors'
os.environ.update({key: value for key, value in measure.ENVIRONMENT.items() if key not in os.environ})


class Timed(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        starts.append(time.time())
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        errors = [reply.error.reason[:300] for reply in replies if reply.has_error()]
        if errors or len(replies) != cohort:
            raise SystemExit(f"{len(replies)} replies, {errors[:1]}")
        summed = super().aggregate_train(server_round, replies)
        ends.append(time.time())
        cpu_s.append(sum(measure.cpu_s(pid) for pid in measure.tree(os.getpid())))
        return summed


server, client = ServerApp(), ClientApp()


def make_model():
    """(weights, train) of one process; made once an actor and not, as in Flower's examples, once a client."""
    if kind == "lora":
        import torch_lora_work
        model, texts = torch_lora_work.LoraClassifier(data), torch_lora_work.Texts(data)
        return model.trained(), lambda client: torch_lora_work.train(model, texts, steps)
    import torch_work
    net, (inputs, labels) = torch_work.Net(kind), torch_work.data_pool(kind)
    return list(net.parameters()), lambda client: torch_work.train(net, inputs[client % torch_work.POOL],
                                                                   labels[client % torch_work.POOL])


@server.main()
def main(grid: Grid, context: Context):
    initial = [numpy.zeros(VALUES, numpy.float32)] if kind == "exchange" else \
        [weights.detach().numpy() for weights in make_model()[0]]
    Timed(fraction_train=cohort / clients, fraction_evaluate=0.0, min_train_nodes=cohort,
          min_available_nodes=clients).start(grid=grid, initial_arrays=ArrayRecord(initial), num_rounds=rounds)


@client.train()
def train(message: Message, context: Context):
    weights, loss = message.content["arrays"].to_numpy_ndarrays(), 0.1
    if kind != "exchange":
        import torch
        if not made:
            made.extend(make_model())
        with torch.no_grad():
            for parameter, given in zip(made[0], weights):
                parameter.copy_(torch.from_numpy(given.copy()))
        loss = made[1](int(context.node_config["partition-id"]))
        weights = [parameter.detach().numpy() for parameter in made[0]]
    metrics = MetricRecord({"loss": loss, "num-examples": 50})
    return Message(content=RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=message)


made = []  # of one actor

if __name__ == "__main__":
    import flwr
    logging.getLogger("flwr").setLevel(logging.ERROR)
    peak = measure.Peak(os.getpid(), every_s=0.3)
    run_simulation(server_app=server, client_app=client, num_supernodes=clients,
                   backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                                   "init_args": {"num_cpus": os.cpu_count(), "log_to_driver": False}})
    round_s = (ends[-1] - ends[0]) / (len(ends) - 1)
    measure.report(peer="Flower simulation", version=flwr.__version__, work=kind, clients=clients, cohort=cohort,
                   rounds=rounds, cores=os.cpu_count(), seconds_a_round=round_s, updates_a_second=cohort / round_s,
                   start_s=starts[0] - begin, first_round_s=ends[0] - starts[0], rss_mib=peak.mib,
                   cpu_ms=1e3 * (cpu_s[-1] - cpu_s[0]) / (rounds - 1) / cohort)
    os._exit(0)  # Ray's shutdown takes seconds and is not measured
