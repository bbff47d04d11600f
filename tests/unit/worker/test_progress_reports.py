"""Progress reports of actions on the stream."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from tests.unit.worker.scripted import Engine, Line, MakeExecutor, order

from dalsegno.actions.action import ActionContext, action
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker import progress_reports

RUNNING, SUCCEEDED = wire.TASK_OUTCOME_RUNNING, wire.TASK_OUTCOME_SUCCEEDED


MAY_END = threading.Event()
"""Whether the action in a thread ends: what is said at the very end is told by the outcome alone."""


@action("test.thread")
def in_a_thread(context: ActionContext) -> str:
    context.report("half way", 0.5)
    MAY_END.wait(60)
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
    MAY_END.clear()
    await line.run(order(1, "test.thread"))
    (told,) = await line.outcomes(1)
    MAY_END.set()
    (ended,) = await line.outcomes(1)
    assert (told.outcome, told.progress.text, told.progress.fraction) == (RUNNING, "half way", 0.5)
    assert (told.action_execution_id, told.delivery) == ("e.1.0.1", 1)
    assert (ended.outcome, ended.result) == (SUCCEEDED, '"done"')


async def test_of_much_that_is_said_the_last_goes_once_a_second(engine: Engine, make_executor: MakeExecutor) -> None:
    """Thirty reports in 1.5 s are two messages, one more for each further second, and none after the outcome."""
    make_executor(in_steps)
    line = await engine.line()
    began_s = time.monotonic()
    await line.run(order(1, "test.steps"))
    first, *later, ended = await told_until_done(line)
    took_s = time.monotonic() - began_s
    assert (first.progress.text, ended.outcome) == ("step 0", SUCCEEDED)
    assert 1 <= len(later) <= int(took_s)  # it takes longer than 1.5 s on a busy machine
    assert later[0].progress.text > "step 1"
    await line.silence("task_done", 1.2)


async def test_the_first_thing_that_is_said_goes_at_once(
    engine: Engine, make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first report does not wait for the time between two of them."""
    monkeypatch.setattr(progress_reports, "TELL_EVERY_S", 3600.0)
    make_executor(in_a_thread)
    line = await engine.line()
    MAY_END.clear()
    await line.run(order(1, "test.thread"))
    assert [each.progress.text for each in await line.outcomes(1)] == ["half way"]
    MAY_END.set()


async def test_what_is_noted_of_its_progress_does_not_end_an_outcome(
    engine: Engine, make_executor: MakeExecutor
) -> None:
    """The acknowledgement of a report does not acknowledge the outcome."""
    executor = make_executor(in_a_thread)
    line = await engine.line()
    MAY_END.set()
    await line.run(order(1, "test.thread"))
    await told_until_done(line)
    noted = wire.Ack(action_execution_id="e.1.0.1", delivery=1, verdict=wire.ACK_VERDICT_ACCEPTED, outcome=RUNNING)
    await line.send(ack=wire.AckBatch(acks=[noted]))
    await asyncio.sleep(0.1)
    assert len(executor.session.outbox) == 1
    noted.outcome = SUCCEEDED
    await line.send(ack=wire.AckBatch(acks=[noted]))
    await asyncio.wait_for(executor.session.wait_idle(), 40)


def test_a_fraction_is_one() -> None:
    """A fraction that is not from 0 to 1 is refused at the report."""
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            ActionContext("e.1.0.1").report("far", wrong)
    ActionContext("e.1.0.1").report("near", 1)
