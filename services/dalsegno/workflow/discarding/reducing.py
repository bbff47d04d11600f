"""Takes out of an execution in memory what is discarded (decision 24)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter

from dalsegno.workflow.applying import undoing
from dalsegno.workflow.contexts.context import EMPTY_CONTEXT
from dalsegno.workflow.contexts.trimming import trimmed
from dalsegno.workflow.discarding.reduction import Cut, Reduction
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import TaskExecution, Writes
from dalsegno.workflow.running import view
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT


def reduce(step: Step, found: Reduction) -> frozenset[int]:
    """Reduce the execution to what is kept. Return the task executions whose records this alters.

    The execution stands at the entry, or has gone on from there.
    """
    execution = step.execution
    altered = _keep_contexts(step, found)
    before = _existed(execution, found.task_count)
    for number in before:
        if number not in found.going_on:
            _drop_attempts(execution, execution.tasks[number], keeps_results=number in found.results)
    gone = [execution.tasks[number] for number in before if number not in found.kept]
    for task in gone:
        del execution.tasks[task.number]
    execution.untrimmed += len(gone)
    for number in before:
        left = execution.tasks.get(number)
        if left is not None and _reduce_task(left, found):
            altered.add(number)
    _unindex(execution, found, gone)
    _drop_past(execution, found.sequence)
    _reduce_copies(execution, found)
    if execution.untrimmed >= len(execution.tasks):  # the cost of it is shared by as many discarded tasks
        trim_contexts(execution)
    return frozenset(altered)


def _reduce_copies(execution: Execution, found: Reduction) -> None:
    """Reduce also what the entries keep of the task executions that were altered since."""
    left = {number: execution.tasks[number] for number in found.based}
    for entry in execution.entries.values():
        left = {number: task for number, task in left.items() if task.altered > entry.sequence}
        if not left:
            return
        for number, task in left.items():
            copy = entry.kept.tasks.get(number) if entry.kept is not None else None
            if copy is not None:
                copy.base = task.base
                _reduce_task(copy, found)


def _existed(execution: Execution, task_count: int) -> list[int]:
    """Return the numbers of the task executions that existed at the entry. They are in order of creation."""
    found: list[int] = []
    for number in execution.tasks:
        if number > task_count:
            break
        found.append(number)
    return found


def _keep_contexts(step: Step, found: Reduction) -> set[int]:
    """Keep what tasks see, in place of what it is made of."""
    execution = step.execution
    altered: set[int] = set()
    for number in found.based:
        task = execution.tasks[number]
        if task.base is None:
            task.base = view.context_in(step, task)
            altered.add(number)
    if found.folded:
        ends = [(execution.tasks[task.number], branch) for task, branch in found.folded]
        execution.end_context = view.merged_out(step, ends)
    return altered


def trim_contexts(execution: Execution) -> None:
    """Drop the history of variables that no later merge can see."""
    having = [task for task in execution.tasks.values() if not (task.is_consolidated or task.arrivals.sources)]
    contexts = [EMPTY_CONTEXT if task.base is None else task.base for task in having]
    bases, execution.end_context = trimmed(contexts, execution.end_context)
    for task, base in zip(having, bases, strict=True):
        if task.base is not None:
            task.base = base
    for task in execution.tasks.values():
        task.context_in = task.context_out = None
        task.branch_contexts = {}
    execution.untrimmed = 0


def _drop_attempts(execution: Execution, task: TaskExecution, *, keeps_results: bool) -> None:
    """Drop the attempts of the task; `keeps_results`: but not those that have its result."""
    for key in _attempts(execution, task):
        attempt = execution.attempts[key]
        if keeps_results and execution.is_current(key) and not attempt.reverts:
            continue
        if attempt.state not in COMPLETED_ATTEMPT:
            raise AssertionError(f"attempt {key} has not ended")
        del execution.attempts[key]


def _attempts(execution: Execution, task: TaskExecution) -> list[tuple[int, int, int]]:
    if (task.last_item + 1) * task.last_attempt > len(execution.attempts):
        return [key for key in execution.attempts if key[0] == task.number]
    keys = (
        (task.number, item, attempt)
        for item in range(task.last_item + 1)
        for attempt in range(1, task.last_attempt + 1)
    )
    return [key for key in keys if key in execution.attempts]


def _reduce_task(task: TaskExecution, found: Reduction) -> bool:
    """Reduce the record of a kept task. Return whether that alters it."""
    number = task.number
    is_result = number in found.results
    is_altered = is_result and not task.is_consolidated
    if number in found.led_to:
        task.led_to, is_altered = found.led_to[number], True
    if is_result or number in found.based:
        task.after = found.after.get(number, ())
        arrivals = task.arrivals
        arrivals.sources, arrivals.by_branches, arrivals.editions = [], [], {}
        arrivals.late = {} if is_result else _late(task, found)
    if is_result:
        task.is_consolidated = True
        task.next = task.ends = ()
        task.former, task.base = {}, None
        task.context_in = task.context_out = None
        task.branch_contexts = {}
        task.progress.plan = task.progress.round = None
    return is_altered


def _late(task: TaskExecution, found: Reduction) -> dict[int, tuple[int, ...]]:
    """Return the late arrivals of tasks that are kept whole; those behind the entry are among them."""
    late = task.arrivals.late.items()
    return {source: each for source, each in late if source in found.going_on or source > found.task_count}


def _unindex(execution: Execution, found: Reduction, gone: Iterable[TaskExecution]) -> None:
    numbers = {task.number for task in gone}
    for name in {task.name for task in gone}:
        listed = execution.by_name.get(name, [])
        count = bisect_right(listed, found.task_count)
        listed[:count] = [each for each in listed[:count] if each not in numbers]
        undoing.trim(execution, name)
    for task in gone:
        if execution.by_route.get((task.name, task.route)) == task.number:
            del execution.by_route[task.name, task.route]
    for task, branch in found.folded:
        if branch < 0:
            execution.ends.pop(task.number, None)
        else:
            execution.branch_ends.pop((task.number, branch), None)
    for number in (*numbers, *found.results):
        execution.globals_of.pop(number, None)
    for number in [*execution.routes]:
        if number >= found.route_count:
            break
        if number not in found.routes:
            del execution.routes[number]
    for name, cut in found.writes.items():
        _drop_writes(execution.global_writes.get(name), cut)


def _drop_writes(writes: Writes | None, cut: Cut) -> None:
    """Drop the oldest writes of a variable, unless some of them were taken back since."""
    if writes is not None and tuple(task for task, _ in writes.made[: len(cut.tasks)]) == cut.tasks:
        writes.drop(cut.count)
        if cut.settles:
            writes.made[0] = (0, writes.made[0][1])


def _drop_past(execution: Execution, sequence: int) -> None:
    """Drop the entries before this one, and the ends behind them."""
    del execution.ended[: bisect_right(execution.ended, sequence, key=attrgetter("sequence"))]
    for entry in [*execution.entries.values()]:
        if entry.sequence >= sequence:
            break
        execution.lost[entry.name] = None
        del execution.entries[entry.sequence]
    execution.start = None
    execution.first_sequence = sequence
