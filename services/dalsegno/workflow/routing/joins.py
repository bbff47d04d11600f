"""Arrivals at joins: which of them count, and what operations do with them (decision 3).

An arrival is recorded in every state of the join. An arrival after the join has begun or failed is late: it changes
nothing of the join. When an operation fills the join again, all arrivals count that were not taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from dalsegno.workflow.changes import JoinReached, TaskRouted
from dalsegno.workflow.model import JOIN_ALL, Task
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.running.follow_ups import CheckJoin
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import TaskState

BEFORE_START = frozenset({TaskState.WAITING, TaskState.IDLE})


def needed(step: Step, join: TaskExecution) -> int:
    """Return how many tasks must select the join before it begins."""
    spec = step.spec(join)
    return len(spec.inbound) if spec.join == JOIN_ALL else spec.join or 1


def is_dead(step: Step, join: TaskExecution) -> bool:
    """Return whether the join has failed for lack of arrivals."""
    return (
        join.state is TaskState.ERROR and not join.progress.attempt and len(join.arrivals.arrived) < needed(step, join)
    )


def is_of_before(join: TaskExecution, source: TaskExecution) -> bool:
    """Return whether the join began with an earlier arrival of a task that an operation has since run again."""
    return source.name in join.arrivals.arrived and source.generation > join.generation


def follows(step: Step, task: TaskExecution, join: TaskExecution) -> bool:
    """Return whether the task was created by way of the join: it leads there in another round of a cycle."""
    waiting = [task.number]
    seen: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number == join.number:
            return True
        before = step.execution.tasks.get(number)
        if before is not None and number > join.number and number not in seen:
            seen.add(number)
            waiting += (*before.arrivals.sources, *before.after)
    return False


def is_filled_by_before(step: Step, join: TaskExecution) -> bool:
    """Return whether a join in a cycle has enough arrivals, counting tasks that have led to it in an earlier round and
    have not begun again since."""
    spec = step.spec(join)
    if not spec.is_in_cycle:
        return False
    before = {name for name in spec.inbound if name not in join.arrivals.arrived and _has_led(step, name, join)}
    return bool(before) and len(join.arrivals.arrived) + len(before) >= needed(step, join)


def _has_led(step: Step, name: str, join: TaskExecution) -> bool:
    source = step.execution.latest_on(name, join.route)
    if source is None or not source.routed:
        return False
    tasks = step.execution.tasks
    return join.name in source.led_to or any(
        number in tasks and tasks[number].name == join.name for number in source.next
    )


def generation(step: Step, name: str, source: TaskExecution) -> int:
    """Return the generation of a join that does not exist yet: that of the source, or of the operation that superseded
    an earlier execution of the join.

    In that case a branch that was kept may be the first to reach it (decision 3).
    """
    return step.execution.generation if name in step.execution.by_name else source.generation


def of_round(step: Step, spec: Task, source: TaskExecution) -> TaskExecution | None:
    """Return the join that the source leads to: the newest on its route, in a cycle that of its round. None: there is
    none.

    The cost is the number of rounds that the source is behind.
    """
    found = step.execution.latest_on(spec.name, source.route)
    if found is None or not spec.is_in_cycle:
        return found
    if found.state not in BEFORE_START and follows(step, source, found):
        return None
    for earlier in _before(step, found):
        if follows(step, source, earlier):
            break
        if follows(step, found, earlier):  # else it is of the same round: an operation has filled it again
            found = earlier
    return found


def open_rounds(step: Step, numbers: Iterable[int]) -> set[int]:
    """Return the numbers of the joins in cycles that these task executions, or what follows them, may still lead to: a
    branch that is rounds behind reaches the join of its own round."""
    specs = [spec for spec in step.workflow.tasks.values() if spec.has_join and spec.is_in_cycle]
    sources = [step.execution.tasks[number] for number in numbers]
    found = (of_round(step, spec, source) for spec in specs for source in sources)
    return {join.number for join in found if join is not None}


def _before(step: Step, join: TaskExecution) -> Iterator[TaskExecution]:
    """Yield the earlier executions of the join on its route that count, the newest first."""
    for number in reversed(step.execution.by_name[join.name]):
        earlier = step.execution.tasks[number]
        if number < join.number and earlier.route == join.route and not earlier.superseded_by:
            yield earlier


def reach(step: Step, join: TaskExecution, source: TaskExecution, branch: int = -1) -> None:
    """Record an arrival at a join that waits, or that is filled and has not begun."""
    step.change(JoinReached(task=join.number, source=source.number, branch=branch, edition=source.edition))


def reach_late(step: Step, join: TaskExecution, source: TaskExecution, branch: int = -1) -> None:
    """Record an arrival at a join that has begun or failed; nothing of the join changes."""
    step.change(JoinReached(task=join.number, source=source.number, branch=branch, edition=source.edition, late=True))


def reach_again(step: Step, join: TaskExecution, source: TaskExecution, branch: int = -1) -> int:
    """Record an arrival of a task that has led to the join before: it goes to the next execution of the join."""
    renewed = renew(step, join, (), source.generation)
    if renewed is None:
        return _add(step, join, (source.number, branch), source.generation).number
    reach(step, renewed, source, branch)
    return renewed.number


def _add(step: Step, join: TaskExecution, arrival: tuple[int, int], generation: int) -> TaskExecution:
    state = TaskState.WAITING
    added = step.add_task(join.name, state, (arrival[0],), generation=generation, branch=arrival[1], route=join.route)
    step.later(CheckJoin(added))
    return added


def renew(step: Step, join: TaskExecution, undone: Collection[int], generation: int) -> TaskExecution | None:
    """Add the next execution of the join, with the arrivals of this one that count still; None when none does."""
    tasks = step.execution.tasks
    arrivals = [
        (source, branch)
        for source, branch in _arrivals(join)
        if source not in undone and _stands(tasks[source], join.arrivals.editions.get(source, tasks[source].edition))
    ]
    if not arrivals:
        return None
    first, *others = arrivals
    renewed = _add(step, join, first, generation)
    for source, branch in others:
        reach(step, renewed, tasks[source], branch)
    for source in dict.fromkeys(source for source, _ in arrivals):
        _lead(step, tasks[source], renewed, {branch for number, branch in arrivals if number == source})
    return renewed


def take_late(step: Step, join: TaskExecution) -> None:
    """Fill the join again in place: its late arrivals count from now on."""
    tasks = step.execution.tasks
    late = [
        (source, branches)
        for source, branches in join.arrivals.late.items()
        if _stands(tasks[source], tasks[source].edition)
    ]
    for source, branches in late:
        for branch in branches:
            reach(step, join, tasks[source], branch)
        _lead(step, tasks[source], join, branches)
    if late:
        step.later(CheckJoin(join))


def _arrivals(join: TaskExecution) -> Iterator[tuple[int, int]]:
    """Return all arrivals, each a task and its branch, in order of arrival."""
    yield from zip(join.arrivals.sources, join.arrivals.by_branches, strict=True)
    for source, branches in join.arrivals.late.items():
        yield from ((source, branch) for branch in branches)


def _lead(step: Step, source: TaskExecution, join: TaskExecution, branches: Collection[int]) -> None:
    """Record that these branches of the task lead to this join and do not end there any more."""
    spec = step.spec(source)
    ends = tuple(branch for branch in source.ends if branch not in branches or _obeys(spec, branch))
    numbers = source.next if join.number in source.next else (*source.next, join.number)
    if (numbers, ends) != (source.next, source.ends):
        step.change(TaskRouted(task=source.number, next=numbers, handled=source.handled, ends=ends))


def _obeys(spec: Task, branch: int) -> bool:
    """Return whether the branch ends in an engine command too."""
    return branch >= 0 and any(transition.command is not None for transition in spec.branches[branch].next)


def _stands(source: TaskExecution, edition: int) -> bool:
    """Return whether the arrival was not taken back: the task counts, and has not been reopened since."""
    return not source.superseded_by and source.edition == edition and source.routed
