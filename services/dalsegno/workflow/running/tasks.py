"""A task from its beginning to its end: policies before, attempts, publishing, policies after."""

from __future__ import annotations

from dalsegno.workflow.changes import GlobalsPublished, Published, ResultDropped, TaskMoved, Timer
from dalsegno.workflow.model import Clause, Command, Task
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.running import items, lifecycle, policies
from dalsegno.workflow.running.follow_ups import Begin, Route, RunCommand
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View, task_view
from dalsegno.workflow.scope import EvaluationError, Template
from dalsegno.workflow.states import ExecutionState, TaskState
from dalsegno.workflow.value import UnfitValue, Value, limit, member_bytes

# A lookup of a member in its class is slow, and every step needs these (see execution.py).
_UNBEGUN = (TaskState.IDLE, TaskState.WAITING)
_EXECUTION_RUNNING = ExecutionState.RUNNING
_ERROR, _SKIPPED, _CANCELLED = TaskState.ERROR, TaskState.SKIPPED, TaskState.CANCELLED
_NO_TIMER, _WAIT_AFTER, _PAUSE_BEFORE = Timer.NONE, Timer.WAIT_AFTER, Timer.PAUSE_BEFORE


def prepare(step: Step, first: TaskExecution) -> None:
    """Evaluate what all tasks that are about to begin will do. If one of them fails, none begins, and each error is
    recorded."""
    execution = step.execution
    if first.number in step.checked or execution.state is not ExecutionState.RUNNING:
        return
    others = [each.task for each in step.todo if isinstance(each, Begin)]
    faults: list[tuple[TaskExecution, str]] = []
    for task in (first, *others):
        if _may_stop(step, task):
            continue  # what it will see may be edited first
        is_new = task.number not in step.checked and task.state in (TaskState.IDLE, TaskState.WAITING)
        step.checked.add(task.number)
        is_alone = not others and step.spec(task).policies.wait_before_s is None
        if not is_new or task.timing.timer or is_alone:
            continue
        try:
            items.prepare(step, task)
        except (EvaluationError, HardFailure) as error:
            faults.append((task, str(error)))
    for task, fault in faults:
        lifecycle.fail_hard(step, task, fault)


def _may_stop(step: Step, task: TaskExecution) -> bool:
    """Return whether the execution may stop at a checkpoint before this task begins."""
    checkpoint = step.spec(task).checkpoint
    return checkpoint is not None and not task.entry and checkpoint.name in step.execution.stop_at


def begin(step: Step, task: TaskExecution) -> None:
    """Start the task, unless its execution is not RUNNING (the task stays or becomes IDLE) or a policy delays it."""
    timing = task.timing
    if task.state not in _UNBEGUN:
        return  # a join that was selected twice in one step
    if step.execution.state is not _EXECUTION_RUNNING:
        if task.state is not TaskState.IDLE:
            step.change(TaskMoved(task=task.number, state=TaskState.IDLE, at_s=step.at_s))
        return
    if timing.timer is _NO_TIMER or timing.timer is _PAUSE_BEFORE:
        _start(step, task)
    elif timing.timer is Timer.ITEMS_LEFT:
        items.go_on(step, task)
    else:  # a pause came just when the time of a retry or of wait-before was over
        items.launch(step, task, task.progress.retries + (timing.timer is Timer.RETRY))


def begin_again(step: Step, task: TaskExecution) -> None:
    """Start a task that an operation has run again: the policies before it apply again."""
    if step.execution.state is ExecutionState.RUNNING:
        _start(step, task)
    else:
        step.change(TaskMoved(task=task.number, state=TaskState.IDLE, at_s=step.at_s))


def _start(step: Step, task: TaskExecution) -> None:
    if task.timing.timer is not _PAUSE_BEFORE and policies.pauses_before(step, task):
        reason = f"paused before task '{task.name}'"
        step.change(TaskMoved(task=task.number, state=TaskState.IDLE, timer=Timer.PAUSE_BEFORE, at_s=step.at_s))
        step.pause(reason)
        return
    wait_s = policies.wait_before_s(step, task)
    if wait_s > 0:
        policies.delay(step, task, Timer.WAIT_BEFORE, wait_s)
        return
    items.launch(step, task, 0)


