"""Channels of our clients, beside real servers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dalsegno.rpc.channel import open_channel


async def test_a_distant_server_is_reached_by_the_first_attempt() -> None:
    """An attempt to connect is not ended because the first answer takes half a second, as over a slow network."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    attempts = 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        behind, before = await asyncio.open_connection("127.0.0.1", port)
        onward = asyncio.create_task(pass_on(reader, before))
        await asyncio.sleep(0.5)
        await pass_on(behind, writer)
        await onward

    distant = await asyncio.start_server(accept, "127.0.0.1", 0)
    address = "{}:{}".format(*distant.sockets[0].getsockname())
    try:
        async with open_channel(address) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(), timeout=5)
    finally:
        distant.close()
        await server.stop(None)
    assert (answer.status, attempts) == (health_pb2.HealthCheckResponse.SERVING, 1)
