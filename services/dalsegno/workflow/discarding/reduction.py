"""What an execution needs of its past at an entry: what its future can see, and nothing else (decision 24)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Merge
from dalsegno.workflow.records import TaskExecution, Writes
from dalsegno.workflow.routing import clauses, joins
from dalsegno.workflow.running import lifecycle
from dalsegno.workflow.running.step import Step


@dataclass(frozen=True, slots=True)
class Cut:
    """What is discarded of the writes of a variable of the whole execution."""

    count: int
    """How many of the oldest ones."""
    tasks: tuple[int, ...]
    """Who made all those that there were at the entry."""
    settles: bool
    """Whether the oldest one that is left cannot be taken back any more."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is kept of the task executions that existed at the entry, by number."""

    sequence: int
    task_count: int
    """How many task executions existed at the entry."""
    going_on: frozenset[int]
    """Kept whole: they have not ended, or the future continues from them."""
    results: frozenset[int]
    """Kept with their state and result only."""
    based: frozenset[int]
    """Those that are kept whole with what they see in place of their sources."""
    led_to: Mapping[int, tuple[str, ...]]
    """The names of the tasks that a kept one led to and does not tell of any more."""
    after: Mapping[int, tuple[int, ...]]
    """The kept tasks that a kept one follows by way of discarded ones."""
    folded: tuple[tuple[TaskExecution, int], ...]
    """The ends of branches, each a task and its branch, whose contexts become one."""
    routes: frozenset[int]
    route_count: int
    """How many routes there were at the entry."""
    writes: Mapping[str, Cut]

    @property
    def kept(self) -> frozenset[int]:
        return self.going_on | self.results


def reduction(step: Step, sequence: int, altered: Set[int], edited: Set[int]) -> Reduction:
    """Return what is kept of an execution that stands at the entry.

    `altered`: the task executions that were altered since. `edited`: those of them whose published values were edited.
    """
    execution = step.execution
    opened = _opened(step, altered)
    ends, folded = _ends(step, opened)
    going_on, based = _going_on(execution, {*opened, *ends}, _hanging(execution, edited))
    routes = _routes(execution, going_on)
    results = frozenset(_results(step, going_on, routes)) - going_on
    kept = going_on | results
    return Reduction(
        sequence=sequence,
        task_count=execution.task_count,
        going_on=going_on,
        results=results,
        based=based,
        led_to=dict(_led_to(execution, going_on, results)),
        after=dict(_after(step, kept, results | based)),
        folded=tuple((execution.tasks[number], branch) for number, branch in folded),
        routes=routes | {execution.tasks[number].route for number in results},
        route_count=execution.route_count,
        writes={name: _cut(writes, going_on) for name, writes in execution.global_writes.items() if writes.made},
    )


def _opened(step: Step, altered: Set[int]) -> set[int]:
    """Return the task executions that the future continues from."""
    execution = step.execution
    found = {*execution.incomplete, *execution.unrouted, *execution.unhandled, *execution.cancelled, *altered}
    found.update(key[0] for key in (*execution.ready, *execution.children, *execution.delegates))
    found.update(entry.task for entry in execution.entries.values() if entry.sequence == execution.revision)
    for number, task in execution.tasks.items():
        if task.progress.added_count > task.progress.ended_count:
            found.add(number)  # an action of it runs still
    if step.workflow.reverse:
        target = execution.latest(clauses.reverse_target(step))
        if target is not None:
            found.add(target.number)
    return {number for number in found if number in execution.tasks}


