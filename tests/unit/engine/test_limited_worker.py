"""A worker with limits and a real engine: who is over a limit holds nobody up."""

from __future__ import annotations

import asyncio

from tests.integration.engines import until
from tests.unit.engine.conftest import Desk

from dalsegno.worker import Worker, action

RUNNING: set[int] = set()
MOST: list[int] = []


@action("limited.hold", concurrency=2)
async def hold(number: int) -> int:
    """Holds for a moment."""
    RUNNING.add(number)
    MOST.append(len(RUNNING))
    await asyncio.sleep(0.3)
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
    await until(lambda: bool(RUNNING))

    for _ in range(3):
        await desk.wait((await desk.start("quick")).id, "SUCCESS")
    assert desk.execution(held).state == "RUNNING"
    row = await desk.wait(held, "SUCCESS", timeout_s=20)

    assert row.output == '{"all":[0,1,2,3,4,5,6,7,8,9]}'
    assert max(MOST) == 2
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
