"""How an execution keeps what tasks publish, and whether there is a secret in it. Part of `apply`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
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


def _has_secret(values: Iterable[Value]) -> bool:
    return any(map(carries_secret, values))


HOLDS_SECRET: Mapping[type, Callable[[Any], bool]] = {
    ExecutionCreated: lambda change: _has_secret((change.input, change.params, change.environment)),
    GlobalsPublished: lambda change: _has_secret(change.values.values()),
    Published: lambda change: _has_secret(change.values.values()),
    ContextEdited: lambda change: _has_secret(change.values.values()),
    EnvironmentChanged: lambda change: carries_secret(change.environment),
    AttemptsBegun: lambda change: change.items is not None and carries_secret(change.items),
    AttemptAdded: lambda change: carries_secret(change.input),
    AttemptMoved: lambda change: change.result is not None and carries_secret(change.result),
}
"""Whether an execution holds a secret because of a change: expressions may read it, or a report is searched for it."""
