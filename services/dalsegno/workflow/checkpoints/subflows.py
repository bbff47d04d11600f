"""Retries of a sub-flow: a sub-workflow that has failed is reverted, and a fresh one tries again (C25, C26, decision
22)."""

from __future__ import annotations

from msgspec.structs import replace

from dalsegno.workflow.changes import AttemptsBegun, SubflowReverted, TaskMoved, Timer
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import ChildMoved, GoToRequested
from dalsegno.workflow.model import START
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.running import items, launching, policies, recovery, reporting
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import task_view
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState


def tries_again(step: Step, task: TaskExecution, attempt: Attempt) -> bool:
    """Revert the failed sub-workflow of an item, if the checkpoint of its task has retries left for the item."""
    checkpoint = step.spec(task).checkpoint
    if checkpoint is None or not attempt.child_id or attempt.state is not AttemptState.ERROR:
        return False
    event = step.event
    is_reverted = isinstance(event, ChildMoved) and event.state is ExecutionState.REVERT_ERROR
    if is_reverted or not step.execution.is_live or not recovery.may_try_again(step, task, attempt.key[1]):
        return False
    if step.surroundings.discarded_below([attempt.child_id]):
        return False
    step.change(SubflowReverted(key=attempt.key, at_s=step.at_s))
    step.tell_child(attempt.child_id, GoToRequested(at_s=step.at_s, name=START, cascaded=True, comment=attempt.error))
    return True


def child_reverted(step: Step, task: TaskExecution, attempt: Attempt, event: ChildMoved) -> None:
    """Begin the item anew after the delay of the checkpoint; a child in REVERT_ERROR is left to the handlers. In an
    execution that has ended, or is being cancelled, the item has failed: it may be run again with others."""
    execution = step.execution
    if not execution.is_current(attempt.key) or execution.revert is not None:
        return
    if task.state not in reporting.SHOWN or not execution.is_live:
        step.change(SubflowReverted(key=attempt.key, failed=True, at_s=step.at_s))
        return
    if event.state is not ExecutionState.REVERTED:
        step.change(SubflowReverted(key=attempt.key, failed=True, at_s=step.at_s))
        items.ended(step, task, attempt)
        return
    delay_s = 0.0 if event.is_delayed else _delay_s(step, task)
    if delay_s > 0:
        step.change(SubflowReverted(key=attempt.key, done=True, at_s=step.at_s))
        step.command(Send(step.execution.id, replace(event, is_delayed=True), step.at_s + delay_s))
        return
    _begin_anew(step, task, attempt)


def _delay_s(step: Step, task: TaskExecution) -> float:
    checkpoint = step.spec(task).checkpoint
    if checkpoint is None or checkpoint.delay_s is None:
        return 0.0
    try:
        value = checkpoint.delay_s.evaluate(task_view(step, task))
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate the delay of checkpoint '{checkpoint.name}': {error}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise HardFailure(f"the delay of checkpoint '{checkpoint.name}' must be a number of seconds, not {value!r}")
    return float(value)


def _begin_anew(step: Step, task: TaskExecution, attempt: Attempt) -> None:
    progress = task.progress
    is_running = step.execution.state is ExecutionState.RUNNING
    if progress.item_count is None and not is_running:
        step.change(TaskMoved(task=task.number, state=TaskState.IDLE, timer=Timer.WAIT_BEFORE, at_s=step.at_s))
        return
    if task.state is TaskState.PAUSED:  # this item is to begin: the task is not paused any more
        step.change(TaskMoved(task=task.number, state=TaskState.RUNNING, at_s=step.at_s))
    step.change(
        AttemptsBegun(
            task=task.number,
            attempt=task.next_attempt,
            only=None if progress.item_count is None else (attempt.key[1],),
            concurrency=progress.concurrency,
            retries=progress.retries,
            after_revert=True,
            at_s=step.at_s,
        )
    )
    policies.arm_timeout(step, task)
    if progress.item_count is None:
        launching.add(step, task, 0, None)
    else:
        items.fill(step, task)
