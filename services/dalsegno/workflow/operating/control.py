"""Pause, cancel, and going on after either. Each operation is refused, or carried out as a whole."""

from __future__ import annotations

from dalsegno.workflow.changes import TaskMoved, TaskRouted
from dalsegno.workflow.events import (
    CancelRequested,
    ForcedEnd,
    GoToRequested,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
    Verdict,
)
from dalsegno.workflow.model import PauseRule
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.refusals import Refused
from dalsegno.workflow.running import lifecycle, policies, reporting
from dalsegno.workflow.running.follow_ups import Begin, Due, Fill, Route, Settle, Skip
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

_EXECUTION_RUNNING = ExecutionState.RUNNING
_ONCE_QUIET = PauseRule.ONCE_QUIET
_COMING_TO_REST = frozenset({ExecutionState.PAUSING, ExecutionState.CANCELLING})
_GOES_ON = ResumeRequested | RerunRequested | GoToRequested
_PAUSABLE = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED})
_CANCELLABLE = frozenset({ExecutionState.IDLE, ExecutionState.RUNNING, ExecutionState.PAUSING, ExecutionState.PAUSED})


def pause(step: Step, event: PauseRequested) -> None:
    """Pause a RUNNING execution (O1); one that is PAUSING or PAUSED stays as it is.

    There are two exceptions: a second pause ends the wait for delegates that the first one asked for
    (decision 6), and an execution that was paused by its own actions is from now on paused by request (O4).
    """
    execution = step.execution
    if execution.waits_for_delegates and not event.waits_for_delegates and execution.state is ExecutionState.PAUSING:
        step.pause(execution.info)
    elif execution.state in _PAUSABLE and execution.is_paused_by_report:
        step.pause(event.comment or execution.info, waits_for_delegates=event.waits_for_delegates)
    elif execution.goes_on_s is not None:
        step.pause(event.comment or execution.info)  # it does not go on by itself any more
    elif execution.state in _PAUSABLE:
        step.verdict = Verdict.DUPLICATE
    elif execution.state is not ExecutionState.RUNNING:
        description = f"only a RUNNING execution can be paused, it is {execution.state}"
        raise Refused.of(f"execution {execution.id}", description)
    else:
        step.pause(event.comment, waits_for_delegates=event.waits_for_delegates)


def go_on_by_report(step: Step, task: TaskExecution) -> None:
    """Run an execution again that was paused only by the report of an action, now that the action goes on."""
    if step.execution.is_paused_by_report and step.execution.state in _PAUSABLE:
        step.move_execution(ExecutionState.RUNNING)
        go_on(step)


