"""Checks whether the choices of a resume or rerun are possible, and finds all obstacles before anything changes (R4,
R14, R16, R26, O30, O31).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from dalsegno.workflow.events import ChildChoice, Choice, TaskChoice
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.operating import fitting
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import HistoryDiscarded, InvalidRequest, Obstacle, Refused, Violation
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, TaskState
from dalsegno.workflow.value import Value

FAILED = frozenset({TaskState.ERROR, TaskState.CANCELLED})
"""The states that a resume takes (decision 1)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A task execution and what is to be done with it."""

    task: TaskExecution
    wanted: TaskChoice
    only: tuple[int, ...] | None = None
    """The items that run again; None: the whole task."""


@dataclass(slots=True)
class RequestFaults:
    """The faults of a request, and the obstacles in the execution."""

    wrong: list[Violation] = field(default_factory=list)
    """Fields that are wrong in every state of the execution."""
    obstacles: list[Violation] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise one refusal with all faults and obstacles; do nothing when there are none."""
        if self.wrong:
            raise InvalidRequest([*self.wrong, *self.obstacles])
        if any(each.kind is Obstacle.DISCARDED for each in self.obstacles):
            raise HistoryDiscarded(self.obstacles)
        if self.obstacles:
            raise Refused(self.obstacles)

    def obstacle(self, subject: str, description: str, kind: Obstacle = Obstacle.STATE) -> None:
        """Add an obstacle: something is not in the state that the request needs."""
        self.obstacles.append(Violation(subject, description, kind))


def environment(step: Step, given: Value | None, faults: RequestFaults) -> Value | None:
    """Return the environment merged with the given variables; None when none are given."""
    if given is None:
        return None
    if not isinstance(given.data, dict):
        faults.wrong.append(Violation("environment", "must be an object"))
        return None
    before = step.execution.environment.data
    assert isinstance(before, dict)
    return Value(data={**before, **given.data})


_TASKS_NAMED = 10
"""How many tasks of the workflow are named where another one was asked for."""


def executions_of(step: Step, choice: TaskChoice, faults: RequestFaults, *, failed: bool) -> list[TaskExecution]:
    """Return the task executions that a choice means: by number; else the newest of those that count.

    With `failed` that is the newest failed one, if there is one; else the newest one on each route.
    """
    execution, name = step.execution, choice.task
    subject = f"task {name}"
    if name not in step.workflow.tasks:
        names = sorted(step.workflow.tasks)
        known = ", ".join(names[:_TASKS_NAMED]) + ", …" * (len(names) > _TASKS_NAMED)
        faults.obstacle(subject, f"is not a task of the workflow, which has {known}", Obstacle.TASK_UNKNOWN)
        return []
    if choice.number:
        found = execution.tasks.get(choice.number)
        if _is_discarded(execution, choice.number):
            faults.obstacle(subject, f"task execution {choice.number} {_DISCARDED}", Obstacle.DISCARDED)
            return []
        if found is None or found.name != name:
            faults.obstacle(subject, f"has no task execution {choice.number}", Obstacle.TASK_UNKNOWN)
            return []
        if found.superseded_by:
            faults.obstacle(subject, f"task execution {choice.number} was superseded by {found.superseded_by}")
            return []
        return [found]
    newest = execution.latest(name)
    if newest is None and any(task.name == name for task in execution.tasks.values()):
        faults.obstacle(subject, f"was reverted: go on from {_entry(step)}")
        return []
    if newest is None:
        faults.obstacle(subject, "was never executed", Obstacle.NOT_EXECUTED)
        return []
    if failed:
        meant = [newest if newest.state in FAILED else _newest_failed(step, name) or newest]
    else:
        every = (execution.tasks[number] for number in execution.by_name[name])
        meant = [task for task in every if execution.by_route.get((name, task.route)) == task.number]
    if any(task.is_consolidated for task in meant):
        faults.obstacle(subject, _DISCARDED, Obstacle.DISCARDED)
        return []
    return meant


_DISCARDED = "ended before the history that is kept: only its result is left"


