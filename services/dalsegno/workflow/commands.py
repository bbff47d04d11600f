"""What must be done after the changes are stored. There is no RunAction: a READY attempt is the command to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import Event
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.value import Value


@dataclass(frozen=True, slots=True)
class CancelAction:
    """Tell the session of the executor that this delivery is not needed any more."""

    key: AttemptKey
    delivery: int
    session_id: str


@dataclass(frozen=True, slots=True)
class CreateChild:
    """Insert a child execution, IDLE, and send it its StartRequested."""

    creation: ExecutionCreated


@dataclass(frozen=True, slots=True)
class Send:
    """Send an event to an execution: now, or (to itself) at `due_s`, in seconds since 1970."""

    to: str
    event: Event
    due_s: float | None = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Post the payload to a web address (notices.py). `id` identifies the notice, however often it is sent."""

    id: str
    url: str
    headers: Mapping[str, str]
    payload: Value


AnyCommand = CancelAction | CreateChild | Send | Notify
