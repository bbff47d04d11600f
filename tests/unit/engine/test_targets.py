"""`target` on tasks of both languages: who gets the action, what waits, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.engines import until
from tests.unit.engine.conftest import Desk

from dalsegno.worker import ActionContext, Worker, action

RAN: list[tuple[str, str]] = []


def make_worker(desk: Desk, zone: str) -> Worker:
    """Make a worker that notes what it runs."""

    @action("test.where")
    async def where(context: ActionContext) -> str:
        RAN.append((context.task_name, zone))
        return zone

    return Worker(where, engine=desk.address, id=f"worker-{zone}", labels={"zone": zone})


@pytest_asyncio.fixture
async def zones(desk: Desk) -> AsyncIterator[None]:
    """Provide two workers, north and south."""
    RAN.clear()
    workers = [make_worker(desk, zone) for zone in ("north", "south")]
    serving = [asyncio.create_task(worker.serve()) for worker in workers]
    await until(lambda: all(worker.is_connected for worker in workers))
    yield
    for each in serving:
        each.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


TEXTS = {
    "mistral": """
version: '2.0'
placed:
  input: [zone]
  tasks:
    many: {with-items: i in <% range(4) %>, action: test.where, target: "zone notin (south)", on-success: [one]}
    one: {action: test.where, target: "zone=<% $.zone %>, !gpu", on-success: [named]}
    named: {action: test.where, target: worker-south}
""",
    "orquesta": """
version: 1.0
input: [zone]
tasks:
  many: {with: "<% list(0, 1, 2, 3) %>", action: test.where, target: "zone notin (south)",
         next: [{when: "<% succeeded() %>", do: one}]}
  one: {action: test.where, target: "zone=<% ctx(zone) %>, !gpu", next: [{when: "<% succeeded() %>", do: named}]}
  named: {action: test.where, target: worker-south}
""",
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.usefixtures("zones")
async def test_a_target_selects_by_labels_or_name(desk: Desk, language: str) -> None:
    """Items, an expression and a name: each goes to an executor that the target means."""
    await desk.create(TEXTS[language], name="placed" if language == "orquesta" else "")
    started = await desk.start("placed", input='{"zone": "south"}')

    row = await desk.wait(started.id)

    assert row.state == "SUCCESS", row.info
    assert sorted(RAN) == [*[("many", "north")] * 4, ("named", "south"), ("one", "south")]


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.usefixtures("zones")
async def test_what_no_executor_meets_waits_and_what_means_nothing_fails(desk: Desk, language: str) -> None:
    """A target without an executor is READY until one comes; one that an expression makes and that is none is an
    error of the task, which says what a target is."""
    await desk.create(TEXTS[language], name="placed" if language == "orquesta" else "")
    waiting = await desk.start("placed", input='{"zone": "west"}')
    failing = await desk.start("placed", input='{"zone": "(west"}')

    row = await desk.wait(failing.id, "ERROR")
    assert "'zone=(west' is no target: it is a name, or label=value" in row.info
    await until(lambda: len(RAN) == 8)
    await asyncio.sleep(0.1)
    assert desk.execution(waiting.id).state == "RUNNING"

    worker = make_worker(desk, "west")
    serving = asyncio.create_task(worker.serve())
    assert (await desk.wait(waiting.id)).state == "SUCCESS"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert ("one", "west") in RAN