def _is_discarded(execution: Execution, number: int) -> bool:
    """Return whether the task execution is discarded, or nothing but its result is kept."""
    found = execution.tasks.get(number)
    if found is not None:
        return found.is_consolidated
    return execution.first_sequence > execution.created.sequence and 0 < number <= execution.task_count


def _entry(step: Step) -> str:
    """Return the entry from which a reverted task is reached again."""
    for entry in reversed(step.execution.entries.values()):
        if not entry.is_undone:
            return f"checkpoint '{entry.name}' (sequence {entry.sequence})"
    return "checkpoint 'start'"


def _newest_failed(step: Step, name: str) -> TaskExecution | None:
    execution = step.execution
    found = [number for number in (*execution.unhandled, *execution.cancelled) if execution.tasks[number].name == name]
    return execution.tasks[max(found)] if found else None


def check(step: Step, index: int, choice: TaskChoice, task: TaskExecution, faults: RequestFaults) -> Chosen:
    """Return what is to be done with the task, and add what is wrong with that to the faults."""
    place = f"tasks[{index}]"
    if choice.choice is Choice.SKIP and choice.output is None:
        faults.wrong.append(Violation(f"{place}.output", "is missing: a skip needs an output"))
    if choice.choice is not Choice.RUN:
        return Chosen(task, choice)
    faults.wrong += fitting.unfit_inputs(step, place, choice, task)
    if choice.child is ChildChoice.RERUN_FAILED:
        _check_child(step, place, choice, task, faults)
    if choice.items:
        faults.wrong += _unfit_items(place, choice, task)
        faults.obstacles += _busy_items(step, choice.items, task)
        return Chosen(task, choice, tuple(sorted(choice.items)))
    only_failed = choice.reset is False or choice.child is ChildChoice.RERUN_FAILED
    if only_failed and task.progress.item_count is not None:
        return Chosen(task, choice, tuple(sorted(task.progress.failed_items)))
    return Chosen(task, choice)


def _unfit_items(place: str, choice: TaskChoice, task: TaskExecution) -> Iterator[Violation]:
    progress = task.progress
    if progress.item_count is None:
        yield Violation(f"{place}.items", f"task '{task.name}' has no items")
        return
    for item in choice.items:
        if not 0 <= item < progress.item_count:
            there = f"0 to {progress.item_count - 1}" if progress.item_count else "none"
            yield Violation(f"{place}.items", f"item {item} is out of range: there are {there}")


def _busy_items(step: Step, items: Iterable[int], task: TaskExecution) -> Iterator[Violation]:
    if task.progress.added_count == task.progress.ended_count:
        return
    for item in items:
        attempt = step.execution.current(task, item)
        if attempt is not None and attempt.state not in COMPLETED_ATTEMPT:
            yield Violation(f"task {task.name}", f"item {item} has not ended: it is {attempt.state}", Obstacle.STATE)


def _check_child(step: Step, place: str, choice: TaskChoice, task: TaskExecution, faults: RequestFaults) -> None:
    attempts = list(step.execution.current_attempts(task))
    if not any(attempt.child_id for attempt in attempts):
        description = f"task '{task.name}' has run no sub-workflow"
        if any(attempt.was_workflow for attempt in attempts):
            description = (
                f"the sub-workflow of task '{task.name}' is not this execution's: it was forked. Run a fresh one"
            )
        faults.wrong.append(Violation(f"{place}.child", description))
    if choice.input is not None or any(given is not None for given in choice.items.values()):
        faults.wrong.append(Violation(f"{place}.input", "is for a fresh child, not for the one there is"))


def gather(chosen: dict[int, Chosen], index: int, one: Chosen, faults: RequestFaults) -> None:
    """Add the choice for a task execution. The same choice again has no effect (O27); another one is a fault."""
    before = chosen.setdefault(one.task.number, one)
    if replace(before.wanted, number=0) != replace(one.wanted, number=0):
        description = f"{one.wanted.task!r} is named before already, with another choice"
        faults.wrong.append(Violation(f"tasks[{index}].task", description))
