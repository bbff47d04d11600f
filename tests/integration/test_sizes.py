"""Nobody waits for the size of what somebody else runs."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from tests.canary import NAME, TEXT, singing
from tests.processes import System, state_of
from tests.unit.definitions.long_texts import mistral, orquesta

from dalsegno.v1 import execution_service_pb2, workflow_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("sizes")]

WORKFLOWS = """
version: '2.0'
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
    await shared_system.define(TEXT)


async def canary_run(system: System) -> None:
    """An execution of two tasks."""
    assert state_of(await system.run(NAME)) == "SUCCESS"


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


@pytest.mark.timeout(300)
async def test_long_definitions_let_others_go_on(system: System) -> None:
    """Ten are validated and two stored at the same time: a canary beside them waits for none, and what is stored runs
    when it has come."""
    text = orquesta(150_000)
    validation = workflow_service_pb2.ValidateDefinitionsRequest(text=text, name="long.one")
    async with singing(lambda: canary_run(system)) as canary:
        defined = asyncio.gather(*(system.define(mistral(150_000, f"long{number}")) for number in range(2)))
        validations = (system.workflows.ValidateDefinitions(validation, timeout=120) for _ in range(10))
        answers = await asyncio.gather(*validations)
        await defined
    print(f"{len(canary.times_s)} canaries, the slowest took {max(canary.times_s):.2f} s")
    assert [list(answer.problems) for answer in answers] == [[]] * 10
    assert max(canary.times_s) < WAIT_MAX_S
    execution_id = await system.begin("long1", {"a": 1})
    assert state_of(await system.wait(execution_id)) == "ERROR"  # its first task publishes of a result that is none


async def test_long_definitions_go_on_after_a_restart(system: System) -> None:
    """A new engine compiles them when they are needed: for what is told, and for what is still to be handed out."""
    comment = "# what makes it long\n" * 2_000
    await system.define(
        f"{comment}version: '2.0'\n"
        "told: {tasks: {first: {action: std.async_noop, on-success: [second]}, second: {action: std.noop}}}\n"
        "due: {tasks: {first: {action: std.noop, wait-before: 2, on-success: [second]}, second: {action: std.noop}}}\n"
    )
    told, due = await system.begin("told"), await system.begin("due")
    (attempt,) = await system.attempts(told)
    await system.engine.kill_and_restart()
    await system.complete(attempt.id)
    for execution_id in (told, due):
        assert state_of(await system.wait(execution_id)) == "SUCCESS"


# The last one: whatever is looked at after it takes the longer.
@pytest.mark.alone("measures how long others wait beside 200,000 items")
async def test_wide_lists_let_others_go_on(system: System) -> None:
    """200 executions of 1,000 items each begin at once; a canary beside them never waits for all of them."""
    async with singing(lambda: canary_run(system)) as canary:
        await asyncio.gather(*(system.begin("wide", {"n": 1000}) for _ in range(200)))
        await asyncio.sleep(10)
    print(f"{len(canary.times_s)} canaries, the slowest took {max(canary.times_s):.2f} s")
    assert len(canary.times_s) > 20
    assert max(canary.times_s) < WAIT_MAX_S
