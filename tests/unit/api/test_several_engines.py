"""Writes beside several engines: which one gets a write, and what becomes of one without an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn, cast

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tests.integration.engines import until
from tests.ports import free_port

from dalsegno.api import homes as homes_module
from dalsegno.api import lanes as lanes_module
from dalsegno.api import writes as writes_module
from dalsegno.api.homes import Homes
from dalsegno.api.writes import Writes
from dalsegno.rpc import peers as peers_module
from dalsegno.rpc.errors import status_of, trailing_metadata
from dalsegno.rpc.peers import Balanced, Peer, Peers, Standing, addresses_of
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc
from dalsegno.v1 import execution_service_pb2 as public
from dalsegno.workflow.refusals import NotBegun, Overloaded, Unavailable

HEALTH = health_pb2.HealthCheckResponse


class Health(health.aio.HealthServicer):
    """Tells the health of an engine, or nothing."""

    is_silent = False

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        if self.is_silent:
            await asyncio.Event().wait()
        return await super().Check(request, context)


class Engine(engine_service_pb2_grpc.EngineServiceServicer):
    """An engine that notes the writes that it gets, and answers as the test says."""

    def __init__(self) -> None:
        self.health = Health()
        self.server = grpc.aio.server()
        self.port = free_port()
        """One that nobody else gets while it is down."""
        self.got: list[str] = []
        self.arrived = asyncio.Event()
        self.refusal: Exception | None = None
        """What it answers to every write."""
        self.is_silent = False
        """Whether it takes writes and answers nothing."""
        self.has_lost_answers = False
        """Whether it promises an answer, and does not know it when it is asked for."""

    async def start(self) -> None:
        """Listen, always on the same port, and be ready."""
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        engine_service_pb2_grpc.add_EngineServiceServicer_to_server(self, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.health.set("", HEALTH.SERVING)
        await self.server.start()

    async def die(self) -> None:
        """End without an answer to what is open."""
        await self.server.stop(None)

    async def Submit(self, request: wire.SubmitRequest, context: Any) -> wire.SubmitResponse:
        self.got.append(request.WhichOneof("write") or "")
        self.arrived.set()
        if self.is_silent:
            await asyncio.Event().wait()
        if self.refusal is not None:
            await self._refuse(self.refusal, context)
        if self.has_lost_answers:
            return wire.SubmitResponse(later="the name of an answer")
        return wire.SubmitResponse(
            start_execution=public.StartExecutionResponse(), pause_execution=public.PauseExecutionResponse()
        )

    async def SubmitMany(self, request: wire.SubmitManyRequest, context: Any) -> wire.SubmitManyResponse:
        answers = [await self.Submit(each, context) for each in request.writes]
        for each, write in zip(answers, request.writes, strict=True):
            each.ClearField("start_execution" if write.HasField("pause_execution") else "pause_execution")
        return wire.SubmitManyResponse(results=[wire.WriteResult(answer=each) for each in answers])

    async def Await(self, request: wire.AwaitRequest, context: Any) -> wire.AwaitResponse:
        assert self.has_lost_answers
        await self._refuse(Unavailable("the engine has no answer to this write any more"), context)

    async def _refuse(self, refusal: Exception, context: Any) -> NoReturn:
        await self.health.set("", HEALTH.NOT_SERVING)  # else it counts as ready again when it is asked next
        status = status_of(refusal)
        metadata = trailing_metadata(status, [("x-request-id", "1")])
        await context.abort(grpc.StatusCode.UNAVAILABLE, status.message, metadata)
        raise AssertionError("abort raises")

    async def Follow(self, request: wire.FollowRequest, context: Any) -> AsyncIterator[wire.FollowResponse]:
        await asyncio.Event().wait()
        yield wire.FollowResponse()


class Context:
    """A call of a public method."""

    def time_remaining(self) -> float:
        """Return the time until its deadline."""
        return 20.0

    def invocation_metadata(self) -> tuple[()]:
        """Return what came with it."""
        return ()


class Api:
    """What an api needs to send writes."""

    def __init__(self, engines: list[Engine]) -> None:
        self.engines = engines
        self.peers = Peers("engine", [f"127.0.0.1:{each.port}" for each in engines])
        self.homes = Homes()
        self.writes = Writes(self.peers, self.homes)

    async def start(self, request_id: str = "", description: str = "") -> None:
        """Send a start."""
        request = public.StartExecutionRequest(workflow="wf", request_id=request_id, description=description)
        await self.writes.submit("start_execution", request, Context(), public.StartExecutionResponse)

    async def pause(self, execution_id: str) -> None:
        """Send an operation on an execution."""
        request = public.PauseExecutionRequest(execution_id=execution_id)
        await self.writes.submit("pause_execution", request, Context(), public.PauseExecutionResponse)

    async def until(self, *standings: Standing) -> None:
        """Wait until the engines stand like this."""
        await until(lambda: [each.rank for each in self.peers] == list(standings))


@pytest_asyncio.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """An api with two engines that are ready, and are asked often."""
    monkeypatch.setattr(peers_module, "ASK_S", 0.05)
    monkeypatch.setattr(peers_module, "ANSWER_S", 60.0)  # no engine is too slow here, however busy the machine is
    engines = [Engine(), Engine()]
    for each in engines:
        await each.start()
    api = Api(engines)
    await api.peers.start()
    await api.until(Standing.READY, Standing.READY)
    yield api
    await api.peers.stop()
    for each in engines:
        await each.die()


async def test_writes_of_one_execution_go_to_one_engine(api: Api) -> None:
    """Operations of an execution go to one engine, and those of many executions to all; new executions in turn."""
    for number in range(40):
        counts = [len(each.got) for each in api.engines]
        for _ in range(3):
            await api.pause(f"execution-{number}")
        assert sorted(len(each.got) - before for each, before in zip(api.engines, counts, strict=True)) == [0, 3]
    assert all(each.got for each in api.engines)
    counts = [len(each.got) for each in api.engines]
    for _ in range(10):
        await api.start()
    assert [len(each.got) - before for each, before in zip(api.engines, counts, strict=True)] == [5, 5]


async def test_the_engine_that_has_an_execution_gets_its_writes(api: Api) -> None:
    """Which engine has moved an execution last is known by its hints."""
    for engine, peer in zip(api.engines, api.peers, strict=True):
        for number in range(10):
            api.homes.note(f"execution-{number}", peer)
            await api.pause(f"execution-{number}")
        assert engine.got == ["pause_execution"] * 10
        for each in api.engines:
            each.got.clear()


async def test_the_engines_of_few_executions_are_known(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    """What is known of engines is bounded; the oldest is forgotten."""
    monkeypatch.setattr(homes_module, "HOMES_MAX", 3)
    (peer, _) = api.peers
    for name in "abacd":
        api.homes.note(name, peer)
    assert (len(api.homes), api.homes.of("b"), api.homes.of("a")) == (3, None, peer)


def test_to_forget_an_engine_takes_no_longer_the_more_were_forgotten() -> None:
    """An api that has seen more executions than it remembers notes the next ones as quickly as the first ones."""
    homes, peer, least_s = Homes(), cast(Peer, object()), 0.5
    taken_s: list[float] = []
    for begin in range(0, 4 * homes_module.HOMES_MAX, homes_module.HOMES_MAX):
        ids = [f"execution-{number}" for number in range(begin, begin + homes_module.HOMES_MAX)]
        began_s = time.thread_time()
        for each in ids:
            homes.note(each, peer)
        taken_s.append(time.thread_time() - began_s)
    assert taken_s[-1] < 10 * taken_s[0] + least_s
    assert len(homes) <= homes_module.HOMES_MAX


@pytest.mark.parametrize("has_id", [True, False])
async def test_what_a_dying_engine_has_not_answered(api: Api, has_id: bool) -> None:
    """With a request id the write is made by the other engine; without one the caller gets UNAVAILABLE."""
    dying, other = api.engines
    dying.is_silent = True
    api.homes.note("execution", next(iter(api.peers)))
    request = public.PauseExecutionRequest(execution_id="execution", request_id="id" if has_id else "")
    sent = asyncio.create_task(api.writes.submit("pause_execution", request, Context(), public.PauseExecutionResponse))
    await dying.arrived.wait()
    await dying.die()
    if has_id:
        await sent
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sent
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert other.got == (["pause_execution"] if has_id else [])
    for _ in range(20):
        await api.start()
    assert len(dying.got) == 1


async def test_a_write_waits_for_an_engine(api: Api) -> None:
    """While no engine answers, a write waits, and is made by the first one that is back."""
    for each in api.engines:
        await each.die()
    await api.until(Standing.AWAY, Standing.AWAY)
    sent = asyncio.create_task(api.start())
    await asyncio.sleep(0)
    await api.engines[1].start()
    await asyncio.wait_for(sent, 15)
    assert (api.engines[0].got, api.engines[1].got) == ([], ["start_execution"])


@pytest.mark.parametrize(("refusal", "is_made"), [(NotBegun("stopping"), True), (Unavailable("in doubt"), False)])
async def test_an_engine_that_stops_is_avoided(api: Api, refusal: Exception, is_made: bool) -> None:
    """What an engine says not to have begun is done by another; of the rest its caller is told, unless it may be sent
    twice."""
    api.engines[0].refusal = refusal
    api.homes.note("execution", next(iter(api.peers)))
    if is_made:
        await api.pause("execution")
    else:
        with pytest.raises(grpc.aio.AioRpcError, match="in doubt"):
            await api.pause("execution")
        await api.pause("execution")
    assert [each.got for each in api.engines] == [["pause_execution"], ["pause_execution"]]


@pytest.mark.parametrize("has_id", [True, False])
async def test_an_answer_that_its_engine_has_lost(api: Api, has_id: bool) -> None:
    """It was restarted while the answer was awaited: with a request id the write goes to another one, which knows
    whether it was made; without one the caller gets UNAVAILABLE."""
    api.engines[0].has_lost_answers = True
    api.homes.note("execution", next(iter(api.peers)))
    request = public.PauseExecutionRequest(execution_id="execution", request_id="id" if has_id else "")
    sent = api.writes.submit("pause_execution", request, Context(), public.PauseExecutionResponse)
    if has_id:
        await sent
    else:
        with pytest.raises(grpc.aio.AioRpcError, match="no answer to this write"):
            await sent
    assert [each.got for each in api.engines] == [["pause_execution"], ["pause_execution"] if has_id else []]


async def test_the_refusal_of_all_engines_is_the_answer(api: Api) -> None:
    """When no engine can write, its reason and RetryInfo arrive at once, and no engine is asked again and again."""
    for each in api.engines:
        each.refusal = NotBegun("the store cannot be written at present")
        await each.health.set("", HEALTH.NOT_SERVING)
    await api.until(Standing.UNREADY, Standing.UNREADY)
    with pytest.raises(grpc.aio.AioRpcError, match="the store cannot be written"):
        await api.start("id")
    assert sum(len(each.got) for each in api.engines) == 1


async def test_a_slow_answer_holds_no_other_write_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an engine waits for a slow commit, a write that comes later reaches it, and is in its next batch."""
    monkeypatch.setattr(lanes_module, "SLOW_S", 0.1)
    engine = api.engines[0]
    engine.is_silent = True
    api.homes.note("execution", next(iter(api.peers)))
    writes = []
    for count in (1, 2, 3):
        writes.append(asyncio.create_task(api.pause("execution")))
        await until(lambda count=count: len(engine.got) == count)  # type: ignore[misc]
    for each in writes:
        each.cancel()
    await asyncio.gather(*writes, return_exceptions=True)


