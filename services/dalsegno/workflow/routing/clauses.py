"""Routing by clauses: transitions, joins, engine commands, and `requires` of reverse workflows."""

from __future__ import annotations

from dalsegno.workflow import graph
from dalsegno.workflow.changes import TaskRouted
from dalsegno.workflow.model import Clause, Command, Task, Transition
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.routing import branches, joins
from dalsegno.workflow.running import tasks
from dalsegno.workflow.running.follow_ups import Begin, CheckJoin, FailJoin, RunCommand, WindDown
from dalsegno.workflow.running.lifecycle import pause_on_failure, stop
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View, task_view
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import ExecutionState, TaskState

_SUCCESS, _SKIPPED = TaskState.SUCCESS, TaskState.SKIPPED
_FULFILLED = frozenset({TaskState.SUCCESS, TaskState.SKIPPED})


def add_task(
    step: Step, name: str, sources: tuple[int, ...], state: TaskState = TaskState.IDLE, generation: int = 0
) -> TaskExecution:
    """Add a task execution on the first route, numbered in order of creation."""
    return step.add_task(name, state, sources, generation=generation)


def route(step: Step, task: TaskExecution) -> None:
    """Evaluate all transitions of an ended task before any of them is taken."""
    if task.routed or not (step.execution.is_live or step.workflow.rules.failures.routes_when_ended):
        return
    if step.workflow.rules.failures.ends_at_once and task.state is TaskState.CANCELLED and step.execution.is_live:
        _take_cancel(step, task)
    if step.workflow.reverse:
        _route_backward(step, task)
    elif step.spec(task).branches:
        branches.route(step, task)
    else:
        _route_clauses(step, task)
    if not pause_on_failure(step, task) and step.workflow.rules.failures.ends_at_once:
        branches.end_early(step, task)


def _take_cancel(step: Step, task: TaskExecution) -> None:
    """Cancel the execution of an action that was cancelled; cancelling a sub-workflow does not affect its parent (O8,
    O9)."""
    if not any(attempt.runs_workflow for attempt in step.execution.current_attempts(task)):
        step.later(WindDown(task, f"task '{task.name}' was cancelled"))


def _route_clauses(step: Step, task: TaskExecution) -> None:
    chosen, handled = _chosen(step, task)
    numbers: list[int] = []
    is_end = True
    command: Command | None = None
    for transition in chosen:
        if transition.command is None:
            reached = _arrive(step, transition.target, task)
            numbers.append(reached.number)
            is_end = is_end and joins.is_dead(step, reached)
        elif command is None:
            command = transition.command
            step.later(RunCommand(task, command, _message(step, task, transition)))
            if command is not Command.PAUSE:
                break
    handled = handled and command is not Command.FAIL  # an error that leads to `fail` is not handled
    ends = (-1,) if numbers and is_end else ()
    step.change(TaskRouted(task=task.number, next=tuple(numbers), handled=handled, ends=ends))
    if step.execution.waiting:
        _check_joins(step, task, {transition.target for transition in chosen})


def run_command(step: Step, task: TaskExecution, command: Command, message: str) -> None:
    """Carry out an engine command after the tasks before it have begun; tasks after a pause begin at the resume."""
    if command is not Command.PAUSE:
        if command is Command.FAIL and not step.execution.is_completed:
            branches.note_joins(step)
        stop(step, ExecutionState.SUCCESS if command is Command.SUCCEED else ExecutionState.ERROR, message)
    elif step.execution.state is ExecutionState.RUNNING:
        step.pause(message or f"paused by task '{task.name}'")


def _clauses(spec: Task, state: TaskState) -> tuple[Clause, ...]:
    if state is _SUCCESS:
        return (spec.on_success, spec.on_complete)
    if state is TaskState.ERROR:
        return (spec.on_error, spec.on_complete)
    return ()


def _chosen(step: Step, task: TaskExecution) -> tuple[list[Transition], bool]:
    """Return the transitions to take, without noop, and whether an error was handled (noop counts)."""
    spec = step.spec(task)
    scope = task_view(step, task)
    if task.state is _SKIPPED:
        taken = _taken(step, spec.on_skip, scope, task) or _taken(step, spec.on_success, scope, task)
        return [transition for transition in taken if transition.command is not Command.NOOP], False
    taken = []
    handled = False
    for clause in _clauses(spec, task.state):
        found = _taken(step, clause, scope, task)
        handled = handled or (clause is spec.on_error and bool(found))
        taken += found
    return [transition for transition in taken if transition.command is not Command.NOOP], handled


def _taken(step: Step, clause: Clause, scope: View, task: TaskExecution) -> list[Transition]:
    if not clause.next:
        return []
    try:
        return [each for each in clause.next if each.when is None or step.decide(each.when, scope)]
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate a transition of task '{task.name}': {error}") from None


