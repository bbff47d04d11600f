"""What an executor may do by the patterns of its token: which actions it serves, and of which it reports outcomes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from dalsegno.access.callers import current
from dalsegno.access.grants import Role
from dalsegno.engine.executors.reports import read_place
from dalsegno.store.store import Queries
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.refusals import PermissionDenied

SHOWN_MAX = 10
"""The number of actions that a refusal names at most."""

NOT_PERMITTED = "the token of this executor has no role for this action"

Place = tuple[str, AttemptKey]
Read = Callable[[Callable[[Queries], Any]], Awaitable[Any]]
"""Reads the store. Raises Unavailable."""


def check_may_serve(actions: Iterable[str]) -> None:
    """Raise PermissionDenied unless the caller may serve all these actions."""
    caller = current.get()
    if lacking := sorted(caller.lacking(Role.EXECUTOR, actions)):
        more = f" and {len(lacking) - SHOWN_MAX} more" if len(lacking) > SHOWN_MAX else ""
        raise PermissionDenied(
            f"{caller.name!r} lacks the role {Role.EXECUTOR} for the actions {', '.join(lacking[:SHOWN_MAX])}{more};"
            f" {caller.advice}"
        )


async def find_not_permitted(outcomes: Collection[wire.TaskDone], read: Read) -> frozenset[Place]:
    """Return the places of those outcomes whose actions the caller may not serve: another executor has them.

    It reads the store, unless the caller may serve all actions. Raises Unavailable.
    """
    caller = current.get()
    if caller.has_everywhere(Role.EXECUTOR):
        return frozenset()
    places = [place for each in outcomes if (place := read_place(each)) is not None]
    rows = await read(lambda queries: queries.attempts_of(places))
    return frozenset((row.execution_id, row.key) for row in rows if not caller.has(Role.EXECUTOR, row.action))
