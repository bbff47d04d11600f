"""What people ask of an execution: pause, resume, cancel. Each is refused, or changes something, never half."""

from __future__ import annotations

from dalsegno.workflow.changes import TaskMoved, TaskRouted
from dalsegno.workflow.events import CancelRequested, PauseRequested, RerunRequested, ResumeRequested, Verdict
from dalsegno.workflow.model import PauseRule
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.refusals import InvalidRequest, Refused
from dalsegno.workflow.running import lifecycle, policies, reporting
from dalsegno.workflow.running.follow_ups import Begin, Due, Fill, Route, Settle, Skip
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

_EXECUTION_RUNNING = ExecutionState.RUNNING
_ONCE_QUIET = PauseRule.ONCE_QUIET
_COMING_TO_REST = frozenset({ExecutionState.PAUSING, ExecutionState.CANCELLING})
_PAUSABLE = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED})
_CANCELLABLE = frozenset({ExecutionState.IDLE, ExecutionState.RUNNING, ExecutionState.PAUSING, ExecutionState.PAUSED})

_ENDS = (ExecutionState.CANCELLED.value, ExecutionState.SUCCESS.value, ExecutionState.ERROR.value)


def pause(step: Step, event: PauseRequested) -> None:
    """Ask for quiet. Only a RUNNING execution can be paused (O1); one that is pausing or paused stays as it is.

    But a second pause ends the waiting for delegates that the first one had asked for (BEHAVIOURS decision 6), and one
    that had paused because of what its own actions reported is from now on paused because somebody wants it so (O4).
    """
    execution = step.execution
    if execution.waits_for_delegates and not event.waits_for_delegates and execution.state is ExecutionState.PAUSING:
        step.pause(execution.info)
    elif execution.state in _PAUSABLE and execution.is_paused_by_report:
        step.pause(event.comment or execution.info, waits_for_delegates=event.waits_for_delegates)
    elif execution.state in _PAUSABLE:
        step.verdict = Verdict.DUPLICATE
    elif execution.state is not ExecutionState.RUNNING:
        told = f"only a RUNNING execution can be paused, it is {execution.state}"
        raise Refused.of(f"execution {execution.id}", told)
    else:
        step.pause(event.comment, waits_for_delegates=event.waits_for_delegates)


def go_on_by_report(step: Step, task: TaskExecution) -> None:
    """What it had paused for is over, so an execution that nobody asked to pause runs again."""
    if step.execution.is_paused_by_report and step.execution.state in _PAUSABLE:
        step.move_execution(ExecutionState.RUNNING)
        go_on(step)


