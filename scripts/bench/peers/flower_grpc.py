"""Rounds of Flower's older engine (start_server over gRPC), without training.

    PYTHON flower_grpc.py --clients 50 --values 262144 --rounds 10 [--per-round K]

The server has a core to itself. Flower's own Python client saturates a core at about 500 threads and would be what is
measured; `flower_grpc_clients.py` speaks the same protocol from one event loop."""
import argparse
import json
import os
import sys
import tempfile
import time

import measure

parser = argparse.ArgumentParser()
parser.add_argument("--clients", type=int, required=True)
parser.add_argument("--per-round", type=int, default=0)
parser.add_argument("--values", type=int, required=True)
parser.add_argument("--rounds", type=int, default=10)
parser.add_argument("--port", type=int, help="(the server's process)")
parser.add_argument("--out", help="(the server's process)")
options = parser.parse_args()
cohort = options.per_round or options.clients


def serve():
    import logging

    import flwr
    import numpy
    from flwr.common import ndarrays_to_parameters

    logging.getLogger("flwr").setLevel(logging.ERROR)
    record = {"version": flwr.__version__, "ends": []}

    class Timed(flwr.server.strategy.FedAvg):
        def configure_fit(self, server_round, parameters, client_manager):
            if server_round == 1:
                record["idle_mib"] = measure.rss_mib(os.getpid())
                client_manager.wait_for(options.clients, 300)
                record["connected_mib"] = measure.rss_mib(os.getpid())
                record["first_round"] = time.time()
            return super().configure_fit(server_round, parameters, client_manager)

        def aggregate_fit(self, server_round, results, failures):
            summed = super().aggregate_fit(server_round, results, failures)
            if server_round in (1, options.rounds):  # the marks between which everything is counted
                record["ends"].append((time.time(), time.process_time(), *measure.socket_bytes(options.port)))
            if failures or len(results) != cohort:
                raise SystemExit(f"{len(results)} results, {len(failures)} failures: {failures[:1]}")
            return summed

    strategy = Timed(fraction_fit=cohort / options.clients, fraction_evaluate=0.0, min_fit_clients=cohort,
                     min_available_clients=options.clients,
                     initial_parameters=ndarrays_to_parameters([numpy.zeros(options.values, numpy.float32)]))
    manager = flwr.server.SimpleClientManager()
    flwr.server.start_server(server_address=f"127.0.0.1:{options.port}",
                             server=flwr.server.Server(client_manager=manager, strategy=strategy),
                             config=flwr.server.ServerConfig(num_rounds=options.rounds))
    with open(options.out, "w") as file:
        json.dump({**record, "peak_mib": measure.peak_mib()}, file)


def main(folder):
    port, out = measure.free_port(), f"{folder}/server.json"
    words = [sys.executable, __file__, "--clients", options.clients, "--per-round", options.per_round, "--values",
             options.values, "--rounds", options.rounds, "--port", port, "--out", out]
    begin = time.time()
    with open(f"{folder}/log", "w") as log:
        server = measure.start(words, measure.SERVER_CORE, log)
        # The clients start at once: gRPC tries again until the server listens.
        clients = measure.start([sys.executable, measure.HERE / "flower_grpc_clients.py", port, options.clients,
                                 options.values], measure.CLIENT_CORE, log)
        peak = measure.Peak(clients.pid)
        measure.wait_for(lambda: server.poll() is not None, "Flower's server", 500, every_s=0.05)
    if not os.path.exists(out):
        raise SystemExit("Flower: no result: " + open(f"{folder}/log").read().strip()[-800:])
    record = json.load(open(out))
    (start_s, start_cpu_s, down, up), (end_s, end_cpu_s, down_end, up_end) = record["ends"]
    rounds = options.rounds - 1
    measure.report(
        peer="Flower gRPC", version=record["version"], work="rounds", clients=options.clients, cohort=cohort,
        payload_bytes=4 * options.values, tls=False, rounds=options.rounds, seconds_a_round=(end_s - start_s) / rounds,
        server_cpu_ms=1e3 * (end_cpu_s - start_cpu_s) / rounds / cohort, rss_mib=record["peak_mib"],
        rss_idle_mib=record["idle_mib"], clients_rss_mib=peak.mib, bytes_up=(up_end - up) / rounds / cohort,
        bytes_down=(down_end - down) / rounds / cohort, start_s=record["first_round"] - begin)


if options.port:
    serve()
else:
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
