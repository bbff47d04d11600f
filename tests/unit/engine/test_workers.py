"""Workers and a real engine: who is over a limit holds nobody up, and a cancel reaches what runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.integration.engines import until
from tests.unit.engine.conftest import Desk
from tests.unit.worker import isolated
from tests.unit.worker.test_isolation import is_alive

from dalsegno.v1 import action_service_pb2
from dalsegno.worker import ActionContext, Worker, action

RUNNING: set[int] = set()
MOST: list[int] = []
HELD_UNTIL = asyncio.Event()


@action("limited.hold", concurrency=2)
async def hold(number: int) -> int:
    """Holds until the test lets it go."""
    RUNNING.add(number)
    MOST.append(len(RUNNING))
    await HELD_UNTIL.wait()
    RUNNING.remove(number)
    return number


@action("free.quick")
async def quick() -> str:
    """Returns at once."""
    return "done"


TEXT = """
version: '2.0'
held:
  output: {all: <% $.all %>}
  tasks:
    many: {with-items: n in <% range(10) %>, action: limited.hold number=<% $.n %>, target: worker-1,
           publish: {all: <% task().result %>}}
quick:
  tasks:
    one: {action: free.quick}
"""


async def test_actions_over_their_limit_hold_no_slot_of_others(desk: Desk) -> None:
    """Ten runs of an action that runs twice at once go on while others run at once; a target finds it by the worker."""
    worker = Worker(hold, quick, engine=desk.address, id="worker-1", slots=2)
    serving = asyncio.create_task(worker.serve())
    await until(lambda: worker.is_connected)
    await until(lambda: len(desk.read(lambda queries: queries.sessions())) == 2)
    await desk.create(TEXT)
    held = (await desk.start("held")).id
    await until(lambda: len(RUNNING) == 2)

    for _ in range(3):
        await desk.wait((await desk.start("quick")).id, "SUCCESS")
    assert desk.execution(held).state == "RUNNING"
    HELD_UNTIL.set()
    row = await desk.wait(held, "SUCCESS", timeout_s=20)

    assert row.output == '{"all":[0,1,2,3,4,5,6,7,8,9]}'
    assert max(MOST) == 2
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


ENDS: list[str] = []


@action("stopped.async")
async def wait_async() -> None:
    """Notes its cancel."""
    ENDS.append("started")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        ENDS.append("cancelled")
        raise


@action("stopped.thread")
def wait_in_thread(context: ActionContext) -> None:
    """Notes what it sees of its cancel."""
    ENDS.append("started")
    if context.cancelled.wait(60):
        ENDS.append("cancelled")


@pytest.mark.parametrize("how", ["async", "thread", "process"])
@pytest.mark.parametrize("by", ["cancel", "timeout"])
async def test_a_cancel_and_a_timeout_reach_what_runs(desk: Desk, tmp_path: Path, how: str, by: str) -> None:
    """A coroutine is cancelled, a thread sees it, a process is killed; the action ends as CANCELLED or ERROR."""
    ENDS.clear()
    path = tmp_path / "pids"
    worker = Worker(wait_async, wait_in_thread, isolated.sleep, engine=desk.address, id="worker-1")
    serving = asyncio.create_task(worker.serve())
    await until(lambda: worker.is_connected)
    named = "isolated.sleep" if how == "process" else f"stopped.{how}"
    given = json.dumps({"path": str(path)} if how == "process" else {})
    limit = {"timeout": {"seconds": 10 if how == "process" else 3}} if by == "timeout" else {}
    started = await desk.run(named, input=given, **limit)
    await until(path.exists if how == "process" else lambda: ENDS == ["started"])

    if by == "cancel":
        await desk.submit("cancel_action", action_service_pb2.CancelActionRequest(action_execution_id=started.id))

    await desk.wait(started.id.partition(".")[0], "CANCELLED" if by == "cancel" else "ERROR", timeout_s=30)
    if how == "process":
        await until(lambda: not any(is_alive(int(pid)) for pid in path.read_text().split()))
    else:
        await until(lambda: ENDS == ["started", "cancelled"])
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
