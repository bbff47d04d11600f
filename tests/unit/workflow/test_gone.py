"""What comes from outside about a task execution that is gone, because the history has been discarded (decision 24)."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage
from tests.unit.workflow.stories.test_corners import ROUNDS
from tests.world import Outside, Played

from dalsegno.workflow.changes import Timer
from dalsegno.workflow.events import (
    ChildMoved,
    DeliveryLost,
    Event,
    HandedOut,
    SliceDue,
    TaskChoice,
    TaskDone,
    TaskOutcome,
    TimerFired,
    Verdict,
)
from dalsegno.workflow.refusals import NotFound, Refusal
from dalsegno.workflow.routing import joins
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import ExecutionState, TaskState

TEXT = """
version: '2.0'
wf:
  tasks:
    first: {action: std.noop, on-success: [second, third]}
    second: {action: std.noop}
    third: {action: std.noop}
"""


def stage() -> Stage:
    """An execution whose task 1 has ended, led to two that run, and is gone."""
    here = Stage(TEXT)
    here.end("first")
    execution = here.execution
    del execution.tasks[1], execution.attempts[1, 0, 1], execution.by_route["first", 0]
    execution.by_name["first"].clear()
    execution.ended.clear()
    return here


KEY = (1, 0, 1)


@pytest.mark.parametrize(
    "event",
    [
        HandedOut(key=KEY, session_id="s", executor_id="e"),
        DeliveryLost(key=KEY, delivery=1, executor_id="e"),
        ChildMoved(key=KEY, child_id="c", state=ExecutionState.SUCCESS, revision=9),
        ChildMoved(key=KEY, child_id="c", state=ExecutionState.REVERTED, revision=9),
        TimerFired(task=1, timer=Timer.WAIT_AFTER, due_s=1.0),
        TimerFired(task=1, timer=Timer.TIMEOUT, due_s=1.0),
        SliceDue(task=1, attempt=1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_message_about_a_task_that_is_gone_is_superseded(event: Event) -> None:
    """It changes nothing: no answer is expected."""
    here = stage()
    before = here.execution.revision
    outcome = here.tell(event)
    assert (outcome.verdict, outcome.changes, outcome.commands) == (Verdict.SUPERSEDED, [], [])
    assert here.execution.revision == before


def test_a_report_on_an_action_that_is_gone_is_refused() -> None:
    """Who reports is told that there is no such action execution."""
    here = stage()
    with pytest.raises(NotFound):
        here.tell(TaskDone(key=KEY, outcome=TaskOutcome.SUCCEEDED, delivery=1))


def test_a_choice_of_a_task_that_is_gone_is_refused() -> None:
    """By its number, and by its name."""
    here = stage()
    here.end("second", error="no")
    here.end("third")
    for choice in (TaskChoice(task="first", number=1), TaskChoice(task="first")):
        before = here.execution.revision
        with pytest.raises(Refusal, match="task first"):
            here.rerun(choice)
        assert here.execution.revision == before


def test_numbers_are_not_used_again() -> None:
    """The next task execution has the next number, and what remains runs to its end."""
    here = Stage(TEXT.replace("second: {action: std.noop}", "second: {action: std.noop, on-success: [third]}"))
    here.end("first")
    execution = here.execution
    assert (execution.task_count, len(execution.tasks)) == (3, 3)
    del execution.tasks[1], execution.attempts[KEY]
    here.end("second")
    assert (execution.task_count, sorted(execution.tasks)) == (4, [2, 3, 4])
    here.world.finish(execution, execution.attempts[3, 0, 1], Played())
    here.end("third")
    assert execution.state is ExecutionState.SUCCESS


def test_a_task_runs_again_when_what_it_led_to_is_gone() -> None:
    """Its former followers are not there to be superseded."""
    here = Stage(TEXT)
    here.end("first")
    here.end("second")
    here.end("third")
    execution = here.execution
    del execution.tasks[2], execution.attempts[2, 0, 1], execution.by_route["second", 0], execution.ends[2]
    execution.by_name["second"].clear()
    here.rerun(TaskChoice(task="first"))
    assert (execution.tasks[1].state, execution.tasks[3].superseded_by) == (TaskState.RUNNING, "workflow-rerun")


def test_a_branch_that_is_rounds_behind_keeps_the_join_of_its_round() -> None:
    """It leads there when it ends, and not to the newest one, which waits for others."""
    here = Stage(ROUNDS.replace("join: all", "join: 1").replace("1.0", "1.0\nname: wf", 1).replace("core", "std"))
    here.end("begin")
    for _ in range(2):
        for name in ("fork", "fast", "meet"):
            here.end(name)
    here.end("fork")
    execution = here.execution
    slow, meet = execution.by_name["slow"], execution.by_name["meet"]
    assert (len(slow), len(meet)) == (3, 2)
    step = Step(
        here.world.compiled[execution.created.definition_id],
        execution,
        SliceDue(task=1, attempt=1),
        Outside(here.world),
    )
    assert [joins.open_rounds(step, [number]) for number in slow] == [{meet[0]}, {meet[1]}, set()]
    # with nothing between the rounds but what tells of it
    first, second = execution.tasks[slow[0]], execution.tasks[meet[1]]
    second.after = (meet[0],)
    for number in set(execution.tasks) - {*slow, *meet}:
        del execution.tasks[number]
    execution.tasks[slow[1]].after = (meet[0],)
    execution.tasks[slow[2]].after = (meet[1],)
    assert [joins.open_rounds(step, [number]) for number in slow] == [{meet[0]}, {meet[1]}, set()]
    here.world.finish(execution, execution.attempts[first.number, 0, 1], Played())
    here.end("slower")
    assert [source for source in execution.tasks[meet[0]].arrivals.late] == [first.next[0]]
