"""An execution from its start to its end, whichever way it ends."""

from __future__ import annotations

from collections.abc import Iterable

from dalsegno.workflow import attempts, notices, view
from dalsegno.workflow.changes import GlobalsPublished, TaskMoved
from dalsegno.workflow.commands import Send
from dalsegno.workflow.context import EMPTY_CONTEXT, Context
from dalsegno.workflow.events import CancelRequested, StartRequested, TimerFired
from dalsegno.workflow.execution import TaskExecution
from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import COMPLETED_ATTEMPT, ExecutionState, TaskState
from dalsegno.workflow.step import Step
from dalsegno.workflow.value import UnfitValue, Value


def check_start(step: Step) -> Value | None:
    """Everything that can be wrong with a start, found before anything is created; the value of `vars` if any.

    Raises InvalidRequest with one violation for each.
    """
    violations = [*_input_violations(step), *notices.check(step.execution.created.params)]
    if step.workflow.reverse:
        params = step.execution.created.params.data
        target = params.get("task_name") if isinstance(params, dict) else None
        if target is None:
            violations.append(Violation("params.task_name", "a reverse workflow needs the name of the task to reach"))
        elif target not in step.workflow.tasks:
            violations.append(Violation("params.task_name", f"the workflow has no task '{target}'"))
    if violations:
        raise InvalidRequest(violations)
    if step.workflow.vars is None:
        return None
    try:
        values = step.workflow.vars.evaluate(view.View(step, None, EMPTY_CONTEXT))
        return Value(data=values)
    except EvaluationError as error:
        raise InvalidRequest.of("vars", str(error)) from None


def _input_violations(step: Step) -> Iterable[Violation]:
    given = step.execution.created.input.data
    if not isinstance(given, dict):
        yield Violation("input", f"must be an object, not {type(given).__name__}")
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
    """RUNNING, and the first tasks (P1, P2, S3)."""
    execution = step.execution
    if variables is not None and isinstance(variables.data, dict) and variables.data:
        step.change(GlobalsPublished(values={name: Value(data=value) for name, value in variables.data.items()}))
    step.move_execution(ExecutionState.RUNNING)
    deadline_s = execution.created.deadline_s
    if deadline_s is not None:
        step.command(Send(execution.id, TimerFired(task=0, timer="deadline", due_s=deadline_s), deadline_s))


def complete(step: Step) -> None:
    """Nothing is left to run: the execution ends as its tasks did."""
    execution = step.execution
    if execution.cancelled:
        names = _names(execution.tasks[number] for number in execution.cancelled)
        finish(step, ExecutionState.CANCELLED, f"Cancelled tasks: {names}")
    elif execution.unhandled:
        finish(step, ExecutionState.ERROR, failure_info(step))
    else:
        finish(step, ExecutionState.SUCCESS, "")


def failure_info(step: Step) -> str:
    """Which tasks failed and why, the first few in full."""
    failed = [step.execution.tasks[number] for number in step.execution.unhandled]
    lines = [f"Failure caused by error in tasks: {_names(failed)}"]
    lines += [f"  {task.name}: {task.info}" for task in failed[:10]]
    return "\n".join(lines)


def _names(tasks: Iterable[TaskExecution]) -> str:
    return ", ".join(sorted({task.name for task in tasks}))


def stop(step: Step, state: ExecutionState, info: str) -> None:
    """An engine command ends the execution; what runs goes on to its end, nothing follows it."""
    if not step.execution.is_completed:
        finish(step, state, info)


def finish(step: Step, state: ExecutionState, info: str) -> None:
    """End the execution with its output. An output that cannot be evaluated makes a success an error."""
    try:
        output = _output(step, state, info)
        output.text  # noqa: B018 - writes it now, so that an unfit value is found here
    except (EvaluationError, UnfitValue) as error:
        told = f"cannot evaluate the output: {error}"
        info = f"{info}\n{told}" if state is not ExecutionState.SUCCESS and info else told
        if state is ExecutionState.SUCCESS:
            state = ExecutionState.ERROR
        output = Value(data={"result": info})
    step.move_execution(state, info, output)


def _output(step: Step, state: ExecutionState, info: str) -> Value:
    workflow = step.workflow
    if state is ExecutionState.SUCCESS:
        context = final_context(step)
        scope = view.View(step, None, context)
        output = workflow.output.evaluate(scope) if workflow.output is not None else None
        return Value(data=output or view.values(context))
    told: dict[str, object] = {"result": info or None}
    if state is ExecutionState.ERROR:
        context = final_context(step)
        added = None
        if workflow.output_on_error is not None:
            added = workflow.output_on_error.evaluate(view.View(step, None, context))
        told.update(added if added and isinstance(added, dict) else view.values(context))
    return Value(data=told)


def final_context(step: Step) -> Context:
    """What the branches had published when they ended, merged in the order in which they did."""
    execution = step.execution
    if step.workflow.reverse:
        params = execution.created.params.data
        target = execution.latest(str(params.get("task_name"))) if isinstance(params, dict) else None
        return view.context_out(execution, target) if target is not None else EMPTY_CONTEXT
    return view.merged_out(execution, [execution.tasks[number] for number in execution.ends])


def fail_hard(step: Step, task: TaskExecution | None, reason: str) -> None:
    """Processing a task failed beyond its handlers: it is ERROR and so is the execution, at once."""
    if task is not None and (not task.is_completed or task.state is TaskState.SUCCESS):
        step.change(TaskMoved(task=task.number, state=TaskState.ERROR, info=reason, at_s=step.at_s))
    if not step.execution.is_completed:
        finish(step, ExecutionState.ERROR, reason)


def terminate(step: Step, state: ExecutionState, info: str) -> None:
    """End by force (BEHAVIOURS decision 7): everything that had not ended is CANCELLED, whoever works on it is told."""
    execution = step.execution
    for attempt in list(execution.attempts.values()):
        if attempt.state not in COMPLETED_ATTEMPT:
            attempts.stop(step, attempt, info)
    for number in list(execution.incomplete):
        step.change(TaskMoved(task=number, state=TaskState.CANCELLED, info=info, at_s=step.at_s))
    if not execution.is_completed:
        finish(step, state, info)


def cancel_children(step: Step) -> None:
    """Ask every child that has not ended to do so."""
    step.tell_children(CancelRequested(at_s=step.at_s, actor=step.event.actor, comment=step.event.comment))
