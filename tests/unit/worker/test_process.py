"""The executor as a process: its start and its stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.ports import free_address
from tests.tied import tied
from tests.unit.worker.scripted import Engine, order

from dalsegno.rpc.channel import open_channel

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(engine: Engine) -> AsyncIterator[Start]:
    """Start an executor process for the engine."""
    started: list[asyncio.subprocess.Process] = []

    async def start_process(*options: str) -> asyncio.subprocess.Process:
        command = ["-m", "dalsegno.executor", "--engine", engine.address, "--id", "executor-1", *options]
        process = await asyncio.create_subprocess_exec(
            *tied(sys.executable, *command), stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        started.append(process)
        return process

    yield start_process
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_an_idle_executor_leaves_at_once_and_gives_everything_back(engine: Engine, start: Start) -> None:
    """After SIGTERM the stream ends and opens again without credit, so that deliveries on the way are returned."""
    process = await start()
    line = await engine.line(20)
    assert line.hello.credit > 0

    process.send_signal(signal.SIGTERM)

    assert not (await line.next("goodbye")).release
    line = await engine.line()
    assert (line.hello.credit, line.in_flight) == (0, [])
    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_what_runs_may_end_within_the_grace(engine: Engine, start: Start) -> None:
    """An action that runs at SIGTERM is finished and acknowledged; a later one goes to other executors."""
    process = await start("--grace-s", "10")
    line = await engine.line(20)
    await line.run(order(1, "std.sleep", '{"seconds": 1}'), order(2))
    await line.acknowledge(*await line.outcomes(1))

    process.send_signal(signal.SIGTERM)
    await line.next("goodbye")
    line = await engine.line()

    assert line.in_flight == [("e.1.0.1", 1)]
    (done,) = await line.outcomes(1)
    assert done.action_execution_id == "e.1.0.1"
    await line.silence("goodbye")
    await line.acknowledge(done)
    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_what_takes_longer_than_the_grace_is_given_back(engine: Engine, start: Start) -> None:
    """An action that outlasts the grace is not reported: the engine decides whether it runs again."""
    process = await start("--grace-s", "0.3")
    line = await engine.line(20)
    await line.run(order(1, "std.sleep", '{"seconds": 60}'), order(2))
    await line.acknowledge(*await line.outcomes(1))

    process.send_signal(signal.SIGTERM)
    await line.next("goodbye")
    line = await engine.line()

    assert line.in_flight == [("e.1.0.1", 1)]
    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_an_executor_without_its_engine_leaves_too(engine: Engine, start: Start) -> None:
    """SIGINT stops an executor that has no engine."""
    process = await start("--grace-s", "0.3")
    await engine.line(20)
    await engine.stop()

    process.send_signal(signal.SIGINT)

    assert await asyncio.wait_for(process.wait(), 6) == 0
    await engine.start()


async def test_health_follows_the_stream(engine: Engine, start: Start) -> None:
    """The executor is ready while an engine can send it actions."""
    address = free_address()
    await start("--listen", address)
    await engine.line(20)
    async with open_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), wait_for_ready=True
        )
        states: list[str] = []

        async def wait_for(state: str) -> None:
            while not states or states[-1] != state:
                answer = await watch.read()
                states.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        async with asyncio.timeout(10):
            await wait_for("SERVING")
            await engine.stop()
            await wait_for("NOT_SERVING")
        watch.cancel()
    await engine.start()
