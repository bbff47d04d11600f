"""The first part of going back: nothing new begins, and what runs comes to its end (decision 19)."""

from __future__ import annotations

from dalsegno.workflow.changes import AttemptMoved, TaskMoved, Timer
from dalsegno.workflow.events import PauseRequested
from dalsegno.workflow.records import Attempt, Kept, Reverting
from dalsegno.workflow.running import reporting, tasks
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import AttemptState, TaskState

_INFO = "taken back by a revert"


def rests(step: Step, revert: Reverting) -> bool:
    """Bring the execution to rest. Return whether something still runs that has to end first."""
    execution = step.execution
    if revert.since > execution.revision - len(step.changes):  # the revert began in this step
        _take_back(step, revert)
    if execution.active_count or (revert.aim.waits_for_delegates and _young_delegates(step, revert)):
        return True
    _end_children(step)
    return False


def _take_back(step: Step, revert: Reverting) -> None:
    execution = step.execution
    kept = execution.as_at(revert.to)
    young = _young_delegates(step, revert)
    for key in list(execution.ready):
        _stop(step, execution.attempts[key])
    for number in list(execution.incomplete):
        for attempt in list(execution.current_attempts(execution.tasks[number])):
            is_paused = attempt.state is AttemptState.PAUSED and not attempt.child_id
            if is_paused or (attempt.key in young and not revert.aim.waits_for_delegates):
                _stop(step, attempt)
    for task in step.tasks_in(TaskState.RUNNING_DELAYED):
        is_new = task.number > kept.task_count or task.number in kept.tasks
        if is_new and task.timing.timer in (Timer.WAIT_AFTER, Timer.RETRY):
            tasks.settle(step, task, task.timing.verdict or TaskState.ERROR, task.info)
    event = step.event
    step.tell_children(PauseRequested(at_s=step.at_s, actor=event.actor, comment=event.comment))


def _young_delegates(step: Step, revert: Reverting) -> set[tuple[int, int, int]]:
    """Return the delegates that began after the entry; one that is open since before is left alone."""
    if not step.execution.delegates:
        return set()
    kept = step.execution.as_at(revert.to)
    return {key for key in step.execution.delegates if not _is_old(kept, key)}


def _is_old(kept: Kept, key: tuple[int, int, int]) -> bool:
    if key[0] > kept.task_count:
        return False
    record = kept.attempts.get(key, True)
    return record is True or (isinstance(record, Attempt) and record.delegated)


def _stop(step: Step, attempt: Attempt) -> None:
    """Stop an attempt. Its task has ended with it, if the attempt had been handed out."""
    reporting.stop(step, attempt, _INFO)
    _end_task(step, attempt)


def _end_task(step: Step, attempt: Attempt) -> None:
    task = step.execution.tasks[attempt.key[0]]
    is_last = task.progress.item_count is None and step.execution.is_current(attempt.key)
    if is_last and not task.is_completed and (attempt.delivery or attempt.child_id):
        step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=_INFO, at_s=step.at_s))


def _end_children(step: Step) -> None:
    """Take the sub-workflows that are still open as ended: they are reverted like the others."""
    for key in list(step.execution.children):
        attempt = step.execution.attempts[key]
        step.change(AttemptMoved(key=key, state=AttemptState.CANCELLED, error=_INFO, discarded=True, at_s=step.at_s))
        _end_task(step, attempt)
