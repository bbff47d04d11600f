"""The executor as a process: its start and its stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.ports import free_address
from tests.tied import tied
from tests.unit.worker.scripted import WAITS_S, Engine, order

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
    process = await start("--grace-s", "600")
    line = await engine.line()
    assert line.hello.credit > 0

    process.send_signal(signal.SIGTERM)

    assert not (await line.next("goodbye")).release
    line = await engine.line()
    assert (line.hello.credit, line.in_flight) == (0, [])
    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(process.wait(), WAITS_S) == 0


async def test_what_runs_may_end_within_the_grace(engine: Engine, start: Start) -> None:
    """An action that runs at SIGTERM is finished and acknowledged; a later one goes to other executors."""
    process = await start("--grace-s", "600")
    line = await engine.line()
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
    assert await asyncio.wait_for(process.wait(), WAITS_S) == 0


async def test_what_takes_longer_than_the_grace_is_given_back(engine: Engine, start: Start) -> None:
    """An action that outlasts the grace is not reported: the engine decides whether it runs again."""
    process = await start("--grace-s", "0.3")
    line = await engine.line()
    await line.run(order(1, "std.sleep", '{"seconds": 60}'), order(2))
    await line.acknowledge(*await line.outcomes(1))

    process.send_signal(signal.SIGTERM)
    await line.next("goodbye")
    line = await engine.line()

    assert line.in_flight == [("e.1.0.1", 1)]
    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(process.wait(), WAITS_S) == 0


async def test_the_second_signal_does_not_wait(engine: Engine, start: Start) -> None:
    """The first SIGTERM waits for what runs, the second gives it back at once."""
    process = await start("--grace-s", "600")
    line = await engine.line()
    await line.run(order(1, "std.sleep", '{"seconds": 60}'), order(2))
    await line.acknowledge(*await line.outcomes(1))

    process.send_signal(signal.SIGTERM)
    await line.next("goodbye")
    line = await engine.line()
    await line.silence("goodbye", 0.5)
    process.send_signal(signal.SIGTERM)

    assert (await line.next("goodbye")).release
    assert await asyncio.wait_for(process.wait(), WAITS_S) == 0


STUCK = """
import asyncio, sys, time
from dalsegno.worker import Worker, action

@action("stuck.thread")
def block() -> None:
    time.sleep(60)

@action("stuck.pool")
async def block_elsewhere() -> None:
    await asyncio.to_thread(time.sleep, 60)

@action("stuck.task")
async def ignore() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

if __name__ == "__main__":
    sys.exit(Worker(block, block_elsewhere, ignore, engine=sys.argv[1], id="stuck", grace_s=0.2).run())
"""


async def test_what_cannot_be_stopped_does_not_keep_a_worker_alive(engine: Engine, tmp_path: Path) -> None:
    """Threads and tasks that go on after their cancel are given back, and the process ends without them."""
    program = tmp_path / "stuck.py"
    program.write_text(STUCK)
    process = await asyncio.create_subprocess_exec(
        *tied(sys.executable, str(program), engine.address), stderr=asyncio.subprocess.PIPE
    )
    try:
        line = await engine.line()
        await line.run(order(1, "stuck.thread"), order(2, "stuck.pool"), order(3, "stuck.task"), order(4, "none"))
        await line.acknowledge(*await line.outcomes(1))

        process.send_signal(signal.SIGTERM)
        await line.next("goodbye")
        line = await engine.line()
        assert len(line.in_flight) == 3
        assert (await line.next("goodbye")).release

        assert await asyncio.wait_for(process.wait(), WAITS_S) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        _, told = await process.communicate()
    assert b"still run: the process ends without them" in told


async def test_an_executor_without_its_engine_leaves_too(engine: Engine, start: Start) -> None:
    """SIGINT stops an executor that has no engine."""
    process = await start("--grace-s", "0.3")
    await engine.line()
    await engine.stop()

    process.send_signal(signal.SIGINT)

    assert await asyncio.wait_for(process.wait(), WAITS_S) == 0
    await engine.start()


async def test_health_follows_the_stream(engine: Engine, start: Start) -> None:
    """The executor is ready while an engine can send it actions."""
    address = free_address()
    await start("--listen", address)
    await engine.line()
    async with open_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), wait_for_ready=True
        )
        states: list[str] = []

        async def wait_for(state: str) -> None:
            while not states or states[-1] != state:
                answer = await watch.read()
                states.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        async with asyncio.timeout(WAITS_S):
            await wait_for("SERVING")
            await engine.stop()
            await wait_for("NOT_SERVING")
        watch.cancel()
    await engine.start()