def end(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> None:
    """Publish after the attempts of the task have ended, then wait or conclude."""
    if task.is_completed:
        return
    publish(step, task, verdict, info)
    wait_s = policies.wait_after_s(step, task)
    # Only once: a timeout during the wait ends the wait.
    waits = wait_s > 0 and task.timing.timer is not _WAIT_AFTER
    if waits and verdict is not TaskState.CANCELLED and not step.execution.is_completed:
        policies.delay(step, task, Timer.WAIT_AFTER, wait_s, verdict, info)
        return
    conclude(step, task, verdict, info)


def conclude(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> None:
    """Apply fail-on and retry to the verdict; then end the task and route its transitions."""
    verdict, info = policies.fail_on(step, task, verdict, info)
    try:
        if policies.retries(step, task, verdict, info):
            return
    except HardFailure as error:
        if not step.workflow.rules.failures.notes_errors:
            raise
        step.note(str(error), task, tells_route=True)
        step.later(RunCommand(task, Command.FAIL, str(error)))  # after the task has ended
    settle(step, task, verdict, info)


def settle(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> None:
    """End the task, regardless of its policies."""
    step.change(TaskMoved(task=task.number, state=verdict, info=info, at_s=step.at_s))
    if not _keeps_result(step, task):
        step.change(ResultDropped(task=task.number))
    step.later(Route(task))


def _keeps_result(step: Step, task: TaskExecution) -> bool:
    spec = step.spec(task)
    if spec.keep_result_when is None:
        return spec.keep_result
    try:
        return step.decide(spec.keep_result_when, task_view(step, task))
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate keep-result of task '{task.name}': {error}") from None


def state_clause(spec: Task, verdict: TaskState) -> Clause:
    """Return the clause for the state in which a task ended."""
    if verdict is _ERROR:
        return spec.on_error
    return spec.on_skip if verdict is _SKIPPED else spec.on_success


def _own(spec: Task, verdict: TaskState) -> Template | None:
    """Return the task's own publish key for the state in which it ended."""
    if verdict is _ERROR:
        return spec.publish_on_error
    return spec.publish_on_skip if verdict is _SKIPPED else spec.publish


def publish(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> None:
    """Publish what the task publishes for this end; all expressions see the context before it, later ones win.

    The order is: the clause of the state, the task's publish key for the state, on-complete
    (mistral/README.md#publish). A cancelled task publishes nothing.
    """
    if verdict is _CANCELLED:
        return
    spec = step.spec(task)
    clause = state_clause(spec, verdict)
    own = _own(spec, verdict)
    if verdict is _SKIPPED and own is None and _has_output(step, task):
        own = spec.publish  # evaluated with the given output as the result (decision 4, R20)
        clause = clause if clause != Clause() else spec.on_success
    last = spec.on_complete if verdict is not _SKIPPED else Clause()
    branch = [template for template in (clause.branch, own, last.branch) if template is not None]
    shared = [template for template in (clause.globals, last.globals) if template is not None]
    if not branch and not shared:
        return
    scope = _publish_scope(step, task, verdict, info)
    values = _evaluated(step, branch, scope, task)
    wide = _evaluated(step, shared, scope, task)
    limit(sum(member_bytes(name, value) for name, value in (*values.items(), *wide.items())))
    if values:
        step.change(Published(task=task.number, values=values))
    if wide:
        step.change(GlobalsPublished(task=task.number, values=wide))


def _has_output(step: Step, task: TaskExecution) -> bool:
    """Return whether a skipped task was given an output; null is none."""
    attempt = step.execution.attempts.get((task.number, 0, task.progress.attempt))
    return attempt is not None and attempt.result is not None and attempt.result.data is not None


def _publish_scope(step: Step, task: TaskExecution, verdict: TaskState, info: str) -> View:
    return task_view(step, task, state=str(verdict), info=info)


def _evaluated(step: Step, templates: list[Template], scope: View, task: TaskExecution) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for template in templates:
        try:
            published = template.evaluate(scope)
        except EvaluationError as error:
            raise HardFailure(f"cannot publish from task '{task.name}': {error}") from None
        if not isinstance(published, dict):
            raise HardFailure(f"task '{task.name}' must publish a dict, not a {type(published).__name__}")
        try:
            kept = step.kept(published)
        except (EvaluationError, UnfitValue) as error:
            raise HardFailure(f"task '{task.name}' cannot publish a secret: {error}") from None
        values.update((name, Value(data=value)) for name, value in kept.items())
    return values
