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
            answer = await check(health_pb2.HealthCheckRequest(), timeout=30)
    finally:
        await server.stop(None)
    assert (answer.status, distant.connections) == (health_pb2.HealthCheckResponse.SERVING, 1)


async def test_the_servers_of_a_name_are_called_in_turn() -> None:
    """A name with several addresses: calls go in turn to the servers that say that they are ready."""
    told = (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
    servers, healths, ports = [], [], []
    for status in told:
        servicer = health.aio.HealthServicer()
        await servicer.set("", told[0])
        await servicer.set("which", status)
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
        healths.append(servicer)
    async with open_channel("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports), balanced=True) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )

        async def ask() -> set[int]:
            request = health_pb2.HealthCheckRequest(service="which")
            return {(await check(request, timeout=30, wait_for_ready=True)).status for _ in range(10)}

        async with asyncio.timeout(60):
            while await ask() != set(told):
                pass
            await healths[0].set("", told[1])
            while await ask() != {told[1]}:
                pass
            await servers[1].stop(None)
            await healths[0].set("", told[0])
            while await ask() != {told[0]}:
                pass
    await servers[0].stop(None)
