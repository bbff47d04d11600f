"""Stories of deadlines: what an executor stops at one has failed, whatever it calls it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.workflow.stories.test_course import hold, world
from tests.world import Played, World, states, task

from dalsegno.workflow.events import CancelRequested, DeliveryLost, TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Policies

TIMED = """
version: '2.0'
wf:
  tasks:
    t: {action: std.noop, timeout: 3, on-error: mend, on-complete: after}
    mend: {action: std.noop}
    after: {action: std.noop}
again:
  tasks:
    t: {action: std.noop, timeout: 3, retry: {count: 1, delay: 5}}
items:
  tasks:
    t: {with-items: "i in [1, 2]", action: std.noop, timeout: 3, on-error: mend}
    mend: {action: std.noop}
"""
CANCELLED = Played("cancelled", error="timed out after 3.000 s")


def held(name: str) -> tuple[World, Execution, float]:
    """An execution whose first action an executor has, and when that is to stop it."""
    here = world(TIMED, player=hold)
    execution = here.start(name)
    here.run(until_s=0)
    deadline_s = execution.attempts[1, 0, 1].deadline_s
    assert deadline_s == task(execution, "t").timing.timeout_due_s == here.now_s + 3
    return here, execution, deadline_s


@pytest.mark.parametrize("late_s", [0.0, 0.01])
def test_cancelled_at_the_deadline_is_a_failure(late_s: float) -> None:
    """Decision 8: older executors call it CANCELLED; on-error and on-complete apply, and nothing else is cancelled."""
    here, execution, deadline_s = held("wf")
    here.now_s = deadline_s + late_s
    here.finish(execution, execution.attempts[1, 0, 1], CANCELLED)
    attempt = execution.attempts[1, 0, 1]
    assert (attempt.state, attempt.error) == ("ERROR", "timed out after 3.000 s")
    here.run()
    assert execution.state == "RUNNING"
    assert states(execution) == {"t": "ERROR", "mend": "RUNNING", "after": "RUNNING"}
    assert here.finish(execution, attempt, CANCELLED).verdict == "duplicate"
    here.check_journals()


def test_cancelled_before_the_deadline_is_a_cancel() -> None:
    """Decision 12: what an action reports of itself moves its execution."""
    here, execution, deadline_s = held("wf")
    here.now_s = deadline_s - 0.01
    here.finish(execution, execution.attempts[1, 0, 1], CANCELLED)
    assert (execution.state, states(execution)) == ("CANCELLED", {"t": "CANCELLED"})


def test_a_person_may_cancel_after_the_deadline() -> None:
    """Only what comes from the executor can be its deadline's doing."""
    here, execution, deadline_s = held("wf")
    here.now_s = deadline_s
    here.tell(execution.id, TaskDone(at_s=here.now_s, key=(1, 0, 1), outcome=TaskOutcome.CANCELLED))
    assert execution.state == "CANCELLED"


@pytest.mark.parametrize("outcome", ["cancelled", "failed"])
def test_an_action_that_was_stopped_at_its_deadline_is_retried(outcome: str) -> None:
    """Decision 8, O23: whoever notices first, executor or engine, a timeout is the same failure for `retry`."""
    here, execution, deadline_s = held("again")
    here.now_s = deadline_s
    here.finish(execution, execution.attempts[1, 0, 1], Played(outcome, error="timed out after 3.000 s"))
    here.run(until_s=5)
    second = execution.attempts[1, 0, 2]
    assert (task(execution, "t").state, second.state, second.deadline_s) == ("RUNNING", "RUNNING", deadline_s + 5 + 3)
    here.check_journals()


def test_an_item_that_was_stopped_at_its_deadline_fails_its_task() -> None:
    """A cancelled item cancels the task and the execution; one whose time is up does not."""
    here, execution, deadline_s = held("items")
    here.now_s = deadline_s
    for item in (0, 1):
        here.finish(execution, execution.attempts[1, item, 1], CANCELLED)
    here.run(until_s=0)
    assert states(execution) == {"t": "ERROR", "mend": "RUNNING"}


def test_a_deadline_that_passes_while_cancelling() -> None:
    """O15: the execution is CANCELLED all the same."""
    here, execution, deadline_s = held("wf")
    here.tell(execution.id, CancelRequested(at_s=here.now_s))
    here.now_s = deadline_s
    here.finish(execution, execution.attempts[1, 0, 1], CANCELLED)
    assert (execution.state, execution.attempts[1, 0, 1].state) == ("CANCELLED", "ERROR")


def test_a_round_without_a_timeout_is_not_ended_by_that_of_the_one_before() -> None:
    """Decision 8: `timeout` starts again for each attempt, with the value that it has then."""
    text = """
version: '2.0'
wf:
  vars: {limit: 3}
  tasks:
    t: {action: std.noop, timeout: <% $.limit %>, retry: {count: 1, delay: 1}}
    u: {action: std.noop, on-complete: {publish: {global: {limit: 0}}}}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run(until_s=0)
    here.finish(execution, execution.attempts[2, 0, 1], Played())
    here.finish(execution, execution.attempts[1, 0, 1], Played("failed", error="broken"))
    here.run(until_s=20)
    second = execution.attempts[1, 0, 2]
    assert (second.state, second.deadline_s, task(execution, "t").timing.timeout_due_s) == ("RUNNING", None, None)
    here.check_journals()


def test_a_limit_of_one_action_counts_from_when_it_is_first_handed_out() -> None:
    """RunAction's `timeout`: what waits for an executor has all of its time; who gets it next has what is left."""
    here = world("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n", player=hold)
    (definition_id,) = here.compiled
    workflow = here.compiled[definition_id]
    limited = replace(workflow.tasks["t"], policies=Policies(limit_s=3.0))
    here.compiled[definition_id] = replace(workflow, tasks={"t": limited})
    execution = here.start("wf")
    attempt = execution.attempts[1, 0, 1]
    here.now_s += 100
    assert (attempt.timeout_s, attempt.deadline_s, task(execution, "t").timing.timeout_due_s) == (3.0, None, None)
    here.run(until_s=0)
    due_s = here.now_s + 3
    assert attempt.deadline_s == due_s
    here.run(until_s=1)
    here.now_s += 1
    lost = DeliveryLost(at_s=here.now_s, key=attempt.key, delivery=1, executor_id="x", received=False)
    here.tell(execution.id, lost)
    here.run(until_s=0)
    assert (attempt.delivery, attempt.deadline_s, task(execution, "t").timing.timeout_due_s) == (2, due_s, due_s)
    here.run()
    assert (execution.ended_s, task(execution, "t").info) == (due_s, "Task timed out [timeout(s)=3].")
    here.check_journals()


def test_a_delegated_action_shows_until_when_it_may_be_completed() -> None:
    """What is waited for is told with its deadline: the time that the action gave when it was delegated."""
    here = world("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n", player=hold)
    execution = here.start("wf")
    here.run(until_s=0)
    asked = TaskDone(
        at_s=here.now_s, key=(1, 0, 1), outcome=TaskOutcome.DELEGATED, delivery=1, completion_timeout_s=60.0
    )

    here.tell(execution.id, asked)

    assert execution.attempts[1, 0, 1].deadline_s == here.now_s + 60
    here.check_journals()