def go_on(step: Step, environment: Value | None = None) -> None:
    """Start what was selected, due or interrupted while the execution was not RUNNING; do the same in paused
    children."""
    execution = step.execution
    skipped = {each.task.number for each in step.todo if isinstance(each, Skip)}
    for number in [number for number in execution.unrouted if number not in skipped]:
        if execution.tasks[number].state is TaskState.CANCELLED:
            step.change(TaskRouted(task=number))  # a task that was cancelled before does not cancel the execution again
        else:
            step.later(Route(execution.tasks[number]))
    for task in sorted(step.tasks_in(TaskState.RUNNING_DELAYED), key=lambda task: task.timing.due_s or 0.0):
        if task.timing.due_s is None:
            continue
        if task.timing.due_s <= step.at_s:  # in the order in which they were due (decision 8)
            step.later(Due(task, task.timing.timer))
        else:
            policies.wake(step, task, task.timing.timer, task.timing.due_s)
    for number in list(execution.waiting):
        if execution.tasks[number].info:  # the reason why it had not begun
            step.change(TaskMoved(task=number, state=TaskState.WAITING, at_s=step.at_s))
    for task in step.tasks_in(TaskState.IDLE, TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
        policies.rearm_timeout(step, task)
        if task.state is TaskState.IDLE:
            step.later(Begin(task))
        elif task.state is TaskState.RUNNING and task.progress.item_count is not None:
            step.later(Fill(task))
    resumed = ResumeRequested(
        at_s=step.at_s,
        actor=step.event.actor,
        comment=step.event.comment,
        cascaded=True,
        environment=environment,
    )
    if isinstance(step.event, ResumeRequested | GoToRequested):
        # after the pause that it takes back, which may still be on its way
        step.tell_children(resumed)
    else:
        step.tell_children(resumed, lambda state: state == AttemptState.PAUSED)


def cancel(step: Step, event: CancelRequested) -> None:
    """Cancel: let actions that run come to their end and start nothing more (O13-O15); or end at once by force
    (decision 7).

    Wait for delegates if the request says so; a second cancel that does not say so ends that wait (decision 6).
    """
    execution = step.execution
    by_force = event.terminate is not ForcedEnd.NONE
    reason = event.message or event.comment or (f"terminated: {event.terminate}" if by_force else "cancelled")
    is_cancelling = execution.state is ExecutionState.CANCELLING
    if execution.state not in _CANCELLABLE and not is_cancelling:
        description = f"an execution that has ended cannot be cancelled, it is {execution.state}"
        raise Refused.of(f"execution {execution.id}", description)
    if by_force:
        terminate(step, event, reason)
    elif execution.state is ExecutionState.IDLE:
        lifecycle.finish(step, ExecutionState.CANCELLED, reason)
    elif not is_cancelling or (execution.waits_for_delegates and not event.waits_for_delegates):
        wind_down(step, execution.info if is_cancelling else reason, waits_for_delegates=event.waits_for_delegates)
    else:
        step.verdict = Verdict.DUPLICATE


def terminate(step: Step, event: CancelRequested, reason: str) -> None:
    """End by force in the state that the request asks for."""
    if step.execution.state is ExecutionState.IDLE and event.terminate is ForcedEnd.SUCCESS:
        raise Refused.of(f"execution {step.execution.id}", "has not begun: it cannot succeed")
    lifecycle.terminate(step, ExecutionState(event.terminate.value), reason, event.output)


def wind_down(step: Step, reason: str, *, waits_for_delegates: bool = False) -> None:
    """Move to CANCELLING: cancel what no executor works on, let the rest come to its end, and cancel the children."""
    execution = step.execution
    step.move_execution(ExecutionState.CANCELLING, reason, waits_for_delegates=waits_for_delegates)
    for task in step.tasks_in(TaskState.RUNNING, TaskState.PAUSED):
        policies.rearm_timeout(step, task)  # its timeout continues with the time that was left before the pause
    for key in [key for key, attempt in execution.attempts.items() if _ends_at_once(attempt)]:
        if not (waits_for_delegates and key in execution.delegates):
            reporting.stop(step, execution.attempts[key], reason)
    lifecycle.cancel_children(step, waits_for_delegates=waits_for_delegates)
    for task in step.tasks_in(TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
        if _is_worked_on(step, task):
            continue
        if task.progress.ended_count and step.workflow.rules.items.stops_early:
            step.later(Settle(task, TaskState.CANCELLED, reason))  # publish the items that have ended
        else:
            step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=reason, at_s=step.at_s))


def _ends_at_once(attempt: Attempt) -> bool:
    """Return whether no executor works on it: it is not handed out, delegated, or paused by its own report."""
    return not attempt.child_id and attempt.state not in COMPLETED_ATTEMPT and not attempt.is_active


def _is_worked_on(step: Step, task: TaskExecution) -> bool:
    return any(attempt.state not in COMPLETED_ATTEMPT for attempt in step.execution.current_attempts(task))


def come_to_rest(step: Step) -> None:
    """Turn PAUSING into PAUSED and CANCELLING into CANCELLED once no action runs (O3, O15)."""
    execution = step.execution
    if execution.state is _EXECUTION_RUNNING:
        if step.workflow.rules.pause is not _ONCE_QUIET or isinstance(step.event, _GOES_ON):
            return
        _follow_reports(step)
    if execution.state not in _COMING_TO_REST:
        return
    if execution.active_count or (execution.waits_for_delegates and execution.delegates):
        return
    if execution.state is ExecutionState.PAUSING:
        step.move_execution(ExecutionState.PAUSED, execution.info, reported=execution.is_paused_by_report)
    elif execution.state is ExecutionState.CANCELLING and not execution.children and execution.revert is None:
        for task in step.tasks_in(TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
            step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=execution.info, at_s=step.at_s))
        lifecycle.finish(step, ExecutionState.CANCELLED, execution.info)


def _follow_reports(step: Step) -> None:
    """Pause an execution in which only tasks are left that are paused or delegated by their own reports."""
    execution = step.execution
    if execution.active_count or not execution.incomplete:
        return
    open_tasks = [execution.tasks[number] for number in execution.incomplete]
    if all(task.state is TaskState.WAITING or _waits_by_report(step, task) for task in open_tasks) and len(
        open_tasks
    ) > len(execution.waiting):
        step.pause(reported=True)


def _waits_by_report(step: Step, task: TaskExecution) -> bool:
    """Return whether the task is paused or delegated by reports of its actions. A pause of a sub-workflow does not
    count (decision 12)."""
    progress = task.progress
    if task.state not in (TaskState.PAUSED, TaskState.RUNNING):
        return False
    if progress.added_count - progress.ended_count > len(progress.quiet_items):
        return False
    quiet = [step.execution.current(task, item) for item in progress.quiet_items]
    return bool(quiet) and all(one is not None and (one.reported or one.delegated) for one in quiet)
