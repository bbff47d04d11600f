"""What one batch has decided about an execution, and the names of the events that it steps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dalsegno.engine.batches.cache import Copy
from dalsegno.engine.batches.claims import Recorded
from dalsegno.store.records import JournalEntry
from dalsegno.workflow.consolidated import Discarded
from dalsegno.workflow.events import Event


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


EVENT_NAMES: dict[type, str] = {kind: _snake(kind.__name__) for kind in Event.__subclasses__()}
"""The names of the events in the journal."""


@dataclass(slots=True)
class StagedExecution:
    """One execution with what this batch has decided about it."""

    copy: Copy
    changes: list[Recorded] = field(default_factory=list)
    entries: list[JournalEntry] = field(default_factory=list)
    discarded: Discarded | None = None
    """What the newest of the discards among the changes leaves of the past."""
    is_stepped: bool = False
    """Whether an event was stepped, even if it changed nothing."""