def _going_on(execution: Execution, opened: Iterable[int], hanging: Set[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Return what is kept whole, and which of it is kept without its sources.

    What has not begun keeps its sources, as an operation may still take one of them back. `hanging`: what sees values
    that were edited after the entry.
    """
    found: set[int] = set()
    based: set[int] = set()
    waiting = [*opened]
    while waiting:
        number = waiting.pop()
        task = execution.tasks.get(number)
        if task is None or number in found:
            continue
        found.add(number)
        is_unbegun = not task.progress.attempt and (not task.is_completed or number in execution.unhandled)
        if task.base is None and (is_unbegun or number in hanging):
            waiting += (*task.arrivals.sources, *task.arrivals.late)
        else:
            based.add(number)
    return frozenset(found), frozenset(based)


def _hanging(execution: Execution, edited: Set[int]) -> set[int]:
    """Return the task executions that see what these have published, as far as that is still computed."""
    found = {*edited}
    if not found:
        return found
    led: dict[int, list[int]] = {}
    for number, task in execution.tasks.items():
        for source in task.arrivals.sources if task.base is None else ():
            led.setdefault(source, []).append(number)
    waiting = [*found]
    while waiting:
        for number in led.get(waiting.pop(), ()):
            if number not in found:
                found.add(number)
                waiting.append(number)
    return found


def _ends(step: Step, opened: Collection[int]) -> tuple[set[int], list[tuple[int, int]]]:
    """Return the tasks whose ends of branches are kept, and the ends before them, whose contexts become one.

    Only the first ones of the order in which they are merged may become one.
    """
    execution = step.execution
    is_ordered = step.workflow.rules.merge is Merge.LAST_ARRIVED
    limit = min((execution.tasks[number].added_at for number in opened), default=0) if is_ordered else 0
    folded: list[tuple[int, int]] = []
    kept: set[int] = set()
    for number, branch, order in lifecycle.ends_in_order(step):
        if kept or number in opened or (is_ordered and opened and order >= limit):
            kept.add(number)
        else:
            folded.append((number, branch))
    return kept, folded


def _routes(execution: Execution, going_on: Iterable[int]) -> frozenset[int]:
    """Return the routes that these tasks are on, and the first one of each path: it is found by its path."""
    return frozenset(execution.route_numbers.values()) | {execution.tasks[number].route for number in going_on}


def _results(step: Step, going_on: Set[int], routes: Set[int]) -> Iterator[int]:
    """Yield the newest execution of each name, and of each name on these routes; of joins also those of rounds that are
    still open."""
    execution = step.execution
    for name in execution.by_name:
        newest = execution.latest(name)
        if newest is not None:
            yield newest.number
    for (_, route), number in execution.by_route.items():
        if route in routes and number in execution.tasks:
            yield number
    yield from joins.open_rounds(step, going_on)


def _led_to(execution: Execution, going_on: Set[int], results: Set[int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the names of the tasks that each kept one led to and does not tell of any more: a result tells of none."""
    kept = going_on | results
    for number in kept:
        task = execution.tasks[number]
        told = kept if number in going_on else ()
        names = {execution.tasks[each].name for each in task.next if each not in told and each in execution.tasks}
        if names:
            yield number, tuple(sorted(names.union(task.led_to)))


def _after(step: Step, kept: Set[int], unsourced: Set[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the kept tasks that each one without sources follows. Only joins in cycles ask for them."""
    if not any(spec.has_join and spec.is_in_cycle for spec in step.workflow.tasks.values()):
        return
    tasks = step.execution.tasks
    for number in sorted(unsourced):
        found: set[int] = set()
        seen: set[int] = set()
        waiting = [*_before(tasks[number])]
        while waiting:
            other = waiting.pop()
            if other in kept:
                found.add(other)
            elif other in tasks and other not in seen:
                seen.add(other)
                waiting += _before(tasks[other])
        yield number, tuple(sorted(found))


def _before(task: TaskExecution) -> tuple[int, ...]:
    return (*task.arrivals.sources, *task.after)


def _cut(writes: Writes, going_on: Set[int]) -> Cut:
    """Return which of the oldest writes of a variable are never seen again.

    A write can be taken back only together with its task; one that stays hides those before it.
    """
    tasks = tuple(task for task, _ in writes.made)
    staying = (index for index in range(len(tasks) - 1, 0, -1) if tasks[index] not in going_on)
    count = next(staying, 0)
    return Cut(count, tasks, tasks[count] not in going_on)
