"""Routing by branches, each with a condition, variables and targets of its own.

Where several tasks lead to a task outside of cycles and without a join, each arrival opens a route of its own. The
tasks downstream stay on that route, and joins count the arrivals of their route (orquesta/README.md#routes).
"""

from __future__ import annotations

from dalsegno.workflow.changes import Published, RouteOpened, TaskRouted
from dalsegno.workflow.model import Assignments, Branch, Command, Transition
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.routing import joins
from dalsegno.workflow.running import lifecycle
from dalsegno.workflow.running.follow_ups import Begin, CheckJoin, RunCommand
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.running.view import View, context_out
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import ExecutionState, TaskState
from dalsegno.workflow.value import UnfitValue, Value, limit, made, member_bytes

_UNREACHABLE = "some have reached the join '{}', and no others will"


def route(step: Step, task: TaskExecution) -> None:
    """Take every branch whose condition is true. A branch that cannot be evaluated fails the execution; the others are
    taken."""
    step.last = task
    numbers: dict[int, bool] = {}
    """The tasks and joins that the task leads to, and whether it arrives too late there."""
    ends: list[int] = []
    handled = fails = False
    taken, failed = _taken(step, task)
    for index, transition in taken:
        if transition.command is None:
            handled = True
            number, is_late = _arrive(step, transition.target, task, index)
            numbers[number] = numbers.get(number, True) and is_late
            if is_late:
                ends.append(index)
        else:
            ends.append(index)
            if transition.is_split and (opens := _opened(step, task, index)):
                step.change(RouteOpened(task=task.number, transition=opens))
            handled = handled or transition.command is Command.NOOP
            fails = fails or transition.command is Command.FAIL
    is_error = task.state is TaskState.ERROR
    handled = is_error and handled and not fails  # an error that leads to `fail` is not handled
    ended = tuple(dict.fromkeys(ends))
    step.change(TaskRouted(task=task.number, next=tuple(numbers), handled=handled, ends=ended))
    reached = [step.execution.tasks[number] for number, is_late in numbers.items() if not is_late]
    for begun in sorted(reached, key=lambda each: each.state is not TaskState.WAITING):  # joins come last
        step.later(CheckJoin(begun) if begun.state is TaskState.WAITING else Begin(begun))
    if fails:  # after its siblings have begun: they go on
        step.note("the workflow was failed", task, Command.FAIL.value)
        step.later(RunCommand(task, Command.FAIL, f"failed by task '{task.name}'"))
    elif failed and step.execution.is_live:
        lifecycle.finish(step, ExecutionState.ERROR, step.execution.errors[-1].message)


def _taken(step: Step, task: TaskExecution) -> tuple[list[tuple[int, Transition]], bool]:
    """Publish for the branches whose condition is true. Return their transitions in the order of the targets' names,
    and whether a branch could not be evaluated. Note an error for each target of such a branch."""
    found: list[tuple[int, Transition]] = []
    failed = False
    for index, branch in enumerate(step.spec(task).branches):
        faults = _faults(step, task, index, branch)
        if faults is None:
            continue
        for transition in branch.next:
            for fault in faults:
                message = f"cannot evaluate a transition of task '{task.name}': {fault}"
                step.note(message, task, transition=f"{transition.target}__t{index}")
            if not faults:
                found.append((index, transition))
        failed = failed or bool(faults)
    return sorted(found, key=lambda each: each[1].target), failed


def _faults(step: Step, task: TaskExecution, index: int, branch: Branch) -> list[str] | None:
    """Return the errors of a branch whose condition is true; without errors, publish for it. None: the condition is
    false."""
    try:
        if branch.when is not None and not step.decide(branch.when, _scope(step, task)):
            return None
    except EvaluationError as error:
        return [str(error)]
    return _publish(step, task, index, branch.publish)


def _scope(step: Step, task: TaskExecution, first: dict[str, object] | None = None) -> View:
    return View(step, task, context_out(step, task), first=first)


