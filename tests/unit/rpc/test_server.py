"""A server from its start to its stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.integration.engines import until
from tests.ports import free_address
from tests.unit.rpc.conftest import Engine, World

from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import read_failure
from dalsegno.rpc.peers import Peers
from dalsegno.rpc.server import CannotListen, Server, is_local
from dalsegno.v1 import engine_service_pb2, engine_service_pb2_grpc, executor_service_pb2

STATUS = health_pb2.HealthCheckResponse


async def ask_health(world: World, service: str) -> int:
    """Return the status of a service's health."""
    stub: Any = health_pb2_grpc.HealthStub(world.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


def goodbye(reason: str) -> executor_service_pb2.ConnectRequest:
    """Return a message that tells the scripted servicer what to do."""
    return executor_service_pb2.ConnectRequest(goodbye=executor_service_pb2.Goodbye(reason=reason))


async def test_health_follows_readiness_of_each_service(world: World) -> None:
    """A service is SERVING only while it is ready, independent of the others."""
    await world.server.set_ready(False, "dalsegno.v1.ExecutorService")

    assert await ask_health(world, "dalsegno.v1.ExecutorService") == STATUS.NOT_SERVING
    assert await ask_health(world, "dalsegno.v1.EngineService") == STATUS.SERVING
    assert await ask_health(world, "") == STATUS.SERVING


async def test_a_server_says_why_it_is_not_ready(world: World) -> None:
    """Whoever calls it in turn with others hears the reason with its health, until it is ready again."""
    peers = Peers("engine", [f"127.0.0.1:{world.server.port}"])
    await peers.start()
    await until(lambda: peers.is_ready)
    for reason in ("the disk is full: größer", "x" * 10_000):
        await world.server.set_ready(False, reason=reason)
        told = f"the engine at 127.0.0.1:{world.server.port}: {reason[:2_000]}"
        await until(lambda told=told: peers.told() == told)  # type: ignore[misc]
        assert await ask_health(world, "dalsegno.v1.EngineService") == STATUS.NOT_SERVING
    await world.server.set_ready(True)
    await until(lambda: peers.is_ready)
    assert peers.told() == ""
    await peers.stop()


async def test_a_server_that_has_just_started_is_not_ready() -> None:
    """Before the server is ready, health is NOT_SERVING for it and for its services."""
    server = Server("127.0.0.1:0", ["dalsegno.v1.EngineService"])
    await server.start()
    channel = open_channel(f"127.0.0.1:{server.port}")
    stub: Any = health_pb2_grpc.HealthStub(channel)

    for service in ("", "dalsegno.v1.EngineService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == STATUS.NOT_SERVING
    await channel.close()
    await server.stop(0)


async def test_reflection_lists_the_services(world: World) -> None:
    """A client without protos can list the services."""

    def listed() -> Any:
        with grpc.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert {"dalsegno.v1.EngineService", "dalsegno.v1.ExecutorService", "grpc.health.v1.Health"} <= (
        await asyncio.to_thread(listed)
    )


def _described(channel: Any, version: str, **asked: str) -> Any:
    """Return the answer of reflection under one of its names."""
    call: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return call(iter([reflection_pb2.ServerReflectionRequest(**asked)]))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_brings_the_comments(world: World, version: str) -> None:
    """Under both names of reflection a client gets whole descriptors with the comments of the protos."""
    services = {f"grpc.reflection.{each}.ServerReflection" for each in ("v1", "v1alpha")}
    async for answer in _described(world.channel, version, list_services=""):
        assert {each.name for each in answer.list_services_response.service} >= services
    pool = descriptor_pool.DescriptorPool()
    found = {}
    for symbol in ("dalsegno.v1.EngineService", *services):
        async for answer in _described(world.channel, version, file_containing_symbol=symbol):
            files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
            found.update({file.name: file for file in files})
    pending = list(found.values())
    while pending:  # a pool takes a file after those that it needs
        ready = [file for file in pending if not {each.name for each in pending} & set(file.dependency)]
        for file in ready:
            pool.Add(file)
            pending.remove(file)
    assert pool.FindServiceByName("grpc.reflection.v1.ServerReflection").methods
    comments = [
        location.leading_comments
        for location in found["dalsegno/v1/engine_service.proto"].source_code_info.location
        if list(location.path) == [6, 0, 2, 0]
    ]
    assert comments[0].startswith(" Makes one write: when this answers, the contract of its public rpc is fulfilled.")
    options = found["dalsegno/v1/engine_service.proto"].options
    assert (options.java_package, options.ruby_package) == ("dalsegno.v1", "Dalsegno::V1")


async def test_a_second_server_on_the_same_port_is_refused(world: World) -> None:
    """A port that is in use is an error with the address."""
    second = Server(f"127.0.0.1:{world.server.port}", [])

    with pytest.raises(CannotListen, match=str(world.server.port)):
        await second.start()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:7700", True),
        ("127.1.2.3:0", True),
        ("localhost:7700", True),
        ("[::1]:7700", True),
        ("unix:/run/dalsegno/engine", True),
        ("0.0.0.0:7700", False),
        ("[::]:7700", False),
        (":7700", False),
        ("192.0.2.1:7700", False),
        ("no-such-host.example.com:7700", False),
    ],
)
def test_only_loopback_is_this_machine(address: str, local: bool) -> None:
    """An address that may be reachable counts as reachable."""
    assert is_local(address) is local