async def test_a_silent_engine_keeps_no_write(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that stands still with a write in its hands: after a while another one makes it."""
    monkeypatch.setattr(peers_module, "ANSWER_S", 0.1)
    monkeypatch.setattr(peers_module, "SILENT_S", 0.3)
    silent, other = api.engines
    api.homes.note("execution", next(iter(api.peers)))
    silent.is_silent = silent.health.is_silent = True
    request = public.PauseExecutionRequest(execution_id="execution", request_id="id")
    async with asyncio.timeout(10):
        await api.writes.submit("pause_execution", request, Context(), public.PauseExecutionResponse)
    assert (silent.got, other.got) == (["pause_execution"], ["pause_execution"])


async def test_too_many_writes_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writes without an answer are bounded in number and bytes; a further one is OVERLOADED, and no memory is kept
    of it or of those whose callers have left."""
    for each in api.engines:
        await each.die()
    await api.until(Standing.AWAY, Standing.AWAY)
    monkeypatch.setattr(writes_module, "WAITING_MAX", 100)
    waiting = [asyncio.create_task(api.start()) for _ in range(100)]
    await asyncio.sleep(0)
    for _ in range(1000):
        with pytest.raises(Overloaded, match="100 writes wait"):
            await api.start()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    monkeypatch.setattr(writes_module, "WAITING_BYTES_MAX", 1_000_000)
    large = [asyncio.create_task(api.start(description="x" * 400_000)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 writes wait"):
        await api.start(description="x" * 400_000)
    for task in large:
        task.cancel()
    await asyncio.gather(*large, return_exceptions=True)
    one = asyncio.create_task(api.start(description="x" * 2_000_000))
    await asyncio.sleep(0)
    assert not one.done()
    one.cancel()


async def test_a_name_with_several_addresses_is_several_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of a name is a peer; new ones are found, and those that are not there any more are left."""
    found = ["10.0.0.2", "10.0.0.1", "10.0.0.1"]

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (each, port)) for each in found] + [(10, 1, 6, "", ("2001:db8::1", port, 0, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(peers_module, "LOOK_UP_S", 0.01)
    monkeypatch.setattr(peers_module, "ASK_S", 0.01)
    assert await addresses_of("10.0.0.9:7701") == ["10.0.0.9:7701"]
    peers = Peers("engine", ["engines.example.com:7701"])
    await peers.start()
    assert {each.address for each in peers} == {"10.0.0.1:7701", "10.0.0.2:7701"}
    found[:] = ["10.0.0.2", "10.0.0.3"]
    await until(lambda: {each.address for each in peers} == {"10.0.0.2:7701", "10.0.0.3:7701"})
    found[:] = ["127.0.0.1", "127.0.0.2"]
    assert await addresses_of("localhost:7701") == ["localhost:7701"]
    await peers.stop()
    assert list(peers) == []


async def test_calls_without_an_execution_go_in_turn_to_what_is_ready(api: Api) -> None:
    """As the gateway calls its apis: in turn, and at once only to the others when one has ended."""
    stub = engine_service_pb2_grpc.EngineServiceStub(Balanced(api.peers))  # type: ignore[call-overload]
    for _ in range(6):
        await stub.Submit(wire.SubmitRequest(start_execution=public.StartExecutionRequest()))
    assert [len(each.got) for each in api.engines] == [3, 3]
    await api.engines[0].die()
    await api.until(Standing.AWAY, Standing.READY)
    for _ in range(6):
        await stub.Submit(wire.SubmitRequest(start_execution=public.StartExecutionRequest()))
    assert [len(each.got) for each in api.engines] == [3, 9]
