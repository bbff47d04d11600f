"""Stories that random weather told first (see tests/unit/workflow/test_properties.py): rare orders of events."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.test_course import hold, world
from tests.world import Played, states, task

from dalsegno.workflow.events import (
    CancelRequested,
    DeliveryLost,
    PauseRequested,
    ResumeRequested,
    TaskDone,
    TaskOutcome,
)
from dalsegno.workflow.refusals import Refused


def test_a_join_selected_twice_at_once_starts_once() -> None:
    """Two clauses of one task that lead to the same join are one arrival, and one running of it (S7)."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: j, on-complete: j}
    j: {join: all, action: std.noop}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run()
    here.finish(execution, execution.attempts[1, 0, 1], Played())
    assert (task(execution, "j").progress.attempt, len(execution.attempts)) == (1, 2)
    here.run()
    here.finish(execution, execution.attempts[2, 0, 1], Played())
    assert (execution.state, states(execution)) == ("SUCCESS", {"a": "SUCCESS", "j": "SUCCESS"})
    here.check_journals()


def test_a_timeout_of_an_attempt_does_not_touch_the_delay_after_it() -> None:
    """Decision 8: the timeout is the attempt's; while the task waits for its next one there is nothing to stop."""
    text = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, timeout: 3, retry: {count: 1, delay: 5}}\n"
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run(until_s=0)
    begun_s = here.now_s
    here.finish(execution, execution.attempts[1, 0, 1], Played("failed", error="broken"))
    here.run(until_s=4)
    found = task(execution, "t")
    assert (found.state, found.timing.timer, found.timing.due_s) == ("RUNNING_DELAYED", "retry", begun_s + 5)
    here.run(until_s=5)
    assert found.progress.attempt == 2
    here.run()
    assert found.info == "Task timed out [timeout(s)=3]."


def test_items_that_end_while_the_task_waits_for_its_retry_change_nothing() -> None:
    """A round that failed because an item had no input is over: what else it began only comes to its own end."""
    text = """
version: '2.0'
wf:
  tasks:
    t:
      with-items: i in [1, 2]
      action: std.echo output=<% switch($.i = 2 => $.missing, true => 1) %>
      retry: {count: 1, delay: 5}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    found = task(execution, "t")
    due_s = found.timing.due_s
    assert (found.state, found.timing.timer) == ("RUNNING_DELAYED", "retry")
    here.run(until_s=1)
    here.now_s += 2
    here.finish(execution, execution.attempts[1, 0, 1], Played(result=1))
    assert (found.state, found.timing.due_s, len(execution.attempts)) == ("RUNNING_DELAYED", due_s, 1)
    here.run()
    assert (found.state, found.progress.attempt) == ("ERROR", 2)
    here.check_journals()


def test_a_retry_that_meets_a_pause_is_counted() -> None:
    """O4, O23: a retry that would begin just when the execution pauses begins at resume, as the retry that it is."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: b}
    b: {action: std.noop, pause-before: true}
    t: {action: std.noop, wait-after: 5, retry: {count: 1, delay: 0}, on-error: noop}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run(until_s=0)
    here.finish(execution, execution.attempts[1, 0, 1], Played("delegated"))
    here.finish(execution, execution.attempts[2, 0, 1], Played("failed", error="broken"))
    here.tell(execution.id, PauseRequested(at_s=here.now_s))
    here.finish(execution, execution.attempts[1, 0, 1], Played())
    here.now_s += 10
    here.run(until_s=0)
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    found = task(execution, "t")
    assert (execution.state, found.state, found.timing.timer) == ("PAUSED", "IDLE", "retry")
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    assert (found.state, found.progress.attempt, found.progress.retries) == ("RUNNING", 2, 1)
    here.check_journals()


def test_a_wait_and_a_timeout_begin_after_the_pause_before() -> None:
    """S9, decision 8: neither runs while the execution is PAUSED before the task; both follow the resume."""
    text = """
version: '2.0'
wf:
  tasks:
    t: {action: std.noop, pause-before: true, wait-before: 4, timeout: 3}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run(until_s=0)
    here.now_s += 100
    here.run(until_s=0)
    found = task(execution, "t")
    assert (execution.state, found.state) == ("PAUSED", "IDLE")
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    assert (found.state, found.timing.timeout_due_s) == ("RUNNING_DELAYED", None)
    here.run(until_s=4)
    assert (found.state, found.timing.timeout_due_s) == ("RUNNING", here.now_s + 3)
    here.check_journals()


ONE = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n"


def test_what_has_paused_itself_is_not_lost_with_its_executor() -> None:
    """P12: a paused action is waited for like a delegate; that its executor's session ends changes nothing."""
    here = world(ONE, player=hold)
    execution = here.start("wf")
    here.run()
    attempt = execution.attempts[1, 0, 1]
    here.finish(execution, attempt, Played("paused"))
    lost = DeliveryLost(at_s=here.now_s, key=attempt.key, delivery=attempt.delivery, executor_id="x")
    assert here.tell(execution.id, lost).verdict == "superseded"
    here.finish(execution, attempt, Played(result=1))
    assert execution.state == "SUCCESS"


def test_what_nobody_has_got_cannot_pause() -> None:
    """P26: an end that is told early counts; a pause or a delegation of what nobody runs is refused."""
    here = world(ONE, player=hold)
    execution = here.start("wf")
    for outcome in (TaskOutcome.PAUSED, TaskOutcome.RUNNING, TaskOutcome.DELEGATED):
        with pytest.raises(Refused, match="has not been handed out"):
            here.tell(execution.id, TaskDone(at_s=here.now_s, key=(1, 0, 1), outcome=outcome))
    assert here.tell(execution.id, TaskDone(at_s=here.now_s, key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED)).changes


@pytest.mark.parametrize("outcome", ["paused", "delegated"])
def test_what_is_to_be_cancelled_ends_when_nobody_works_on_it(outcome: str) -> None:
    """O15, decision 6: an action that delegates or pauses during a cancel is CANCELLED, and no result counts later."""
    here = world(ONE, player=hold)
    execution = here.start("wf")
    here.run()
    attempt = execution.attempts[1, 0, 1]
    here.tell(execution.id, CancelRequested(at_s=here.now_s))
    assert execution.state == "CANCELLING"
    here.finish(execution, attempt, Played(outcome))
    assert (execution.state, attempt.state, states(execution)) == ("CANCELLED", "CANCELLED", {"t": "CANCELLED"})
    assert here.finish(execution, attempt, Played(result=1)).verdict == "superseded"


def test_what_delegates_after_a_pause_runs() -> None:
    """P9: a task shows PAUSED only as long as its action is."""
    here = world(ONE, player=hold)
    execution = here.start("wf")
    here.run()
    attempt = execution.attempts[1, 0, 1]
    here.finish(execution, attempt, Played("paused"))
    assert states(execution) == {"t": "PAUSED"}
    here.finish(execution, attempt, Played("delegated"))
    assert (states(execution), attempt.delegated) == ({"t": "RUNNING"}, True)
    here.check_journals()


def test_a_timeout_while_the_task_waits_after_its_action_fails_it_at_once() -> None:
    """A task that has not ended can time out, its wait-after included; it does not wait a second time."""
    here = world("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, timeout: 3, wait-after: 10}\n")
    execution = here.start("wf")
    begun_s = here.now_s
    here.run()
    assert (task(execution, "t").info, execution.ended_s) == ("Task timed out [timeout(s)=3].", begun_s + 3)
