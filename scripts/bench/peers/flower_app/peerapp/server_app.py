"""FedAvg that writes down, after each round, when it began and ended and what CPU time this process has used."""
import json
import os
import time

import numpy
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

class Timed(FedAvg):
    def __init__(self, out, **more):
        super().__init__(**more)
        self.out, self.rounds, self.begin = out, [], 0.0

    def configure_train(self, server_round, arrays, config, grid):
        asked = list(super().configure_train(server_round, arrays, config, grid))
        self.begin = time.time()
        return asked

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        errors = [reply.error.reason[:200] for reply in replies if reply.has_error()]
        summed = super().aggregate_train(server_round, replies)
        with open("/proc/self/status") as status:
            peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        self.rounds.append({"begin": self.begin, "end": time.time(), "cpu_s": time.process_time(),
                            "peak_mib": peak_kib / 1024, "replies": len(replies), "errors": errors})
        with open(self.out + ".new", "w") as file:
            json.dump(self.rounds, file)

        os.replace(self.out + ".new", self.out)
        return summed

@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    clients = int(config["clients"])
    strategy = Timed(str(config["out"]), fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=clients,
                     min_available_nodes=clients)
    strategy.start(grid=grid, initial_arrays=ArrayRecord([numpy.zeros(int(config["values"]), numpy.float32)]),
                   num_rounds=int(config["rounds"]), timeout=3600.0)
