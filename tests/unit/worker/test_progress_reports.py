"""Progress reports of actions on the stream."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.unit.worker.scripted import Engine, Line, MakeExecutor, order

from dalsegno.actions.action import ActionContext, action
from dalsegno.v1 import executor_service_pb2 as wire

RUNNING, SUCCEEDED = wire.TASK_OUTCOME_RUNNING, wire.TASK_OUTCOME_SUCCEEDED


@action("test.thread")
def in_a_thread(context: ActionContext) -> str:
    context.report("half way", 0.5)
    time.sleep(0.2)  # what is said at the very end is told by the outcome
    return "done"


@action("test.steps")
async def in_steps(context: ActionContext) -> str:
    begun_s = time.monotonic()
    for step in range(30):
        context.report(f"step {step}", step / 30)
        await asyncio.sleep(begun_s + 0.05 * (step + 1) - time.monotonic())  # 1.5 s in all
    return "done"


async def told_until_done(line: Line) -> list[wire.TaskDone]:
    """Return all reports until an action has ended."""
    found: list[wire.TaskDone] = []
    while not found or found[-1].outcome == RUNNING:
        found += await line.outcomes(1)
    return found


async def test_an_action_says_how_far_it_has_come(engine: Engine, make_executor: MakeExecutor) -> None:
    """An action reports a text and a fraction before its outcome, from a thread or from the event loop."""
    make_executor(in_a_thread)
    line = await engine.line()
    await line.run(order(1, "test.thread"))
    told, ended = await told_until_done(line)
    assert (told.outcome, told.progress.text, told.progress.fraction) == (RUNNING, "half way", 0.5)
    assert (told.action_execution_id, told.delivery) == ("e.1.0.1", 1)
    assert (ended.outcome, ended.result) == (SUCCEEDED, '"done"')


async def test_of_much_that_is_said_the_last_goes_once_a_second(engine: Engine, make_executor: MakeExecutor) -> None:
    """Thirty reports in 1.5 s are two messages at most, the first at once, and none after the outcome."""
    make_executor(in_steps)
    line = await engine.line()
    began_s = time.monotonic()
    await line.run(order(1, "test.steps"))
    first = (await line.outcomes(1))[0]
    assert (first.progress.text, time.monotonic() - began_s < 1) == ("step 0", True)
    later = await told_until_done(line)
    assert [each.outcome for each in later] == [RUNNING, SUCCEEDED]
    assert later[0].progress.text > "step 1"
    await line.silence("task_done", 1.2)


async def test_what_is_noted_of_its_progress_does_not_end_an_outcome(
    engine: Engine, make_executor: MakeExecutor
) -> None:
    """The acknowledgement of a report does not acknowledge the outcome."""
    executor = make_executor(in_a_thread)
    line = await engine.line()
    await line.run(order(1, "test.thread"))
    await told_until_done(line)
    noted = wire.Ack(action_execution_id="e.1.0.1", delivery=1, verdict=wire.ACK_VERDICT_ACCEPTED, outcome=RUNNING)
    await line.send(ack=wire.AckBatch(acks=[noted]))
    await asyncio.sleep(0.1)
    assert len(executor.session.outbox) == 1
    noted.outcome = SUCCEEDED
    await line.send(ack=wire.AckBatch(acks=[noted]))
    await asyncio.wait_for(executor.session.wait_idle(), 5)


def test_a_fraction_is_one() -> None:
    """A fraction that is not from 0 to 1 is refused at the report."""
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            ActionContext("e.1.0.1").report("far", wrong)
    ActionContext("e.1.0.1").report("near", 1)
