"""From an ended task to what follows it by branches: each with a condition, variables and targets of its own.

Every arrival at a task that several lead to, outside of cycles and without a join, opens a route of its own; what is
downstream of it stays on that route, and joins count the arrivals of their route (ORQUESTA.md section 3).
"""

from __future__ import annotations

from dalsegno.workflow import joins, lifecycle
from dalsegno.workflow.changes import JoinReached, Published, TaskAdded, TaskRouted
from dalsegno.workflow.execution import TaskExecution
from dalsegno.workflow.model import Assignments, Command, Transition
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import LIVE, ExecutionState, TaskState
from dalsegno.workflow.step import Step
from dalsegno.workflow.value import UnfitValue, Value
from dalsegno.workflow.view import View, context_out

_UNREACHABLE = "some have reached the join '{}', and no others will"
_BEFORE_START = frozenset({TaskState.WAITING, TaskState.IDLE})


def route(step: Step, task: TaskExecution) -> None:
    """Take every branch that fits. A branch that cannot be evaluated fails the execution; the others are taken."""
    numbers: list[int] = []
    ends: list[int] = []
    handled = failed = fails = False
    for index, transition in _taken(step, task):
        if transition is None:
            failed = True
        elif transition.command is None:
            handled = True
            number = _arrive(step, transition.target, task, index)
            if number is None:
                ends.append(index)
            elif number not in numbers:
                numbers.append(number)
        else:
            ends.append(index)
            handled = handled or transition.command is Command.NOOP
            fails = fails or transition.command is Command.FAIL
    is_error = task.state is TaskState.ERROR
    handled = is_error and handled and not fails  # to end in failure is no way to handle one
    ended = tuple(dict.fromkeys(ends))
    step.change(TaskRouted(task=task.number, next=tuple(numbers), handled=handled, ends=ended))
    for number in numbers:
        begun = step.execution.tasks[number]
        step.later("check_join" if begun.state is TaskState.WAITING else "begin", begun)
    if fails:  # after its siblings have begun: they run on
        step.note("the workflow was failed", task, Command.FAIL.value)
        step.later("obey", task, Command.FAIL, f"failed by task '{task.name}'")
    elif failed and step.execution.state in LIVE:
        lifecycle.finish(step, ExecutionState.ERROR, step.execution.errors[-1].message)


def _taken(step: Step, task: TaskExecution) -> list[tuple[int, Transition | None]]:
    """The transitions of the branches that fit, what they publish published, targets in the order of their names.

    None in the place of the transition of a branch that could not be evaluated.
    """
    found: list[tuple[int, Transition | None]] = []
    for index, branch in enumerate(step.spec(task).branches):
        scope = _scope(step, task)
        try:
            if branch.when is not None and not branch.when.evaluate(scope):
                continue
            _publish(step, task, index, branch.publish)
        except (EvaluationError, UnfitValue) as error:
            step.note(f"cannot evaluate a transition of task '{task.name}': {error}", task)
            found.append((index, None))
            continue
        found += [(index, transition) for transition in branch.next]
    return sorted(found, key=lambda each: "" if each[1] is None else each[1].target)


def _scope(step: Step, task: TaskExecution, first: dict[str, object] | None = None) -> View:
    return View(step, task, context_out(step, task), first=first)


def _publish(step: Step, task: TaskExecution, index: int, assignments: Assignments) -> None:
    """Evaluate one after the other, each seeing those before it."""
    if not assignments:
        return
    published: dict[str, object] = {}
    for name, template in assignments:
        published[name] = template.evaluate(_scope(step, task, published))
    values = {name: Value(data=value) for name, value in published.items()}
    for value in values.values():
        value.text  # noqa: B018 - writes it now, so that an unfit value is found here
    step.change(Published(task=task.number, values=values, branch=index))


def _arrive(step: Step, name: str, source: TaskExecution, index: int) -> int | None:
    """One more running of a task, or one more arrival at a join; None when the join has begun without it."""
    spec = step.workflow.tasks[name]
    if spec.join is None:
        return _add(step, name, source, index, TaskState.IDLE)
    join = step.execution.latest_on(name, source.route)
    if join is None or (join.state not in _BEFORE_START and spec.is_in_cycle and step.spec(source).is_in_cycle):
        begins_again = join is not None
        return _add(step, name, source, index, TaskState.IDLE if begins_again else TaskState.WAITING)
    if join.state not in _BEFORE_START:
        return joins.reach_again(step, join, source, index) if joins.is_of_before(join, source) else None
    step.change(JoinReached(task=join.number, source=source.number, branch=index))
    return join.number


def _add(step: Step, name: str, source: TaskExecution, index: int, state: TaskState) -> int:
    """A new task execution on the source's route, or on one that this arrival opens."""
    execution = step.execution
    route, opens = source.route, ""
    if step.workflow.tasks[name].is_split:
        opens = f"{source.name}__t{index}"
        if opens in execution.routes[source.route]:
            opens = ""
        else:
            route = len(execution.routes)
    number = len(execution.tasks) + 1
    step.change(
        TaskAdded(
            task=number,
            name=name,
            state=state,
            sources=(source.number,),
            generation=source.generation,
            branch=index,
            route=route,
            opens=opens,
            at_s=step.at_s,
        )
    )
    return number


def end_early(step: Step, task: TaskExecution) -> None:
    """An unhandled failure ends the execution at once; joins that wait will wait in vain."""
    if step.execution.state not in LIVE:
        return
    fails = any(what == "obey" for what, _, _ in step.todo)
    if task.state is TaskState.ERROR and not task.handled and not fails:
        for number in step.execution.waiting:
            join = step.execution.tasks[number]
            step.note(_UNREACHABLE.format(join.name), join)
        lifecycle.finish(step, ExecutionState.ERROR, lifecycle.failure_info(step))


def fail_joins(step: Step) -> bool:
    """Nothing is left to run but joins that some have reached and no other will: the execution fails, they stay."""
    waiting = [step.execution.tasks[number] for number in step.execution.waiting]
    if not step.workflow.rules.leaves_joins or not waiting:
        return False
    for join in waiting:
        step.note(_UNREACHABLE.format(join.name), join)
    names = ", ".join(sorted({join.name for join in waiting}))
    lifecycle.finish(step, ExecutionState.ERROR, f"joins that can no longer be filled: {names}")
    return True
