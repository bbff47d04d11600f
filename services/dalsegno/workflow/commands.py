"""What must now be done, once the changes are stored. RunAction needs no command: it is the READY attempt itself."""

from __future__ import annotations

from dataclasses import dataclass

from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import Event
from dalsegno.workflow.identity import AttemptKey


@dataclass(frozen=True, slots=True)
class CancelAction:
    """Tell the executor's session that nobody waits for this delivery any more."""

    key: AttemptKey
    delivery: int
    session_id: str


@dataclass(frozen=True, slots=True)
class CreateChild:
    """Insert a child execution, IDLE, and send it its StartRequested."""

    creation: ExecutionCreated


@dataclass(frozen=True, slots=True)
class Send:
    """Tell an execution something: now, or (to itself) at `due_s`, in seconds since 1970."""

    to: str
    event: Event
    due_s: float | None = None


AnyCommand = CancelAction | CreateChild | Send