def go_on(step: Step, environment: Value | None = None) -> None:
    """Start what was selected, due or interrupted while the execution was not running; so in paused children."""
    execution = step.execution
    skipped = {each.task.number for each in step.todo if isinstance(each, Skip)}
    for number in [number for number in execution.unrouted if number not in skipped]:
        if execution.tasks[number].state is TaskState.CANCELLED:
            step.change(TaskRouted(task=number))  # what had been cancelled cancels nothing more
        else:
            step.later(Route(execution.tasks[number]))
    for task in sorted(step.tasks_in(TaskState.RUNNING_DELAYED), key=lambda task: task.due_s or 0.0):
        if task.due_s is not None and task.due_s <= step.at_s:  # in the order in which they were due (decision 8)
            step.later(Due(task, task.timer))
    for number in list(execution.waiting):
        if execution.tasks[number].info:  # why it had not begun
            step.change(TaskMoved(task=number, state=TaskState.WAITING, at_s=step.at_s))
    for task in step.tasks_in(TaskState.IDLE, TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
        policies.rearm_timeout(step, task)
        if task.state is TaskState.IDLE:
            step.later(Begin(task))
        elif task.state is TaskState.RUNNING and task.item_count is not None:
            step.later(Fill(task))
    resumed = ResumeRequested(
        at_s=step.at_s,
        actor=step.event.actor,
        comment=step.event.comment,
        cascaded=True,
        environment=environment,
    )
    if isinstance(step.event, ResumeRequested):  # after the pause that it takes back, which may not have come yet
        step.tell_children(resumed)
    else:
        step.tell_children(resumed, lambda state: state == AttemptState.PAUSED)


def cancel(step: Step, event: CancelRequested) -> None:
    """Let what runs come to its end, start nothing more (O13-O15); or end it at once, and so (decision 7).

    Delegates are waited for when that is asked; a second cancel that does not ask it ends the waiting (decision 6).
    """
    execution = step.execution
    reason = event.message or event.comment or (f"terminated: {event.terminate}" if event.terminate else "cancelled")
    is_cancelling = execution.state is ExecutionState.CANCELLING
    if execution.state not in _CANCELLABLE and not is_cancelling:
        told = f"an execution that has ended cannot be cancelled, it is {execution.state}"
        raise Refused.of(f"execution {execution.id}", told)
    if event.terminate:
        _terminate(step, event, reason)
    elif execution.state is ExecutionState.IDLE:
        lifecycle.finish(step, ExecutionState.CANCELLED, reason)
    elif not is_cancelling or (execution.waits_for_delegates and not event.waits_for_delegates):
        wind_down(step, execution.info if is_cancelling else reason, waits_for_delegates=event.waits_for_delegates)
    else:
        step.verdict = Verdict.DUPLICATE


def _terminate(step: Step, event: CancelRequested, reason: str) -> None:
    if event.terminate not in _ENDS:
        raise InvalidRequest.of("terminate.state", f"is one of {', '.join(_ENDS)}, not {event.terminate!r}")
    if step.execution.state is ExecutionState.IDLE and event.terminate == ExecutionState.SUCCESS:
        raise Refused.of(f"execution {step.execution.id}", "has not begun: it cannot succeed")
    lifecycle.terminate(step, ExecutionState(event.terminate), reason, event.output)


def wind_down(step: Step, reason: str, *, waits_for_delegates: bool = False) -> None:
    """CANCELLING: what nobody works on is cancelled now, what runs comes to its end, the children are asked to end."""
    execution = step.execution
    step.move_execution(ExecutionState.CANCELLING, reason, waits_for_delegates=waits_for_delegates)
    for task in step.tasks_in(TaskState.RUNNING, TaskState.PAUSED):
        policies.rearm_timeout(step, task)  # what is waited for after a pause has the time that it had left
    for key in [key for key, attempt in execution.attempts.items() if _ends_at_once(attempt)]:
        if not (waits_for_delegates and key in execution.delegates):
            reporting.stop(step, execution.attempts[key], reason)
    lifecycle.cancel_children(step, waits_for_delegates=waits_for_delegates)
    for task in step.tasks_in(TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
        if _is_worked_on(step, task):
            continue
        if task.ended_count and step.workflow.rules.items.stops_early:
            step.later(Settle(task, TaskState.CANCELLED, reason))  # what has ended of its items is published
        else:
            step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=reason, at_s=step.at_s))


def _ends_at_once(attempt: Attempt) -> bool:
    """Whether nobody works on it: not handed out yet, delegated, or paused by what it reported itself."""
    return not attempt.child_id and attempt.state not in COMPLETED_ATTEMPT and not attempt.is_active


def _is_worked_on(step: Step, task: TaskExecution) -> bool:
    return any(attempt.state not in COMPLETED_ATTEMPT for attempt in step.execution.current_attempts(task))


def come_to_rest(step: Step) -> None:
    """PAUSING becomes PAUSED and CANCELLING CANCELLED once nobody works on any task (O3, O15)."""
    execution = step.execution
    if execution.state is _EXECUTION_RUNNING:
        if step.workflow.rules.pause is not _ONCE_QUIET or isinstance(step.event, ResumeRequested | RerunRequested):
            return
        _follow_reports(step)
    if execution.state not in _COMING_TO_REST:
        return
    if execution.active_count or (execution.waits_for_delegates and execution.delegates):
        return
    if execution.state is ExecutionState.PAUSING:
        step.move_execution(ExecutionState.PAUSED, execution.info, reported=execution.is_paused_by_report)
    elif execution.state is ExecutionState.CANCELLING and not execution.children:
        for task in step.tasks_in(TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
            step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=execution.info, at_s=step.at_s))
        lifecycle.finish(step, ExecutionState.CANCELLED, execution.info)


def _follow_reports(step: Step) -> None:
    """What has paused itself, or waits for somebody outside, pauses its execution once nothing else is left to do."""
    execution = step.execution
    if execution.active_count or not execution.incomplete:
        return
    open_tasks = [execution.tasks[number] for number in execution.incomplete]
    if all(task.state is TaskState.WAITING or _waits_by_report(step, task) for task in open_tasks) and len(
        open_tasks
    ) > len(execution.waiting):
        step.pause(reported=True)


def _waits_by_report(step: Step, task: TaskExecution) -> bool:
    """Whether the task is paused or delegated by what its actions reported. What is asked of a sub-workflow stays
    with it (decision 12)."""
    if task.state not in (TaskState.PAUSED, TaskState.RUNNING):
        return False
    if task.added_count - task.ended_count > len(task.quiet_items):
        return False
    quiet = [step.execution.current(task, item) for item in task.quiet_items]
    return bool(quiet) and all(one is not None and (one.reported or one.delegated) for one in quiet)
