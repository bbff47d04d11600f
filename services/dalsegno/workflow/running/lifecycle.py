"""An execution from its start to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dalsegno.workflow import graph
from dalsegno.workflow.changes import ExecutionMoved, GlobalsPublished, TaskAdded, TaskMoved, TaskRouted, Timer
from dalsegno.workflow.commands import Send
from dalsegno.workflow.contexts.context import EMPTY_CONTEXT
from dalsegno.workflow.contexts.layers import deep_merge
from dalsegno.workflow.events import CancelRequested, StartRequested, TimerFired
from dalsegno.workflow.model import START, Command, Merge
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.running import notices, recovery, reporting, view
from dalsegno.workflow.running.follow_ups import RunCommand
from dalsegno.workflow.running.step import Step, errors_of
from dalsegno.workflow.running.view import AnyContext
from dalsegno.workflow.scope import EvaluationError, Template
from dalsegno.workflow.states import COMPLETED_ATTEMPT, ExecutionState, TaskState
from dalsegno.workflow.value import UnfitValue, Value, limit, made, member_bytes

# Nearly every step needs this, and a union of types is made anew each time.
_OF_TASKS = (TaskAdded, TaskMoved)


def check_start(step: Step) -> Value | None:
    """Check the start and return the value of `vars`, if any. Nothing has been created yet.

    Raise InvalidRequest with one violation for each fault.
    """
    if violations := list(creation_violations(step)):
        raise InvalidRequest(violations)
    if step.workflow.vars is None:
        return None
    try:
        values = step.workflow.vars.evaluate(view.View(step, None, EMPTY_CONTEXT))
        return Value(data=step.kept(values) if isinstance(values, dict) else values)
    except (EvaluationError, UnfitValue) as error:
        raise InvalidRequest.of("vars", str(error)) from None


def creation_violations(step: Step) -> Iterator[Violation]:
    """Yield what is wrong with the creation of the execution."""
    created = step.execution.created
    yield from _input_violations(step)
    yield from notices.check(created.params)
    yield from unknown_stops(step, tuple(name for name in created.stop_at if name != START))
    if step.workflow.reverse:
        params = created.params.data
        target = params.get("task_name") if isinstance(params, dict) else None
        if target is None:
            yield Violation("params.task_name", "a reverse workflow needs the name of the task to reach")
        elif target not in step.workflow.tasks:
            yield Violation("params.task_name", f"the workflow has no task '{target}'")


def unknown_stops(step: Step, names: Sequence[str]) -> Iterator[Violation]:
    """Yield a violation for each name in `stop_at` that is no checkpoint of the workflow."""
    known = graph.checkpoints(step.workflow)
    has = f"it has {', '.join(known)}" if known else "it has none"
    for index, name in enumerate(names):
        if name not in known:
            yield Violation(f"stop_at[{index}]", f"the workflow has no checkpoint '{name}': {has}")


def _input_violations(step: Step) -> Iterable[Violation]:
    given = step.execution.created.input.data
    if not isinstance(given, dict):
        yield Violation("input", f"must be an object, not {type(given).__name__}")
        return
    if not step.workflow.rules.calls.checks_input:
        return
    declared = {parameter.name: parameter for parameter in step.workflow.input}
    for name, parameter in declared.items():
        if parameter.required and name not in given:
            yield Violation(f"input.{name}", "is missing")
    for name in given:
        if name not in declared:
            known = f"the workflow takes {', '.join(declared)}" if declared else "the workflow takes no input"
            yield Violation(f"input.{name}", f"is not an input of the workflow: {known}")


def start(step: Step, event: StartRequested, variables: Value | None) -> None:
    """Move the execution to RUNNING and begin its first tasks (P1, P2, S3)."""
    execution = step.execution
    if variables is not None and isinstance(variables.data, dict) and variables.data:
        step.change(GlobalsPublished(values={name: Value(data=value) for name, value in variables.data.items()}))
    step.move_execution(ExecutionState.RUNNING)
    _publish_initial(step)
    deadline_s = execution.created.deadline_s
    if deadline_s is not None:
        step.command(Send(execution.id, TimerFired(task=0, timer=Timer.DEADLINE, due_s=deadline_s), deadline_s))


def _publish_initial(step: Step) -> None:
    """Evaluate defaults that are not constant, then initial values, each of which sees those before it. A failure ends
    the execution.

    An initial value with the name of an input is merged over the input after all of them are evaluated.
    """
    given = step.execution.created.input.data
    assert isinstance(given, dict)
    defaults = [(each.name, each.default) for each in step.workflow.input if each.name not in given and each.default]
    values: dict[str, object] = {}
    faults = [*_evaluate_initial(step, defaults, values)]
    inputs = {**given, **values}
    faults += _evaluate_initial(step, step.workflow.initial, values)
    for fault in faults:
        step.note(fault, None)
    if faults:
        step.move_execution(ExecutionState.ERROR, "\n".join(faults), Value(data=None))
    elif values:
        merged = {name: deep_merge(inputs[name], value) if name in inputs else value for name, value in values.items()}
        step.change(GlobalsPublished(values={name: Value(data=value) for name, value in merged.items()}))


def _evaluate_initial(
    step: Step, assignments: Iterable[tuple[str, Template]], values: dict[str, object]
) -> Iterator[str]:
    """Evaluate the assignments one after the other into `values`; return the errors."""
    for name, template in assignments:
        try:
            value = template.evaluate(view.View(step, None, EMPTY_CONTEXT, first=values))
            values[name] = step.kept_as(name, value)
        except (EvaluationError, UnfitValue) as error:
            yield f"cannot evaluate '{name}': {error}"


def complete(step: Step) -> None:
    """End the execution as its tasks did, when nothing is left to run."""
    execution = step.execution
    if execution.cancelled:
        names = _names(execution.tasks[number] for number in execution.cancelled)
        finish(step, ExecutionState.CANCELLED, f"Cancelled tasks: {names}")
    elif execution.unhandled:
        finish(step, ExecutionState.ERROR, failure_info(step))
    else:
        finish(step, ExecutionState.SUCCESS, "")


def failure_info(step: Step) -> str:
    """Return which tasks failed and why, the first few in full."""
    failed = [step.execution.tasks[number] for number in step.execution.unhandled]
    lines = [f"Failure caused by error in tasks: {_names(failed)}"]
    lines += [f"  {task.name}: {task.info}" for task in failed[:10]]
    return "\n".join(lines)


def _names(tasks: Iterable[TaskExecution]) -> str:
    return ", ".join(sorted({task.name for task in tasks}))


def stop(step: Step, state: ExecutionState, info: str) -> None:
    """End the execution by an engine command; actions that run go on to their end, and nothing follows them."""
    if not step.execution.is_completed:
        finish(step, state, info)


def finish(step: Step, state: ExecutionState, info: str) -> None:
    """End the execution with its output. An output that cannot be evaluated turns a success into an error.

    READY actions of an execution that is CANCELLED are CANCELLED too: they are not handed out any more. A failure of
    its own may lead back to an entry instead (decision 22).
    """
    if step.execution.revert is not None and not step.is_forced:
        return  # a failure has led back already
    if state is ExecutionState.CANCELLED:
        for key in list(step.execution.ready):
            reporting.stop(step, step.execution.attempts[key], info)
    if step.workflow.rules.failures.notes_errors:
        _finish_noting(step, state, info)
        return
    try:
        output = _output(step, state, info)
    except (EvaluationError, UnfitValue) as error:
        message = f"cannot evaluate the output: {error}"
        if state is ExecutionState.SUCCESS:
            finish(step, ExecutionState.ERROR, message)  # its output is that of any failure
            return
        info = f"{info}\n{message}" if info else message
        output = Value(data={"result": info})
    _end(step, state, info, output)


def _end(step: Step, state: ExecutionState, info: str, output: Value) -> None:
    is_failure = state is ExecutionState.ERROR and not step.is_forced
    if is_failure:
        reason = recovery.recover(step, info)
        if reason is None:
            return
        info = reason
    step.move_execution(state, info, output)


NOT_BEGUN = "not begun: the execution ended first; it goes on if that is run again"


def tell_not_begun(step: Step) -> None:
    """Record the reason on each task that waits in vain because its execution has ended."""
    execution = step.execution
    numbers = {change.task for change in step.changes if isinstance(change, _OF_TASKS)}
    if any(isinstance(change, ExecutionMoved) for change in step.changes):
        numbers.update(execution.idle, execution.waiting)
    for number in sorted(numbers):
        task = execution.tasks.get(number)
        if task is not None and task.state in (TaskState.IDLE, TaskState.WAITING) and not task.info:
            step.change(
                TaskMoved(task=number, state=task.state, timer=task.timing.timer, info=NOT_BEGUN, at_s=step.at_s)
            )


def tell_errors(step: Step) -> None:
    """Report the errors that came after the execution had ended."""
    execution = step.execution
    if not execution.errors:
        return
    reported = execution.reported_errors
    if reported is None or len(reported.data) != len(execution.errors):  # type: ignore[arg-type]
        step.change(
            ExecutionMoved(
                state=execution.state,
                info=execution.info,
                errors=errors_of(execution),
                paused_at=execution.paused_at,
                not_reached=execution.not_reached,
                at_s=step.at_s,
            )
        )


def _finish_noting(step: Step, state: ExecutionState, info: str) -> None:
    """Evaluate every member of the output that can be evaluated, for each kind of end; note an error for the others."""
    context = final_context(step)
    values: dict[str, object] = {}
    size = 2
    for name, template in step.workflow.outputs:
        try:
            value = step.kept_as(name, template.evaluate(view.View(step, None, context, first=values)))
            grown = size + member_bytes(name, made(value))
            limit(grown)
        except (EvaluationError, UnfitValue) as error:
            message = f"cannot evaluate the output '{name}': {error}"
            step.note(message, None, is_output=True)
            if state is ExecutionState.SUCCESS:
                state, info = ExecutionState.ERROR, message
        else:
            values[name], size = value, grown
    _end(step, state, info, Value(data=values or None))


def _output(step: Step, state: ExecutionState, info: str) -> Value:
    workflow = step.workflow
    if state is ExecutionState.SUCCESS:
        context = final_context(step)
        scope = view.View(step, None, context)
        output = workflow.output.evaluate(scope) if workflow.output is not None else None
        output = output or view.values(context)
        return made(step.kept(output) if isinstance(output, dict) else output)
    failed: dict[str, object] = {"result": info or None}
    if state is ExecutionState.ERROR:
        context = final_context(step)
        added = None
        if workflow.output_on_error is not None:
            added = workflow.output_on_error.evaluate(view.View(step, None, context))
        failed.update(step.kept(added if added and isinstance(added, dict) else view.values(context)))
    return made(failed)


def final_context(step: Step) -> AnyContext:
    """Merge what the branches had published when they ended, in the order in which they ended."""
    execution = step.execution
    if step.workflow.reverse:
        params = execution.created.params.data
        target = execution.latest(str(params.get("task_name"))) if isinstance(params, dict) else None
        return view.context_out(step, target) if target is not None else EMPTY_CONTEXT
    ends = ends_in_order(step, [step.last] if step.last is not None else [])
    return view.merged_out(step, [(execution.tasks[number], branch) for number, branch, _ in ends])


def ends_in_order(step: Step, more: Sequence[TaskExecution] = ()) -> list[tuple[int, int, int]]:
    """Return the ends of branches in the order in which they are merged: each a task, its branch (-1: its clauses) and
    its place in the order of creation, where that is the order. `more`: tasks that ended the execution, even if others
    were to follow."""
    execution = step.execution
    numbers = [*execution.ends]
    if step.is_forced:  # keep what had reached tasks that will not begin
        numbers += [*execution.waiting, *execution.idle]
    if step.workflow.rules.merge is not Merge.LAST_ARRIVED:
        return [(number, -1, 0) for number in numbers]
    ends = {(number, -1): execution.tasks[number].added_at for number in numbers} | execution.branch_ends
    ends.update(((task.number, -1), task.added_at) for task in more)
    return [(*end, ends[end]) for end in sorted(ends, key=lambda end: ends[end])]


def pause_on_failure(step: Step, task: TaskExecution) -> bool:
    """Pause because the task has failed without a handler, if its workflow asks for that (decision 13).

    An operator may then choose what to do with the task while everything else is still open. Return False when the
    failure takes effect at once.
    """
    execution = step.execution
    if not step.workflow.pauses_on_failure or not execution.is_live or task.number not in execution.unhandled:
        return False
    if recovery.is_tried_again(step):
        return False
    if any(isinstance(each, RunCommand) and each.command is Command.FAIL for each in step.todo):
        return False  # the author wants the execution to fail
    if execution.state is ExecutionState.RUNNING or execution.is_paused_by_report:
        step.pause(failure_info(step))
    return True


def fail_hard(step: Step, task: TaskExecution | None, reason: str) -> None:
    """Fail the task and the execution at once, because no handler may catch the failure."""
    if task is not None and (not task.is_completed or task.state is TaskState.SUCCESS):
        step.change(TaskMoved(task=task.number, state=TaskState.ERROR, info=reason, at_s=step.at_s))
        step.change(TaskRouted(task=task.number))  # its handlers are not tried when the execution runs again either
    step.note(reason, task, tells_route=True)
    step.last = None
    if task is not None and pause_on_failure(step, task):
        return
    if not step.execution.is_completed:
        finish(step, ExecutionState.ERROR, reason)


def terminate(step: Step, state: ExecutionState, info: str, output: Value | None = None) -> None:
    """End the execution by force (decision 7): everything that had begun is CANCELLED, executors are told.

    What had not begun, that is IDLE tasks and WAITING joins, goes on when the execution is run again (decision 3).
    """
    execution = step.execution
    for attempt in list(execution.attempts.values()):
        if attempt.state not in COMPLETED_ATTEMPT:
            reporting.stop(step, attempt, info, by_force=True)
    for task in step.tasks_in(TaskState.RUNNING, TaskState.RUNNING_DELAYED, TaskState.PAUSED):
        step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=info, at_s=step.at_s))
    step.is_forced = True
    if output is not None:
        step.move_execution(state, info, output)
    elif not execution.is_completed:
        finish(step, state, info)


def cancel_children(step: Step, *, waits_for_delegates: bool = False) -> None:
    """Ask every child that has not ended to cancel."""
    step.tell_children(
        CancelRequested(
            at_s=step.at_s,
            actor=step.event.actor,
            comment=step.event.comment,
            waits_for_delegates=waits_for_delegates,
        )
    )