def _message(step: Step, task: TaskExecution, transition: Transition) -> str:
    if transition.message is None:
        return ""
    try:
        message = transition.message.evaluate(task_view(step, task))
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate the message of '{transition.target}': {error}") from None
    return "" if message is None else str(message)


def _arrive(step: Step, name: str, source: TaskExecution) -> TaskExecution:
    """Add a running of the target task, or an arrival at its join."""
    if not step.workflow.tasks[name].has_join:
        task = add_task(step, name, (source.number,), generation=source.generation)
        step.later(Begin(task))
        return task
    join = step.execution.latest(name)
    if join is None:
        join = add_task(step, name, (source.number,), TaskState.WAITING, joins.generation(step, name, source))
    elif join.state is TaskState.WAITING:
        joins.reach(step, join, source)
        if len(join.arrivals.arrived) < joins.needed(step, join):
            return join  # an arrival makes nothing impossible
    elif joins.is_of_before(join, source):
        return step.execution.tasks[joins.reach_again(step, join, source)]
    else:
        joins.reach_late(step, join, source)
        return join
    step.later(CheckJoin(join))
    return join


def _check_joins(step: Step, task: TaskExecution, taken: set[str]) -> None:
    """Check the joins that wait and that this task did not select or can no longer lead to."""
    possible = graph.outbound_tasks(step.workflow)[task.name]
    if taken.issuperset(possible):
        return
    for name in graph.outbound_joins(step.workflow)[task.name]:
        join = step.execution.latest(name)
        if name not in taken and join is not None and join.state is TaskState.WAITING:
            step.later(CheckJoin(join))
    if any(not step.workflow.tasks[name].has_join for name in possible if name not in taken):
        for number in list(step.execution.waiting):
            step.later(CheckJoin(step.execution.tasks[number]))


def check_join(step: Step, join: TaskExecution, *, last_chance: bool = False) -> None:
    """Start the join when enough tasks have selected it; fail it when that has become impossible (S7, S8).

    With `last_chance` nothing else of the execution is left to run, so no further task arrives.
    """
    if join.state is not TaskState.WAITING:
        return
    spec, needed = step.spec(join), joins.needed(step, join)
    if len(join.arrivals.arrived) >= needed:
        step.later(Begin(join))
        return
    if step.workflow.rules.failures.leaves_joins:
        if joins.is_filled_by_before(step, join) and (last_chance or not _awaits(step, join)):
            step.later(Begin(join))
        return
    absent = [name for name in spec.inbound if name not in join.arrivals.arrived]
    lost = absent if last_chance else [name for name in absent if not _may_select(step, name)]
    if len(spec.inbound) - len(lost) < needed:
        step.later(FailJoin(join, f"Failed by tasks: [{', '.join(lost)}]"))


def fail_join(step: Step, join: TaskExecution, reason: str) -> None:
    """End the join in ERROR before it has begun; it publishes over the context of the tasks that have arrived."""
    if join.state is TaskState.WAITING:
        tasks.publish(step, join, TaskState.ERROR, reason)
        tasks.settle(step, join, TaskState.ERROR, reason)


def _awaits(step: Step, join: TaskExecution) -> bool:
    """Return whether a task that has not led to the join in this round of its cycle may still do so."""
    absent = [name for name in step.spec(join).inbound if name not in join.arrivals.arrived]
    return any(_may_select(step, name, join.name) for name in absent)


def _may_select(step: Step, name: str, past: str = "") -> bool:
    """Return whether the task may still evaluate its transitions, by any path through the graph except past that
    join."""
    seen = {past}
    open_names = [name]
    while open_names:
        name = open_names.pop()
        if name in seen:
            continue
        seen.add(name)
        task = step.execution.latest(name)
        if task is not None and not (task.is_completed and task.routed):
            return True
        open_names.extend(step.workflow.tasks[name].inbound)
    return False


def _route_backward(step: Step, task: TaskExecution) -> None:
    """Start the tasks that require this one, are needed, and have all that they require succeeded.

    A skipped task counts as one that succeeded (R19).
    """
    numbers: list[int] = []
    if task.state in _FULFILLED:
        needed = graph.needed_for(step.workflow, reverse_target(step))
        for name in graph.dependants(step.workflow)[task.name]:
            requires = step.workflow.tasks[name].requires
            found = [step.execution.latest(required) for required in requires]
            if (
                name in needed
                and step.execution.latest(name) is None
                and all(one is not None and one.state in _FULFILLED for one in found)
            ):
                dependant = add_task(step, name, tuple(one.number for one in found if one is not None))
                numbers.append(dependant.number)
                step.later(Begin(dependant))
    step.change(TaskRouted(task=task.number, next=tuple(numbers)))


def reverse_target(step: Step) -> str:
    """Return the task that a reverse workflow was started for."""
    params = step.execution.created.params.data
    assert isinstance(params, dict)
    return str(params.get("task_name"))
