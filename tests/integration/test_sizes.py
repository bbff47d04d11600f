"""Nobody waits for the size of what somebody else runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from tests.processes import System, state_of

from dalsegno.v1 import execution_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("sizes")]

WORKFLOWS = """
version: '2.0'
canary:
  tasks:
    first: {action: std.noop, on-success: [second]}
    second: {action: std.noop}
heavy:
  input: [n, word]
  tasks:
    many: {with-items: "i in <% range(0, $.n).toList() %>", action: std.echo output="<% $.word %>"}
full:
  input: [word]
  tasks:
    TASKS
wide:
  input: [n]
  tasks:
    many: {with-items: "i in <% range(0, $.n).toList() %>", action: std.async_noop}
"""

WORKFLOWS = WORKFLOWS.replace(
    "TASKS", "\n    ".join(f"t{n}: {{action: std.echo output=<% $.word %>}}" for n in range(12))
)

WAIT_MAX_S = 5.0
"""A bound for machines that do much else beside; on a quiet one it is well under a second."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start."""
    await shared_system.define(WORKFLOWS)


@dataclass
class Canary:
    """How long executions of two tasks took that were started all the while."""

    taken_s: list[float] = field(default_factory=list)


@asynccontextmanager
async def canary_beside(system: System) -> AsyncIterator[Canary]:
    """An execution of two tasks is started every 0.1 s, and once more at the end; all have ended afterwards."""
    canary = Canary()
    runs: list[asyncio.Task[None]] = []

    async def run() -> None:
        began = time.monotonic()
        await system.run("canary")
        canary.taken_s.append(time.monotonic() - began)

    async def sing() -> None:
        while True:
            runs.append(asyncio.create_task(run()))
            await asyncio.sleep(0.1)

    singing = asyncio.create_task(sing())
    try:
        yield canary
    finally:
        singing.cancel()
        await asyncio.gather(*runs)


async def test_wide_lists_let_others_go_on(system: System) -> None:
    """200 executions of 1,000 items each begin at once; a canary beside them never waits for all of them."""
    async with canary_beside(system) as canary:
        await asyncio.gather(*(system.begin("wide", {"n": 1000}) for _ in range(200)))
        await asyncio.sleep(10)
    print(f"{len(canary.taken_s)} canaries, the slowest took {max(canary.taken_s):.2f} s")
    assert len(canary.taken_s) > 20
    assert max(canary.taken_s) < WAIT_MAX_S


async def test_large_changes_can_be_watched(system: System) -> None:
    """An execution whose changes hold more than any message is told of in parts, to watchers and in lists."""
    execution_id = await system.begin("heavy", {"n": 80, "word": "x" * 400_000})
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    changes = await system.journal(execution_id)
    request = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, from_first_change=True)
    watched = [
        each.sequence
        async for message in system.executions.WatchExecution(request, timeout=60)
        for each in message.changes.changes
    ]
    assert watched == [each.sequence for each in changes]
    assert len(await system.attempts(execution_id)) == 80


async def test_results_of_many_tasks_come_in_pages(system: System) -> None:
    """Results count towards a page of tasks as everything else does."""
    execution_id = await system.begin("full", {"word": "\u00e4" * 600_000})
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    tasks = await system.tasks(execution_id)
    assert [task.name for task in tasks] == [f"t{n}" for n in range(12)]
    assert {len(task.result) for task in tasks} == {600_002}
