"""Stories of the core: what several engines deliver, whose clocks differ a little, and of which one may be slow."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage
from tests.unit.workflow.stories.test_reverting import revert
from tests.world import task

from dalsegno.workflow.events import (
    ChildMoved,
    Event,
    ForcedEnd,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
    TimerFired,
)

RETRY = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, retry: {count: 1, delay: 5}}\n"
WAIT_BEFORE = "version: 1.0\nname: wf\ntasks:\n  t: {action: std.noop, delay: 5}\n"
WAIT_AFTER = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, wait-after: 5}\n"
TIMEOUT = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, timeout: 5}\n"
REVERTED = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: b, revert: {action: std.noop, timeout: 5}}
    b: {action: std.noop, revert: {action: std.noop, retry: {count: 1, delay: 5}}}
"""
PARENT = "version: '2.0'\nwf:\n  tasks:\n    below: {workflow: sub}\n"
CHILD = "version: '2.0'\nsub:\n  tasks:\n    t: {action: std.noop, on-success: last}\n    last: {action: std.noop}\n"


def fire_early(stage: Stage) -> None:
    """Deliver the timers by an engine whose clock is ahead."""
    timers = [(to, event) for _, _, to, event in sorted(stage.world._later) if isinstance(event, TimerFired)]
    stage.world._later.clear()
    for to, event in timers:
        stage.tell(event, stage.world.executions[to])


@pytest.mark.parametrize(
    ("text", "error", "then"),
    [
        (RETRY, "broken", "RUNNING"),
        (WAIT_BEFORE, "", "RUNNING"),
        (WAIT_AFTER, "", "SUCCESS"),
        (TIMEOUT, "", "ERROR"),
    ],
)
def test_a_timer_that_fires_during_a_pause_and_is_due_after_it_fires_again(text: str, error: str, then: str) -> None:
    """S9, S10: the engine that resumes does not find it in the past, by its own clock."""
    stage = Stage(text)
    if text == TIMEOUT:
        stage.end("t", outcome="delegated")
    elif text != WAIT_BEFORE:
        stage.end("t", error=error)
    stage.pause()
    fire_early(stage)
    stage.resume()
    assert str(task(stage.execution, "t").state) in ("RUNNING_DELAYED", "RUNNING")
    stage.world.run(until_s=6)
    assert str(task(stage.execution, "t").state) == then


@pytest.mark.parametrize("is_retry", [True, False])
def test_a_timer_of_a_revert_that_fires_during_a_pause_fires_again(is_retry: bool) -> None:
    """Decision 23: the delay of a retry, and the time of an attempt, which is paused until its action has ended."""
    stage = Stage(REVERTED)
    stage.end("a")
    stage.end("b")
    stage.go_to("start")
    revert(stage, "b", error="broken" if is_retry else "")
    count = len(stage.execution.attempts)
    stage.pause()
    fire_early(stage)
    assert len(stage.execution.attempts) == count
    stage.resume()
    stage.world.run(until_s=6)
    attempts = list(stage.execution.attempts.values())
    if is_retry:
        assert (len(attempts), str(attempts[-1].state)) == (count + 1, "RUNNING")
    else:
        assert "Revert timed out [timeout(s)=5]." in attempts[-1].error


def mail_of(stage: Stage, event: type[Event]) -> tuple[str, Event]:
    """Take a message that is on its way."""
    found = next(each for each in stage.world._mail if type(each[1]) is event)
    stage.world._mail.remove(found)
    return found


def test_a_pause_of_the_parent_that_its_resume_has_overtaken_is_not_obeyed() -> None:
    """O5, O6: else the child would be paused for ever, with a parent that runs."""
    stage = Stage(PARENT, others=(CHILD,))
    world, child = stage.world, stage.child()
    world.tell(stage.execution.id, PauseRequested(at_s=world.now_s))
    _, late = mail_of(stage, PauseRequested)
    world.tell(stage.execution.id, ResumeRequested(at_s=world.now_s))
    world.run(until_s=0)
    assert str(world.tell(child.id, late).verdict) == "superseded"
    assert (str(stage.execution.state), str(child.state)) == ("RUNNING", "RUNNING")
    stage.end("t", on=child)
    stage.end("last", on=child)
    assert str(stage.execution.state) == "SUCCESS"
    world.check_journals()


def test_a_resume_of_the_parent_that_its_next_pause_has_overtaken_is_not_obeyed() -> None:
    """O5, O6: it pauses as the parent does."""
    stage = Stage(PARENT, others=(CHILD,))
    world, child = stage.world, stage.child()
    stage.pause()
    world.tell(stage.execution.id, ResumeRequested(at_s=world.now_s))
    _, late = mail_of(stage, ResumeRequested)
    stage.pause()
    stage.tell(late, child)
    stage.end("t", on=child)
    assert (str(stage.execution.state), str(child.state)) == ("PAUSED", "PAUSED")
    stage.resume()
    stage.end("last", on=child)
    assert str(stage.execution.state) == "SUCCESS"
    world.check_journals()


def test_people_are_obeyed_at_any_time() -> None:
    """Only the orders of the parent are counted: whoever pauses the child itself has no order."""
    stage = Stage(PARENT, others=(CHILD,))
    child = stage.child()
    stage.pause()
    stage.resume()
    stage.pause(on=child)
    assert str(child.state) == "PAUSING"
    stage.resume(on=child)
    assert str(child.state) == "RUNNING"


@pytest.mark.parametrize("state", ["SUCCESS", "ERROR"])
def test_the_end_of_a_child_overtakes_that_it_was_run_again(state: str) -> None:
    """Decision 11: the parent takes the end, and does not wait for the child when it hears that it has run again."""
    stage = Stage(PARENT, others=(CHILD,))
    world, child = stage.world, stage.child()
    stage.end("t", error="broken", on=child)
    assert str(stage.execution.state) == "ERROR"
    world.tell(child.id, RerunRequested(at_s=world.now_s, actor="ann"))
    _, late = mail_of(stage, ChildMoved)
    stage.end("t", error="broken" if state == "ERROR" else "", on=child)
    if state == "SUCCESS":
        stage.end("last", on=child)
    assert (str(stage.execution.state), str(child.state)) == (state, state)
    assert str(stage.tell(late).verdict) == "superseded"
    assert str(stage.execution.state) == state
    world.check_journals()


def test_the_end_of_a_child_whose_attempt_was_ended_runs_nothing_again() -> None:
    """Decision 11: only a child that was run again is waited for again."""
    stage = Stage(PARENT, others=(CHILD,))
    stage.cancel(terminate=ForcedEnd.ERROR)
    assert (str(stage.execution.state), str(stage.child().state)) == ("ERROR", "CANCELLED")