def _publish(step: Step, task: TaskExecution, index: int, assignments: Assignments) -> list[str]:
    """Evaluate the assignments, each of which sees those before it, and publish them. Return all errors."""
    faults: list[str] = []
    published: dict[str, object] = {}
    values: dict[str, Value] = {}
    names = {name for name, _ in assignments}
    size = sum(member_bytes(name, value) for name, value in task.published.items() if name not in names)
    for name, template in assignments:
        try:
            value = made(step.kept_as(name, template.evaluate(_scope(step, task, published))))
            limit(size := size + member_bytes(name, value))
        except (EvaluationError, UnfitValue) as error:
            faults.append(str(error))
        else:
            published[name], values[name] = value.data, value
    if values and not faults:
        step.change(Published(task=task.number, values=values, branch=index))
    return faults


def _arrive(step: Step, name: str, source: TaskExecution, index: int) -> tuple[int, bool]:
    """Add a running of a task, or an arrival at a join or at a task that has not begun yet. Return its number, and
    whether the arrival is too late because the join has begun."""
    spec = step.workflow.tasks[name]
    if spec.join is None:
        there = None if spec.is_split else step.execution.latest_on(name, source.route)
        if there is None or there.state is not TaskState.IDLE or there.progress.attempt or there.timing.timer:
            return _add(step, name, source, index, TaskState.IDLE), False
    else:
        there = joins.of_round(step, spec, source)
        if there is None:
            return _add(step, name, source, index, TaskState.WAITING), False
    if there.state in joins.BEFORE_START:
        joins.reach(step, there, source, index)
    elif joins.is_of_before(there, source):
        return joins.reach_again(step, there, source, index), False
    else:
        joins.reach_late(step, there, source, index)
        return there.number, True
    return there.number, False


def _add(step: Step, name: str, source: TaskExecution, index: int, state: TaskState) -> int:
    """Add a task execution on the route of the source, or on a new route that this arrival opens."""
    execution = step.execution
    route, opens = source.route, ""
    if step.workflow.tasks[name].is_split:
        opens = _opened(step, source, index)
        if opens:
            route = execution.route_count
    generation = source.generation if state is TaskState.IDLE else joins.generation(step, name, source)
    sources = (source.number,)
    return step.add_task(name, state, sources, generation=generation, branch=index, route=route, opens=opens).number


def _opened(step: Step, source: TaskExecution, index: int) -> str:
    """Return what an arrival by a branch adds to the route; empty when the route has it already."""
    opens = f"{source.name}__t{index}"
    return "" if opens in step.execution.routes[source.route] else opens


def end_early(step: Step, task: TaskExecution) -> None:
    """End the execution at once after an unhandled failure; joins that wait will never be filled."""
    if not step.execution.is_live:
        return
    fails = any(isinstance(each, RunCommand) for each in step.todo)
    if task.state is TaskState.ERROR and not task.handled and not fails:
        note_joins(step)
        lifecycle.finish(step, ExecutionState.ERROR, lifecycle.failure_info(step))


def note_joins(step: Step) -> None:
    """Note an error for each join that waits in vain when the execution fails. While other tasks go on, only joins
    whose sources have all begun count."""
    execution = step.execution
    if not step.workflow.rules.failures.leaves_joins or not execution.waiting:
        return
    quiet = (TaskState.WAITING, TaskState.PAUSED)
    goes_on = any(execution.tasks[number].state not in quiet for number in execution.incomplete)
    for join in [execution.tasks[number] for number in execution.waiting]:
        sources = [execution.latest_on(name, join.route) for name in step.spec(join).inbound]
        if not goes_on or all(source is not None and source.state not in joins.BEFORE_START for source in sources):
            step.note(_UNREACHABLE.format(join.name), join, tells_route=True)


def fail_joins(step: Step) -> bool:
    """Fail the execution when only joins are left that no other task will reach; the joins stay WAITING."""
    waiting = [step.execution.tasks[number] for number in step.execution.waiting]
    if not step.workflow.rules.failures.leaves_joins or not waiting:
        return False
    if any(joins.is_filled_by_before(step, join) for join in waiting):
        return False
    for join in waiting:
        step.note(_UNREACHABLE.format(join.name), join, tells_route=True)
    names = ", ".join(sorted({join.name for join in waiting}))
    lifecycle.finish(step, ExecutionState.ERROR, f"joins that can no longer be filled: {names}")
    return True
