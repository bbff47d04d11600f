"""The policies around the attempts of a task: pauses, waits, timeouts, fail-on and retries
(mistral/README.md#policies)."""

from __future__ import annotations

import contextlib

from dalsegno.workflow.changes import TaskMoved, TaskTimed, Timer
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import TimerFired
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.running.follow_ups import Launch
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View, task_view
from dalsegno.workflow.scope import EvaluationError, Template
from dalsegno.workflow.secrets import is_secret, show
from dalsegno.workflow.states import ExecutionState, TaskState


def pauses_before(step: Step, task: TaskExecution) -> bool:
    """Return whether the execution is to be paused before this task."""
    template = step.spec(task).policies.pause_before
    if template is None:
        return False
    value = _value(template, task_view(step, task), task, "pause-before")
    if is_secret(value) and isinstance(shown := show(value, step.cipher), bool):
        return shown
    if not isinstance(value, bool):
        raise HardFailure(f"pause-before of task '{task.name}' must be true or false, not {value!r}")
    return value


def wait_before_s(step: Step, task: TaskExecution) -> float:
    """Return how long to wait before the task, in seconds."""
    return _seconds(step.spec(task).policies.wait_before_s, step, task, "wait-before")


def wait_after_s(step: Step, task: TaskExecution) -> float:
    """Return how long to wait after the task, in seconds."""
    return _seconds(step.spec(task).policies.wait_after_s, step, task, "wait-after")


def concurrency(step: Step, task: TaskExecution) -> int | None:
    """Return how many items may run at once; None: all."""
    template = step.spec(task).policies.concurrency
    if template is None:
        return None
    if step.workflow.rules.items.by_function:
        value = _value(template, task_view(step, task), task, "concurrency")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise HardFailure(f"concurrency of task '{task.name}' must be a whole number, not {value!r}")
        return value if value is None else max(value, 1)
    return _whole(template, step, task, "concurrency") or None


def delay(
    step: Step, task: TaskExecution, timer: Timer, wait_s: float, verdict: TaskState | None = None, info: str = ""
) -> None:
    """Delay the task until a precise time, which the store keeps (S9, S10)."""
    due_s = step.at_s + wait_s
    step.change(
        TaskMoved(
            task=task.number,
            state=TaskState.RUNNING_DELAYED,
            timer=timer,
            due_s=due_s,
            verdict=verdict,
            info=info,
            at_s=step.at_s,
        )
    )
    wake(step, task, timer, due_s)


def wake(step: Step, task: TaskExecution, timer: Timer, due_s: float) -> None:
    """Have the timer fire then. When an execution goes on, its timers are sent once more: the clocks of two engines
    differ a little, so that one of them may have fired during the pause although it is due after the pause."""
    step.command(Send(step.execution.id, TimerFired(task=task.number, timer=timer, due_s=due_s), due_s))


def arm_timeout(step: Step, task: TaskExecution) -> None:
    """Start the timeout of the attempt that begins (decision 8)."""
    timeout_s = _seconds(step.spec(task).policies.timeout_s, step, task, "timeout")
    if timeout_s > 0:
        _set_timeout(step, task, step.at_s + timeout_s)
    elif task.timing.timeout_due_s is not None:
        step.change(TaskTimed(task=task.number, due_s=None))


def time_left_s(step: Step, task: TaskExecution) -> float | None:
    """Return how long an attempt that begins now may take, in seconds; None: any time. A limit of its own counts from
    the hand-out."""
    if task.timing.timeout_due_s is not None:
        return max(0.0, task.timing.timeout_due_s - step.at_s)
    return step.spec(task).policies.limit_s


def start_limit(step: Step, task: TaskExecution, attempt: Attempt) -> None:
    """Start the attempt's own limit when it is handed out for the first time."""
    limit_s = step.spec(task).policies.limit_s
    if limit_s is not None and task.timing.timeout_due_s is None:
        _set_timeout(step, task, step.at_s + limit_s)


def describe_timeout(step: Step, task: TaskExecution) -> str:
    """Return the error of a task whose time is over."""
    spec = step.spec(task).policies
    if spec.limit_s is not None:
        return f"Task timed out [timeout(s)={spec.limit_s:g}]."
    with contextlib.suppress(EvaluationError):
        if spec.timeout_s is not None:
            return f"Task timed out [timeout(s)={spec.timeout_s.evaluate(task_view(step, task))}]."
    return "Task timed out."


