"""How an execution keeps what tasks publish, and whether there is a secret in it. Part of `apply`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    ContextEdited,
    EnvironmentChanged,
    ExecutionCreated,
    GlobalsPublished,
    Published,
)
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.secrets import carries_secret
from dalsegno.workflow.value import Value


class Publications(Protocol):
    """What these functions read of an execution, and alter."""

    revision: int
    tasks: dict[int, TaskExecution]


def publish(execution: Publications, change: Published) -> None:
    """Replace what the task has published, for one of its branches or all."""
    task = execution.tasks[change.task]
    publication = task.publication
    if change.branch < 0:
        publication.values = dict(change.values)
    else:
        publication.values.update(change.values)
        publication.branches = publication.branches or {}
        publication.branches[change.branch] = (execution.revision, change.values)
    task.context_out, publication.unedited = None, None
    if publication.edits:
        publication.edits = [
            (number, {name: value for name, value in edited.items() if name not in change.values})
            for number, edited in publication.edits
        ]
    task.branch_contexts.pop(change.branch, None)


VALUES: Mapping[type, Callable[[Any], Iterable[Value | None]]] = {
    ExecutionCreated: lambda change: (change.input, change.params, change.environment),
    GlobalsPublished: lambda change: change.values.values(),
    Published: lambda change: change.values.values(),
    ContextEdited: lambda change: change.values.values(),
    EnvironmentChanged: lambda change: (change.environment,),
    AttemptAdded: lambda change: (change.input,),
    AttemptMoved: lambda change: (change.result,),
}
"""The values of changes that expressions may read later, or that are searched for in reports."""


def has_secret(change: object) -> bool:
    """Return whether the execution holds a secret because of this change."""
    values = VALUES.get(type(change))
    return values is not None and any(map(carries_secret, values(change)))
