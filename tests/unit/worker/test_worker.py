"""Workers: what they are made of, their start, and their stop within a program of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import ModuleType

import grpc
import pytest
from tests.integration.engines import until
from tests.unit.worker.scripted import GONE, WAITS_S, Engine, order

from dalsegno.actions import std
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker import ActionContext, Worker, action, loop_watch

StartWorker = Callable[..., tuple[Worker, asyncio.Task[bool]]]


@action("test.greet")
async def greet(name: str) -> str:
    """Greets somebody."""
    return f"Hello, {name}"


@action("test.sleep")
async def sleep(context: ActionContext) -> None:
    """Says that it has begun, and sleeps for a minute."""
    context.report("begun")
    await asyncio.sleep(60)


@pytest.fixture
async def start_worker(engine: Engine) -> AsyncIterator[StartWorker]:
    """Provide a function that starts a worker for the engine."""
    tasks: list[asyncio.Task[bool]] = []

    def start(*actions: object, **options: object) -> tuple[Worker, asyncio.Task[bool]]:
        worker = Worker(*actions, **{"engine": engine.address, "id": "worker-1", **options})  # type: ignore[arg-type]
        tasks.append(asyncio.create_task(worker.serve()))
        return worker, tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_worker_runs_its_actions(engine: Engine, start_worker: StartWorker) -> None:
    """A worker says what it serves, runs it, and reports the result; `stop` ends it in order."""
    worker, task = start_worker(greet, labels={"zone": "north"}, slots=7, grace_s=600)
    line = await engine.line()

    assert [each.name for each in line.hello.actions] == ["test.greet"]
    assert (line.hello.executor_id, line.hello.slots, dict(line.hello.labels)) == ("worker-1", 7, {"zone": "north"})
    await line.run(order(1, "test.greet", '{"name": "Ada"}'))
    (done,) = await line.outcomes(1)
    assert done.result == '"Hello, Ada"'
    await line.acknowledge(done)
    worker.stop()
    assert await asyncio.wait_for(task, WAITS_S) is False


async def test_a_worker_waits_for_an_engine_that_is_not_there_yet(engine: Engine, start_worker: StartWorker) -> None:
    """A worker that is started before its engine connects once the engine listens."""
    await engine.stop()
    worker, _ = start_worker(greet)
    await asyncio.sleep(0.3)
    assert not worker.is_connected

    await engine.start()

    await engine.line()


async def test_a_worker_works_for_several_engines(
    engine: Engine, other_engine: Engine, start_worker: StartWorker
) -> None:
    """Each engine gets a stream of the same session, and a share of the slots as credit."""
    start_worker(greet, engine=[engine.address, other_engine.address], slots=10)

    lines = await engine.line(), await other_engine.line()

    assert len({line.hello.session_id for line in lines}) == 1
    assert [line.hello.credit for line in lines] == [5, 5]


async def test_the_second_stop_does_not_wait(engine: Engine, start_worker: StartWorker) -> None:
    """After the first stop the worker waits for what runs; after the second it gives it back at once."""
    worker, task = start_worker(sleep, grace_s=600)
    line = await engine.line()
    await line.run(order(1, "test.sleep"))
    assert (await line.outcomes(1))[0].progress.text == "begun"

    worker.stop()
    await line.next("goodbye")
    line = await engine.line()
    assert line.in_flight == [("e.1.0.1", 1)]
    await line.silence("goodbye")
    worker.stop()

    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(task, WAITS_S) is False


async def test_a_worker_that_is_replaced_ends(engine: Engine, start_worker: StartWorker) -> None:
    """A worker whose id another process has taken ends, and says so."""
    _, task = start_worker(greet)
    line = await engine.line()

    line.end(grpc.StatusCode.ABORTED)

    assert await asyncio.wait_for(task, WAITS_S) is True


def test_a_worker_takes_the_actions_of_a_module() -> None:
    """A module stands for all its actions; one without any is refused."""
    assert Worker(std, greet).is_connected is False
    with pytest.raises(ValueError, match="the module empty has no actions"):
        Worker(ModuleType("empty"))


def test_the_engines_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given, or come from the environment, or are the one of `dalsegno serve`; each counts once."""
    assert Worker(greet).engines == ("127.0.0.1:7701",)
    monkeypatch.setenv("DALSEGNO_ENGINE", "127.0.0.1:1, 127.0.0.1:2")
    assert Worker(greet).engines == ("127.0.0.1:1", "127.0.0.1:2")
    assert Worker(greet, engine=["127.0.0.1:3", "127.0.0.1:3"]).engines == ("127.0.0.1:3",)


def test_what_cannot_work_is_refused_at_once() -> None:
    """The error of a worker that cannot work says what to write."""

    def plain() -> None: ...

    with pytest.raises(ValueError, match="needs an action"):
        Worker()
    with pytest.raises(ValueError, match=r"two actions named test\.greet"):
        Worker(greet, action("test.greet")(plain))
    with pytest.raises(TypeError, match="decorate it with @action"):
        Worker(plain)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'localhost' is not of the form host:port"):
        Worker(greet, engine="localhost")
    with pytest.raises(ValueError, match="at least 1"):
        Worker(greet, slots=0)


BLOCKED: list[float] = []
"""How long each run of the action below has blocked the event loop."""


@action("test.block")
async def block(seconds: float) -> str:
    """Blocks the event loop, which no async action may."""
    BLOCKED.append(seconds)
    time.sleep(seconds)  # noqa: ASYNC251 (that is the point)
    return "done"


async def test_an_action_that_blocks_the_event_loop_is_named(
    engine: Engine, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says where the loop is. The outcome arrives, also when the engine gave the stream up meanwhile."""
    monkeypatch.setattr(loop_watch, "TICK_S", 0.05)
    monkeypatch.setattr(loop_watch, "BLOCKED_S", 0.3)
    BLOCKED.clear()
    engine.lease_s, engine.heartbeat_s = 0.6, 0.2
    start_worker(block)
    line = await engine.line()
    blocks = order(1, "test.block", '{"seconds": 1.5}')
    await line.run(blocks)
    found: list[wire.TaskDone] = []
    while not found:
        with suppress(AssertionError, TimeoutError):
            found = await line.outcomes(1, within_s=2)
        if not found:
            line = await engine.line()
            assert line.in_flight == ([("e.1.0.1", 1)] if BLOCKED else [])
            if not BLOCKED:  # its stream was given up before it arrived
                with suppress(*GONE):
                    await line.run(blocks)

    assert (found[0].result, BLOCKED) == ('"done"', [1.5])
    told = [each for each in caplog.records if "the event loop is blocked" in each.getMessage()]
    assert any(f"block ({__file__}:" in each.calls for each in told)  # type: ignore[attr-defined]


async def test_a_worker_says_once_why_it_gets_no_work(
    engine: Engine, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that is not there, or that refuses the worker, is named with the reason."""
    await engine.stop()
    start_worker(greet)

    def told_now() -> list[str]:
        return [each.getMessage() for each in caplog.records if "no work from the engine" in each.getMessage()]

    await until(lambda: bool(told_now()))
    await asyncio.sleep(1.0)

    told = told_now()
    assert len(told) == len(set(told))
    assert told[0].startswith(f"no work from the engine at {engine.address}, which is tried again: UNAVAILABLE: ")
