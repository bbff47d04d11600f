"""Stories of the core: pause, resume, cancel, and executors that are lost."""

from __future__ import annotations

import pytest
from tests.world import HOLD, Played, World, states, task

from dalsegno.workflow.events import (
    CancelRequested,
    DeliveryLost,
    PauseRequested,
    ResumeRequested,
    TaskDone,
    TaskOutcome,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import Refused

TWO = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: b}
    b: {action: std.noop}
"""
PARENT = """
version: '2.0'
child: {tasks: {c: {action: std.noop, on-success: d}, d: {action: std.noop}}}
wf: {tasks: {s: {workflow: child}, peer: {action: std.noop}}}
"""


def held(text: str) -> tuple[World, Execution]:
    """A world in which every action runs until the story ends it, and an execution in it."""

    def play(execution: Execution, attempt: Attempt) -> Played:
        return HOLD

    here = World(player=play)
    here.define(text)
    execution = here.start("wf")
    here.run(until_s=0)
    return here, execution


def finish(here: World, execution: Execution, name: str, played: Played | None = None) -> None:
    """End the running action of the named task."""
    found = task(execution, name)
    attempt = execution.current(found)
    assert attempt is not None
    here.finish(execution, attempt, played or Played())
    here.run()


def test_pause_is_quiet() -> None:
    """O1, O2, O3, O4: PAUSING while somebody works, PAUSED when nobody does; what follows is stored IDLE."""
    here, execution = held(TWO)
    here.tell(execution.id, PauseRequested(at_s=here.now_s, comment="wait"))
    assert (execution.state, execution.active_count) == ("PAUSING", 1)
    finish(here, execution, "a")
    assert (execution.state, states(execution)) == ("PAUSED", {"a": "SUCCESS", "b": "IDLE"})
    here.check_journals()


def test_pause_is_refused_for_what_does_not_run() -> None:
    """O1: from any but a running state it is refused, and changes nothing."""
    here, execution = held(TWO)
    finish(here, execution, "a")
    finish(here, execution, "b")
    with pytest.raises(Refused):
        here.tell(execution.id, PauseRequested())


def test_a_second_pause_changes_nothing() -> None:
    """Asking again is no error."""
    here, execution = held(TWO)
    here.tell(execution.id, PauseRequested())
    assert here.tell(execution.id, PauseRequested()).verdict == "duplicate"


def test_resume_starts_what_waited() -> None:
    """R2, O5: the execution is RUNNING and what was IDLE begins."""
    here, execution = held(TWO)
    here.tell(execution.id, PauseRequested())
    finish(here, execution, "a")
    here.tell(execution.id, ResumeRequested())
    assert (execution.state, states(execution)["b"]) == ("RUNNING", "RUNNING")
    here.check_journals()


def test_resume_is_refused_while_a_task_has_failed() -> None:
    """R3, R4: it names the task in error and changes nothing."""
    here, execution = held(TWO)
    here.tell(execution.id, PauseRequested())
    finish(here, execution, "a", Played("failed", error="boom"))
    with pytest.raises(Refused) as refused:
        here.tell(execution.id, ResumeRequested())
    assert [violation.subject for violation in refused.value.violations] == ["task a"]
    assert execution.state == "PAUSED"


def test_pause_goes_down_and_not_up() -> None:
    """O6, O8, O10, O12: a parent's pause pauses the child; a child's pause leaves its parent RUNNING."""
    here, execution = held(PARENT)
    (child,) = here.children(execution)
    here.tell(child.id, PauseRequested())
    finish(here, child, "c")
    assert (child.state, execution.state, task(execution, "s").state) == ("PAUSED", "RUNNING", "PAUSED")
    finish(here, execution, "peer")
    assert execution.state == "RUNNING"
    here.tell(execution.id, PauseRequested())
    here.run()
    assert execution.state == "PAUSED"
    here.check_journals()


def test_resume_goes_down() -> None:
    """O7: resuming the parent resumes the child that was paused with it."""
    here, execution = held(PARENT)
    (child,) = here.children(execution)
    here.tell(execution.id, PauseRequested())
    here.run()
    finish(here, execution, "peer")
    finish(here, child, "c")
    assert (execution.state, child.state) == ("PAUSED", "PAUSED")
    here.tell(execution.id, ResumeRequested())
    here.run()
    finish(here, child, "d")
    assert (execution.state, child.state) == ("SUCCESS", "SUCCESS")
    here.check_journals()


def test_cancel_lets_running_tasks_end() -> None:
    """O13, O14, O15: CANCELLING until nobody works any more, nothing new starts."""
    here, execution = held(TWO)
    here.tell(execution.id, CancelRequested(comment="enough"))
    assert execution.state == "CANCELLING"
    finish(here, execution, "a")
    assert (execution.state, execution.info, states(execution)) == ("CANCELLED", "enough", {"a": "SUCCESS"})
    here.check_journals()


def test_cancel_does_not_wait_for_delegates() -> None:
    """Decision 6: an outstanding delegate is cancelled, and a late answer of it is superseded."""
    here, execution = held(TWO)
    here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.DELEGATED, delivery=1))
    here.tell(execution.id, CancelRequested())
    assert (execution.state, states(execution)) == ("CANCELLED", {"a": "CANCELLED"})
    assert here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED)).verdict == "superseded"


def test_a_delegate_that_answers_while_paused_completes_its_task() -> None:
    """Decision 6, O3: it does not keep the execution from PAUSED, and what its result selects waits IDLE."""
    here, execution = held(TWO)
    here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.DELEGATED, delivery=1))
    here.tell(execution.id, PauseRequested())
    assert execution.state == "PAUSED"
    here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED))
    assert states(execution) == {"a": "SUCCESS", "b": "IDLE"}


def test_cancel_goes_down() -> None:
    """A child is cancelled with its parent, and the parent waits for it."""
    here, execution = held(PARENT)
    (child,) = here.children(execution)
    finish(here, execution, "peer")
    here.tell(execution.id, CancelRequested())
    here.run()
    assert (execution.state, child.state) == ("CANCELLING", "CANCELLING")
    finish(here, child, "c")
    assert (execution.state, child.state) == ("CANCELLED", "CANCELLED")
    here.check_journals()


def test_a_pending_retry_waits_for_the_resume() -> None:
    """Decision 8, S10: a due time that passes during a pause is honoured when the execution is resumed."""
    here, execution = held("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, retry: {count: 1, delay: 5}}\n")
    finish_now = execution.attempts[1, 0, 1]
    here.finish(execution, finish_now, Played("failed", error="once"))
    here.tell(execution.id, PauseRequested(at_s=here.now_s))
    here.run()
    assert (execution.state, task(execution, "t").state) == ("PAUSED", "RUNNING_DELAYED")
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    assert sorted(execution.attempts) == [(1, 0, 1), (1, 0, 2)]
    here.check_journals()


def test_a_timeout_does_not_run_while_paused() -> None:
    """Decision 8: the time that was left when the pause began is left when it ends."""
    here, execution = held("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, timeout: 10}\n")
    here.tell(execution.id, TaskDone(at_s=here.now_s, key=(1, 0, 1), outcome=TaskOutcome.DELEGATED, delivery=1))
    here.now_s += 4
    here.tell(execution.id, PauseRequested(at_s=here.now_s))
    here.run(until_s=100)
    here.now_s += 100
    assert execution.state == "PAUSED"
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    resumed_s = here.now_s
    here.run(until_s=5)
    assert execution.state == "RUNNING"
    here.run()
    assert execution.state == "ERROR"
    assert here.now_s - resumed_s == pytest.approx(6, abs=0.01)
    here.check_journals()


def test_a_lost_delivery_of_a_safe_action_is_handed_out_again() -> None:
    """An action that may run twice gets its next delivery; the answer of the first one is superseded."""
    here, execution = held(TWO)
    here.tell(execution.id, DeliveryLost(key=(1, 0, 1), delivery=1, executor_id="one"))
    here.run()
    attempt = execution.attempts[1, 0, 1]
    assert (attempt.state, attempt.delivery) == ("RUNNING", 2)
    late = TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1)
    assert here.tell(execution.id, late).verdict == "superseded"


def test_a_lost_delivery_of_another_action_fails_and_names_the_executor() -> None:
    """What must not run twice is an ERROR that on-error takes from there."""
    here, execution = held(
        "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.http url='http://example.com', on-error: u}\n"
        "    u: {action: std.noop}\n"
    )
    here.tell(execution.id, DeliveryLost(key=(1, 0, 1), delivery=1, executor_id="one"))
    assert "executor 'one' was lost" in task(execution, "t").info
    assert states(execution)["u"] == "RUNNING"


def test_a_delivery_that_never_arrived_is_sent_again_whatever_it_does() -> None:
    """An executor that says it never got it cannot have run it."""
    here, execution = held("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.http url='http://example.com'}\n")
    here.tell(execution.id, DeliveryLost(key=(1, 0, 1), delivery=1, executor_id="one", received=False))
    assert execution.attempts[1, 0, 1].state == "READY"
