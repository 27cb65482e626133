"""Light clients of Flower's older engine: its own protocol messages over grpc.aio, all from one event loop, each on a TCP
connection of its own (gRPC would share one). They answer every question with the same ready update.

    PYTHON flower_grpc_clients.py PORT CLIENTS VALUES"""
import asyncio
import sys

import grpc
import numpy
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, serde
from flwr.proto.transport_pb2 import ClientMessage, Reason
from flwr.proto.transport_pb2_grpc import FlowerServiceStub

port, clients, values = map(int, sys.argv[1:])
update = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([numpy.ones(values, numpy.float32)]), 10, {"loss": 0.1})
ANSWER = ClientMessage(fit_res=serde.fit_res_to_proto(update))
LEAVE = ClientMessage(disconnect_res=ClientMessage.DisconnectRes(reason=Reason.ACK))
CHANNEL = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 2**29),
           ("grpc.max_send_message_length", 2**29), ("grpc.max_reconnect_backoff_ms", 200),
           ("grpc.initial_reconnect_backoff_ms", 100)]


async def client():
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL) as channel:
        stream = FlowerServiceStub(channel).Join(wait_for_ready=True)
        while (message := await stream.read()) != grpc.aio.EOF:
            kind = message.WhichOneof("msg")
            if kind == "fit_ins":
                await stream.write(ANSWER)
            elif kind == "reconnect_ins":
                await stream.write(LEAVE)
                await stream.done_writing()
                return


async def main():
    running = []
    for _ in range(clients):
        running.append(asyncio.create_task(client()))
        await asyncio.sleep(0.002)
    await asyncio.gather(*running, return_exceptions=True)

asyncio.run(main())
