"""Facts about the graph of a workflow, computed once per compiled workflow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from dalsegno.workflow.model import CheckpointPlace, Task, Workflow

Names = ParamSpec("Names")
Found = TypeVar("Found")


def _kept(
    compute: Callable[Concatenate[Workflow, Names], Found],
) -> Callable[Concatenate[Workflow, Names], Found]:
    """Compute once and keep the result with the workflow, so that it is freed together with the workflow."""

    @wraps(compute)
    def look(workflow: Workflow, *names: Names.args, **_: Names.kwargs) -> Found:
        place: tuple[Any, ...] = (compute, *names)
        found = workflow.shape.get(place)
        if found is None:
            found = workflow.shape[place] = compute(workflow, *names, **_)
        return cast(Found, found)

    return cast(Callable[Concatenate[Workflow, Names], Found], look)


def clauses_targets(task: Task) -> Iterable[str]:
    """Yield the tasks that any clause or branch of this task names, with repetition."""
    clauses = (task.on_success, task.on_error, task.on_complete, task.on_skip)
    for transitions in (*(clause.next for clause in clauses), *(branch.next for branch in task.branches)):
        for transition in transitions:
            if transition.command is None:
                yield transition.target


@_kept
def outbound_joins(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """Return for each task the joins that its clauses name."""
    return {
        name: tuple(dict.fromkeys(target for target in clauses_targets(task) if workflow.tasks[target].has_join))
        for name, task in workflow.tasks.items()
    }


@_kept
def outbound_tasks(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """Return for each task all tasks that its clauses name, each once, in their order."""
    return {name: tuple(dict.fromkeys(clauses_targets(task))) for name, task in workflow.tasks.items()}


@_kept
def joins_ahead(workflow: Workflow, name: str) -> tuple[str, ...]:
    """Return the joins that the task's clauses lead to, directly or not."""
    onward = outbound_tasks(workflow)
    found: dict[str, None] = {}
    ahead = [name]
    while ahead:
        for target in onward[ahead.pop()]:
            if target not in found:
                found[target] = None
                ahead.append(target)
    return tuple(target for target in found if workflow.tasks[target].has_join)


@_kept
def dependants(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """Return for each task of a reverse workflow those that require it."""
    found: dict[str, list[str]] = {name: [] for name in workflow.tasks}
    for name, task in workflow.tasks.items():
        for required in task.requires:
            found[required].append(name)
    return {name: tuple(names) for name, names in found.items()}


@_kept
def needed_for(workflow: Workflow, target: str) -> frozenset[str]:
    """Return the target and everything that it requires in a reverse workflow, directly or not."""
    needed: set[str] = set()
    open_names = [target]
    while open_names:
        name = open_names.pop()
        if name not in needed:
            needed.add(name)
            open_names.extend(workflow.tasks[name].requires)
    return frozenset(needed)


@_kept
def checkpoints(workflow: Workflow) -> dict[str, str]:
    """Return the checkpoints of the workflow, in the order of the definition, each with its task."""
    return {task.checkpoint.name: name for name, task in workflow.tasks.items() if task.checkpoint is not None}


class Phase(Enum):
    """How far a task execution has come, as far as it matters for the checkpoints that it can still reach."""

    TO_BEGIN = "to begin"
    BEGUN = "begun"
    """It has begun, and has not reached its checkpoint."""
    ENDED = "ended"
    """It has reached its checkpoint, or will not reach it: only what follows it can be reached."""


def checkpoints_ahead(workflow: Workflow, open_tasks: Iterable[tuple[str, Phase]]) -> tuple[str, ...]:
    """Return the checkpoints to which something that is open leads by the definition, in the order of the definition.

    `open_tasks`: the names of the task executions that have not ended or whose transitions are not evaluated.
    """
    found: set[str] = set()
    ahead: list[str] = []
    for name, phase in open_tasks:
        checkpoint = workflow.tasks[name].checkpoint
        is_before = checkpoint is not None and checkpoint.place is CheckpointPlace.BEFORE
        if checkpoint is not None and (phase is Phase.TO_BEGIN or (phase is Phase.BEGUN and not is_before)):
            found.add(checkpoint.name)
        ahead.append(name)
    onward: Mapping[str, Collection[str]] = dependants(workflow) if workflow.reverse else outbound_tasks(workflow)
    followed: set[str] = set()
    while ahead:
        for name in onward[ahead.pop()]:
            if name not in followed:
                followed.add(name)
                ahead.append(name)
    found.update(each.name for name in followed if (each := workflow.tasks[name].checkpoint) is not None)
    return tuple(name for name in checkpoints(workflow) if name in found)
