"""The story of a bootstrap: an external program drives a workflow of ten phases from checkpoint to checkpoint, forward
and back, while the engine is killed at random."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor, done
from tests.processes import CALL_S, System, state_of

from dalsegno.v1 import execution_pb2, executor_service_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(300)]

PHASES = 10
ROUTE = (0, 2, 5, 3, 4, 8, 1, 6, 9, 7, -1, 9)
"""The phases that the program orders the flow to, one after the other: behind which of them it is to stand; -1: at the
start."""


def bootstrap() -> str:
    """Ten phases in a row, each with a checkpoint behind it and an action that undoes it."""
    tasks = [
        f"    phase_{number}:\n"
        f"      action: test.act give={number}\n"
        f"      checkpoint: done_{number}\n"
        f"      revert: test.undo give={number}\n"
        + (f"      on-success: phase_{number + 1}" if number + 1 < PHASES else "")
        for number in range(PHASES)
    ]
    return "\n".join(["version: '2.0'", "bootstrap:", "  tasks:", *tasks])


class SideLog:
    """What was done outside: each action execution once, whether or not its engine heard of it at once."""

    def __init__(self) -> None:
        self.ran: dict[str, tuple[str, int]] = {}

    def play(self, run: executor_service_pb2.RunAction) -> executor_service_pb2.TaskDone:
        """Do what an action execution says."""
        self.ran[run.action_execution_id] = (run.action, json.loads(run.input)["give"])
        return done(run, result="null")

    def counts(self) -> Counter[tuple[str, int]]:
        """How often each phase was done, and undone."""
        return Counter(self.ran.values())


class Program:
    """The external program. It repeats each order until it has the answer."""

    def __init__(self, system: System, execution_id: str) -> None:
        self.system = system
        self.execution_id = execution_id

    async def go_to(self, name: str) -> execution_pb2.Execution:
        """Order the flow to a checkpoint, and wait until it stands there."""
        request = messages.GoToCheckpointRequest(
            execution_id=self.execution_id, name=name, request_id=uuid.uuid4().hex, comment=f"to {name}"
        )
        while True:
            try:
                await self.system.executions.GoToCheckpoint(request, timeout=CALL_S)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                await asyncio.sleep(0.1)
        return await self.system.wait(self.execution_id)


def expected(route: tuple[int, ...]) -> Counter[tuple[str, int]]:
    """How often each phase is done and undone on this route."""
    counts: Counter[tuple[str, int]] = Counter()
    at = -1
    for target in route:
        counts.update(("test.act", number) for number in range(at + 1, target + 1))
        counts.update(("test.undo", number) for number in range(target + 1, at + 1))
        at = target
    return counts


async def kill_now_and_then(system: System, chance: random.Random) -> None:
    """Kill the engine again and again; it comes back at once."""
    while True:
        await asyncio.sleep(chance.uniform(0.2, 1.0))
        await system.engine.kill_and_restart()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Real services; the executor is the test's own."""
    async with System(tmp_path / "system", with_executor=False) as running:
        yield running
        await running.start()
        assert running.findings() == []


async def test_a_bootstrap_is_driven_forward_and_back_while_the_engine_dies(system: System) -> None:
    """Each order brings the flow to where the program wants it, and the side log shows the work of each phase and its
    revert exactly as often as the route passes it (C14, C15, C16, C17, C18, C28)."""
    await system.define(bootstrap())
    log = SideLog()
    actions = (("test.act", True), ("test.undo", True))
    async with ScriptedExecutor(system.engine.address, log.play, executor_id="site", actions=actions):
        program = Program(system, await system.begin("bootstrap", stop_at=["start"]))
        killing = asyncio.create_task(kill_now_and_then(system, random.Random(17)))
        try:
            for target in ROUTE:
                name = f"done_{target}" if target >= 0 else "start"
                execution = await program.go_to(name)
                assert (state_of(execution), execution.paused_at.name) == ("PAUSED", name), execution.state_info
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        if not system.engine.is_running:
            await system.engine.start()
        # Made once by its request id, so that the api repeats it when the engine that was just killed gives no answer.
        resume = messages.ResumeExecutionRequest(execution_id=program.execution_id, request_id=uuid.uuid4().hex)
        await system.executions.ResumeExecution(resume, timeout=CALL_S)
        assert state_of(await system.wait(program.execution_id)) == "SUCCESS"
    assert log.counts() == expected(ROUTE)
