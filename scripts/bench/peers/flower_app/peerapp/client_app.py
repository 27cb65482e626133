"""Answers with numbers that differ by client and round: the SuperLink stores equal arrays once and would not send them again."""
import numpy
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context):
    seed = 1000 * int(message.content["config"]["server-round"]) + int(context.node_config.get("partition-id", 0))
    update = numpy.random.default_rng(seed).standard_normal(int(context.run_config["values"]), dtype=numpy.float32)
    return Message(content=RecordDict({"arrays": ArrayRecord([update]),
                                       "metrics": MetricRecord({"loss": 0.1, "num-examples": 10})}), reply_to=message)