def timeout_is_over(step: Step, task: TaskExecution) -> bool:
    """Return whether the attempt's time is over. Time in which the execution was paused does not count."""
    timing = task.timing
    if step.execution.state is ExecutionState.PAUSED:
        return False  # armed again at resume
    assert timing.timeout_due_s is not None
    paused_s = step.execution.paused_s - timing.timeout_paused_s
    if paused_s > 0:
        _set_timeout(step, task, timing.timeout_due_s + paused_s)
        return timing.timeout_due_s <= step.at_s
    return True


def rearm_timeout(step: Step, task: TaskExecution) -> None:
    """Continue the timeout after a pause with the time that was left when the pause began."""
    timing = task.timing
    if timing.timeout_due_s is None:
        return
    paused_s = step.execution.paused_s - timing.timeout_paused_s
    if paused_s > 0 or timing.timeout_due_s <= step.at_s:
        _set_timeout(step, task, timing.timeout_due_s + paused_s)
    else:
        wake(step, task, Timer.TIMEOUT, timing.timeout_due_s)


def _set_timeout(step: Step, task: TaskExecution, due_s: float) -> None:
    step.change(TaskTimed(task=task.number, due_s=due_s))
    wake(step, task, Timer.TIMEOUT, due_s)


def fail_on(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> tuple[TaskState, str]:
    """Turn a success into a failure if `fail-on` says so; what the task published stays."""
    template = step.spec(task).policies.fail_on
    if template is None or verdict is not TaskState.SUCCESS:
        return verdict, info
    if _holds(template, step, task_view(step, task, state=str(verdict)), task, "fail-on"):
        return TaskState.ERROR, "Failed by fail-on policy"
    return verdict, info


def check(step: Step, task: TaskExecution) -> None:
    """Check the types of the policies after the task before the task does anything. Raise HardFailure."""
    wait_after_s(step, task)
    retry = step.spec(task).policies.retry
    if retry is not None:
        _whole(retry.count, step, task, "retry.count")
        _seconds(retry.delay_s, step, task, "retry.delay")


def retries(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> bool:
    """Return whether another attempt follows by itself (O23); if so, begin it now or after the delay."""
    retry = step.spec(task).policies.retry
    if retry is None or verdict not in (TaskState.ERROR, TaskState.SUCCESS) or not step.execution.is_live:
        return False
    count = _whole(retry.count, step, task, "retry.count")
    delay_s = _seconds(retry.delay_s, step, task, "retry.delay")
    scope = task_view(step, task, state=str(verdict), info=info)
    if retry.when is not None:
        if task.progress.retries >= count or not _holds(retry.when, step, scope, task, "retry.when"):
            return False
        return _retry_later(step, task, delay_s, info)
    goes_on = retry.continue_on is not None and _holds(retry.continue_on, step, scope, task, "retry.continue-on")
    if verdict is TaskState.SUCCESS and not goes_on:
        return False
    if verdict is TaskState.ERROR and retry.continue_on is not None and not goes_on:
        return False
    if task.progress.retries >= count:
        return False
    if (
        verdict is TaskState.ERROR
        and retry.break_on is not None
        and _holds(retry.break_on, step, scope, task, "retry.break-on")
    ):
        return False
    return _retry_later(step, task, delay_s, info)


def _retry_later(step: Step, task: TaskExecution, delay_s: float, info: str) -> bool:
    """Begin the next attempt, now or after the delay."""
    delay(step, task, Timer.RETRY, max(delay_s, 0.0), info=info)
    if delay_s <= 0 and step.execution.state is ExecutionState.RUNNING:
        step.commands.pop()  # no timer: the next attempt begins in this step
        step.later(Launch(task, task.progress.retries + 1))
    return True


def _seconds(template: Template | None, step: Step, task: TaskExecution, name: str) -> float:
    if template is None:
        return 0.0
    value = _value(template, task_view(step, task), task, name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise HardFailure(f"{name} of task '{task.name}' must be a number of seconds, not {value!r}")
    return float(value)


def _whole(template: Template, step: Step, task: TaskExecution, name: str) -> int:
    value = _value(template, task_view(step, task), task, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise HardFailure(f"{name} of task '{task.name}' must be a whole number, not {value!r}")
    return value


def _value(template: Template, scope: View, task: TaskExecution, name: str) -> object:
    try:
        return template.evaluate(scope)
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate {name} of task '{task.name}': {error}") from None


def _holds(template: Template, step: Step, scope: View, task: TaskExecution, name: str) -> bool:
    try:
        return step.decide(template, scope)
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate {name} of task '{task.name}': {error}") from None