async def test_other_machines_are_served_only_when_that_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    """A reachable address is refused with advice; with `insecure` it is used, with a warning."""
    with pytest.raises(CannotListen, match=r"it speaks plain text .* --tls-client-ca.* --insecure"):
        await Server("0.0.0.0:0", ["dalsegno.v1.EngineService"]).start()
    with caplog.at_level("WARNING"):
        server = Server("0.0.0.0:0", ["dalsegno.v1.EngineService"], insecure=True)
        await server.start()
        assert "0.0.0.0:0 is open to everybody who can reach it: it speaks plain text" in caplog.text
        caplog.clear()
        await server.stop(0)
        health = Server("0.0.0.0:0", [])
        await health.start()
        assert caplog.text == "", "health tells nothing that others may not know"
        await health.stop(0)
    for wrong in ("7700", "127.0.0.1:70000", "127.0.0.1:http"):
        with pytest.raises(CannotListen, match="host:port"):
            await Server(wrong, ["dalsegno.v1.EngineService"]).start()


async def test_stop_ends_a_server_stream_at_once_and_says_why(world: World) -> None:
    """A server stream ends with UNAVAILABLE when the server stops, long before the end of the grace."""
    call = world.engine.Follow(engine_service_pb2.FollowRequest())
    await anext(aiter(call))
    began = time.monotonic()

    await world.server.stop(grace_s=20)

    assert time.monotonic() - began < 15
    assert world.ended == ["follow"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(aiter(call))
    failure = read_failure(caught.value)
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == "UNAVAILABLE"
    assert "stopping" in failure.message


class Flooding(Engine):
    """Sends hints without a pause."""

    async def Follow(self, request: Any, context: Any) -> AsyncIterator[Any]:
        hints = [engine_service_pb2.Hint(execution_id="e" * 1_000, revision=1)] * 50
        while True:
            yield engine_service_pb2.FollowResponse(hints=hints)


async def test_stop_ends_a_stream_that_is_sending(world: World) -> None:
    """A stream ends at once also in the middle of a message, and its client gets the reason."""
    server = Server("127.0.0.1:0", ["dalsegno.v1.EngineService"])
    engine_service_pb2_grpc.add_EngineServiceServicer_to_server(Flooding(world), server.grpc)
    await server.start()
    told: list[str] = []
    flows = [asyncio.Event() for _ in range(5)]

    async def follow(channel: grpc.aio.Channel, flow: asyncio.Event) -> None:
        call: Any = engine_service_pb2_grpc.EngineServiceStub(channel).Follow(engine_service_pb2.FollowRequest())
        try:
            async for _ in call:
                flow.set()
        except grpc.aio.AioRpcError as error:
            failure = read_failure(error)
            told.append(f"{failure.reason}: {failure.message}")

    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        followers = asyncio.gather(*(follow(channel, flow) for flow in flows))
        for flow in flows:
            await flow.wait()
        began_s = time.monotonic()
        await server.stop(grace_s=20)
        took_s = time.monotonic() - began_s
        await followers
    assert told == ["UNAVAILABLE: the server is stopping"] * 5
    assert took_s < 15


async def test_stop_lets_a_two_way_stream_say_its_last_word(world: World) -> None:
    """A two-way stream that watches `stopping` ends by itself with OK, and stop waits only for that."""
    call = world.executors.Connect()
    await call.write(goodbye("until stopped"))
    await call.read()
    began = time.monotonic()

    await world.server.stop(grace_s=20)

    assert time.monotonic() - began < 15
    last: Any = await call.read()
    assert last.WhichOneof("message") == "drain"
    assert await call.code() is grpc.StatusCode.OK
    assert world.ended == ["connect"]


async def test_stop_does_not_wait_for_ever(world: World) -> None:
    """A two-way stream that does not end is cancelled after the grace, and its `finally` has run."""
    call = world.executors.Connect()
    await call.write(goodbye("for ever"))
    await call.read()

    await asyncio.wait_for(world.server.stop(grace_s=0.2), 20)

    assert world.ended == ["connect"]


async def test_stop_lets_a_call_finish(world: World) -> None:
    """A unary call that is served when the server stops gets its answer."""
    entered = asyncio.Event()

    async def slow(request: Any) -> engine_service_pb2.SubmitResponse:
        entered.set()
        await asyncio.sleep(0.3)
        return engine_service_pb2.SubmitResponse()

    world.submit = slow
    answer = asyncio.ensure_future(world.engine.Submit(engine_service_pb2.SubmitRequest()))
    await entered.wait()

    await world.server.stop(grace_s=30)

    assert isinstance(await answer, engine_service_pb2.SubmitResponse)


async def test_a_watcher_of_health_does_not_hold_up_the_stop(world: World) -> None:
    """An open health watch ends like other streams."""
    stub: Any = health_pb2_grpc.HealthStub(world.channel)
    call = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    await call.read()
    began = time.monotonic()

    await world.server.stop(grace_s=20)

    assert time.monotonic() - began < 15


async def test_a_stream_that_the_client_leaves_is_let_go(world: World) -> None:
    """The servicer's `finally` runs when a client cancels its stream."""
    call = world.engine.Follow(engine_service_pb2.FollowRequest())
    await anext(aiter(call))

    call.cancel()

    await asyncio.wait_for(world.follow_ended.wait(), 20)


async def test_a_channel_finds_a_server_that_comes_back() -> None:
    """A client needs no new channel when its server is started again on the same port."""
    first = Server(free_address(), [])  # a port that nobody else gets meanwhile
    await first.start()
    channel = open_channel(f"127.0.0.1:{first.port}")
    stub: Any = health_pb2_grpc.HealthStub(channel)
    await asyncio.wait_for(channel.channel_ready(), 30)
    await first.stop(0)

    second = Server(f"127.0.0.1:{first.port}", [])
    await second.start()
    answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30)

    assert answer.status == STATUS.NOT_SERVING
    await channel.close()
    await second.stop(0)
