"""What children report to their parents, and what that means for their attempts (decision 11)."""

from __future__ import annotations

import contextlib

from dalsegno.workflow.changes import AttemptMoved, RevertState
from dalsegno.workflow.events import ChildMoved, PauseRequested, Verdict
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.running.follow_ups import ChildAgain, ChildReported, ChildReverted
from dalsegno.workflow.running.reporting import close, progress
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, COMPLETED_EXECUTION, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import UnfitValue, Value, made

_REVERTED = frozenset({ExecutionState.REVERTED, ExecutionState.REVERT_ERROR})


def child_moved(step: Step, event: ChildMoved) -> None:
    """Record where a child is. Only the present child of an attempt counts (decision 11)."""
    if event.state in COMPLETED_EXECUTION and _follow_revert(step, event):
        return
    attempt = _speaking(step, event)
    if attempt is None or (event.revision and event.revision <= attempt.child_revision):
        step.verdict = Verdict.SUPERSEDED
        return
    if attempt.state in COMPLETED_ATTEMPT:
        _goes_on_after_end(step, attempt, event)
        return
    state = ExecutionState(event.state)
    output = event.output
    if step.workflow.rules.calls.finds_workflows and output is not None:
        output = _result_of_workflow(output, event.errors)
    if state is ExecutionState.PAUSED:
        progress(step, attempt, AttemptState.PAUSED, reported=event.reported)
    elif state is ExecutionState.RUNNING:
        progress(step, attempt, AttemptState.RUNNING)
        if _is_asked_to_pause(step.execution) and not (event.again or attempt.child_revision):
            _pause(step, attempt, event.revision)
    elif state is ExecutionState.SUCCESS:
        close(step, attempt, AttemptState.SUCCESS, output, "")
    elif state is ExecutionState.CANCELLED:
        close(step, attempt, AttemptState.CANCELLED, output, event.state_info or "the sub-workflow was cancelled")
    else:
        info = event.state_info if state is ExecutionState.ERROR else f"the sub-workflow ended {state}"
        close(step, attempt, AttemptState.ERROR, output, info or "the sub-workflow failed")


def _goes_on_after_end(step: Step, attempt: Attempt, event: ChildMoved) -> None:
    """Wait again for a child that goes on though its attempt has ended: it was run again, or somebody has led it
    elsewhere while it was reverted to be tried again. One that has ended in that time is not tried again.

    The report that it runs again may have been overtaken by this one.
    """
    task = step.execution.tasks[attempt.key[0]]
    was_led_elsewhere = task.progress.awaiting.get(attempt.key[1]) is False and attempt.child_is_reverted
    if step.execution.revert is not None:  # it is reverted next
        step.verdict = Verdict.SUPERSEDED
    elif event.again or (was_led_elsewhere and event.state is ExecutionState.RUNNING):
        step.later(ChildAgain(task, attempt.key, event.revision, event.by))
    elif event.again_at > attempt.child_revision:
        step.later(ChildAgain(task, attempt.key, event.again_at, event.by))
        step.later(ChildReported(task, event))
    elif was_led_elsewhere and event.state in COMPLETED_EXECUTION:
        step.later(ChildReverted(task, attempt.key, 0, event))
    else:
        step.verdict = Verdict.SUPERSEDED


def _follow_revert(step: Step, event: ChildMoved) -> bool:
    """Continue with what this child was reverted for. Return False when nobody here asked for it.

    One that is reverted may also be ended by force, or be led elsewhere and end there: then its revert has failed.
    """
    execution = step.execution
    task = execution.tasks.get(event.key[0])
    if task is None:
        return False
    attempt = execution.current(task, event.key[1])
    if attempt is None or attempt.child_id != event.child_id:  # else it began again for a later attempt
        attempt = execution.attempts.get(event.key)
    if attempt is not None and event.revision <= attempt.child_revision:
        return False
    for sequence, undoing in () if execution.revert is None else execution.revert.open.items():
        end = undoing.end
        ended = execution.attempts.get((end.task, max(end.item, 0), end.attempt))
        is_its = undoing.state is RevertState.CHILD and ended is not None and ended.child_id == event.child_id
        if ended is not None and is_its and (event.state in _REVERTED or event.order >= undoing.ordered_at):
            step.later(ChildReverted(execution.tasks[end.task], ended.key, sequence, event))
            return True
    if event.state not in _REVERTED:
        return False
    awaits = task.progress.awaiting.get(event.key[1])
    if attempt is not None and attempt.child_is_reverted and awaits is event.is_delayed:
        step.later(ChildReverted(task, attempt.key, 0, event))
        return True
    return False


def _result_of_workflow(output: Value, errors: Value | None) -> Value:
    """Return what an Orquesta workflow sees as the result of another one; with its errors only if both fit."""
    if errors is not None:
        with contextlib.suppress(UnfitValue):
            return made({"output": output.data, "errors": errors.data})
    return Value(data={"output": output.data})


def _is_asked_to_pause(execution: Execution) -> bool:
    """Return whether the execution pauses with its children: a pause that was reported is its own alone."""
    return execution.state is ExecutionState.PAUSING and not execution.is_paused_by_report


def _pause(step: Step, attempt: Attempt, revision: int) -> None:
    """Pause a child that has only just begun: the pause may have reached it before its start (O6)."""
    waits = step.execution.waits_for_delegates
    step.change(AttemptMoved(key=attempt.key, state=attempt.state, child_revision=revision, at_s=step.at_s))
    step.tell_child(attempt.child_id, PauseRequested(at_s=step.at_s, waits_for_delegates=waits))


def _speaking(step: Step, event: ChildMoved) -> Attempt | None:
    """Return the attempt of the child: the present one of its item, or an older one that has not ended.

    A child whose attempt ended before its task was superseded or skipped has none.
    """
    task = step.execution.tasks.get(event.key[0])
    if task is None:
        return None
    current, own = step.execution.current(task, event.key[1]), step.execution.attempts.get(event.key)
    if current is not None and current.child_id == event.child_id:
        is_over = task.superseded_by or task.state is TaskState.SKIPPED
        return None if is_over and current.state in COMPLETED_ATTEMPT else current
    is_open = own is not None and own.child_id == event.child_id and own.state not in COMPLETED_ATTEMPT
    return own if is_open else None
