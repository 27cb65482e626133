"""Light SuperNodes: Flower's own connection to the fleet (register, heartbeat, pull, confirm, push, its poll every 3 s), each
in a thread, with the client's work done in place and not in a process of its own. Shows what the server side alone can do.

    PYTHON flower_superlink_nodes.py HOST:PORT NODES VALUES"""
import logging
import sys
import threading
import time

import numpy
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import (get_all_nested_objects, get_object_tree, iterate_object_tree,
                                                         no_object_id_recompute)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

logging.getLogger("flwr").setLevel(logging.ERROR)
address, nodes, values = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
POLL_S = 3  # the real SuperNode's


def answer(received, pull, confirm, draw):
    message, tree = received
    run = message.metadata.run_id
    parts = pull_objects([node.object_id for node in iterate_object_tree(tree)], pull_object_fn=lambda one: pull(run, one))
    confirm(run, message.metadata.message_id)
    question = inflate_object_from_contents(message.metadata.message_id, parts)
    question.metadata.__dict__["_message_id"] = message.metadata.message_id
    update = draw.standard_normal(values, dtype=numpy.float32)
    metrics = MetricRecord({"loss": 0.1, "num-examples": 10})
    return Message(content=RecordDict({"arrays": ArrayRecord([update]), "metrics": metrics}), reply_to=question), run


def node(number):
    time.sleep(0.02 * number)
    draw = numpy.random.default_rng(number)
    with http_request_response(address, True) as (_, receive, send, _, _, pull, push, confirm):
        while True:
            received = receive()
            if received is None:
                time.sleep(POLL_S)
                continue
            reply, run = answer(received, pull, confirm, draw)
            with no_object_id_recompute():
                reply.metadata.__dict__["_message_id"] = reply.object_id
                wanted, session = send(reply, get_object_tree(reply), 0.1)
                for name, part in get_all_nested_objects(reply).items():
                    if name in wanted:
                        push(run, session, name, part.deflate())


threading.stack_size(512 * 1024)
running = [threading.Thread(target=node, args=(number,), daemon=True) for number in range(nodes)]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
