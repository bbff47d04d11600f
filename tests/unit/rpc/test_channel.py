"""Channels of our clients, beside real servers."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tests.cutting import Cutter

from dalsegno.rpc.channel import open_channel


async def test_a_distant_server_is_reached_by_the_first_attempt() -> None:
    """An attempt to connect is not ended because the first answer takes half a second, as over a slow network."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Cutter(f"127.0.0.1:{port}") as distant, open_channel(distant.address) as channel:
            distant.flows.clear()
            asyncio.get_running_loop().call_later(0.5, distant.flows.set)
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(), timeout=5)
    finally:
        await server.stop(None)
    assert (answer.status, distant.connections) == (health_pb2.HealthCheckResponse.SERVING, 1)
