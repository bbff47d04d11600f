"""Joins after an operation: which are filled anew, and with which arrivals (BEHAVIOURS decision 3)."""

from __future__ import annotations

from collections.abc import Collection

from dalsegno.workflow.changes import JoinReached, TaskAdded, TaskRouted
from dalsegno.workflow.model import JOIN_ALL
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.states import TaskState
from dalsegno.workflow.step import Step


def needed(step: Step, join: TaskExecution) -> int:
    """How many tasks must have selected the join before it begins."""
    spec = step.spec(join)
    return len(spec.inbound) if spec.join == JOIN_ALL else spec.join or 1


def is_dead(step: Step, join: TaskExecution) -> bool:
    """Whether the join has failed for lack of arrivals."""
    return join.state is TaskState.ERROR and not join.attempt and len(join.arrived) < needed(step, join)


def is_of_before(join: TaskExecution, source: TaskExecution) -> bool:
    """Whether the join has begun with an earlier arrival of a task that an operation has had run again since."""
    return source.name in join.arrived and source.generation > join.generation


def follows(step: Step, task: TaskExecution, join: TaskExecution) -> bool:
    """Whether the task has come to be by way of the join: it leads there in another round of a cycle."""
    waiting = [task.number]
    seen: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number == join.number:
            return True
        if number > join.number and number not in seen:
            seen.add(number)
            waiting += step.execution.tasks[number].sources
    return False


def is_filled_by_before(step: Step, join: TaskExecution) -> bool:
    """Whether a join in a cycle has enough arrivals with those of tasks that have led to it in an earlier round, and
    have not begun again since."""
    spec = step.spec(join)
    if not spec.is_in_cycle:
        return False
    before = {name for name in spec.inbound if name not in join.arrived and _has_led(step, name, join)}
    return bool(before) and len(join.arrived) + len(before) >= needed(step, join)


def _has_led(step: Step, name: str, join: TaskExecution) -> bool:
    source = step.execution.latest_on(name, join.route)
    if source is None or not source.routed:
        return False
    return any(step.execution.tasks[number].name == join.name for number in source.next)


def generation(step: Step, name: str, source: TaskExecution) -> int:
    """Of a join that is not there: of what leads to it, or, where an operation has put an earlier one aside, of that.

    A branch that was kept may be the first to reach it then (BEHAVIOURS decision 3).
    """
    return step.execution.generation if name in step.execution.by_name else source.generation


def reach_again(step: Step, join: TaskExecution, source: TaskExecution, branch: int) -> int:
    """The task arrives once more at a join that had begun with what it was before: at the next execution of it."""
    renewed = renew(step, join, (), source.generation)
    if renewed is not None:
        step.change(JoinReached(task=renewed.number, source=source.number, branch=branch))
        return renewed.number
    return _add(step, join, (source.number, branch), source.generation)


def _add(step: Step, join: TaskExecution, way: tuple[int, int], generation: int) -> int:
    number = len(step.execution.tasks) + 1
    step.change(
        TaskAdded(
            task=number,
            name=join.name,
            state=TaskState.WAITING,
            sources=(way[0],),
            generation=generation,
            branch=way[1],
            route=join.route,
            at_s=step.at_s,
        )
    )
    step.later("check_join", step.execution.tasks[number])
    return number


def renew(step: Step, join: TaskExecution, undone: Collection[int], generation: int) -> TaskExecution | None:
    """The next execution of the join, waiting with the arrivals of this one that still stand; None when none do."""
    execution = step.execution
    ways = [
        (source, branch)
        for source, branch in zip(join.sources, join.by_branches, strict=True)
        if source not in undone and _stands(execution.tasks[source], join.editions.get(source, 0))
    ]
    if not ways:
        return None
    first, *others = ways
    number = _add(step, join, first, generation)
    for source, branch in others:
        step.change(JoinReached(task=number, source=source, branch=branch))
    for source in dict.fromkeys(source for source, _ in ways):
        led = execution.tasks[source]
        step.change(TaskRouted(task=source, next=(*led.next, number), handled=led.handled, ends=led.ends))
    return execution.tasks[number]


def _stands(source: TaskExecution, edition: int) -> bool:
    """Whether the arrival has not been taken back: the task still counts, and has not gone on since."""
    return not source.superseded_by and source.edition == edition and source.routed
