"""What one batch has decided about an execution, the journals with it, and the names of the events that it steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dalsegno.engine.batches.cache import Copy
from dalsegno.engine.batches.claims import Claims, Recorded
from dalsegno.store.records import JournalEntry
from dalsegno.store.store import Transaction
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


class Journals:
    """The journals of executions as the store has them, with what this batch has made.

    A class of its own, so that nothing in a batch refers to the batch: what it holds, megabytes at times, is freed with
    the last reference to it and need not wait until cycles are looked for.
    """

    def __init__(self, transaction: Transaction, claims: Claims, staged: Mapping[str, StagedExecution]) -> None:
        self._transaction, self._claims, self._staged = transaction, claims, staged

    def after(self, execution_id: str, revision: int, until: int | None = None) -> list[Recorded]:
        """Return the changes of an execution after this revision, up to the one with the number `until`. What is
        discarded is not among them."""
        staged = self._staged.get(execution_id)
        made = staged.changes if staged is not None else []
        before = self._stored_revision(execution_id)
        stored = self._transaction.changes_after(execution_id, revision, until) if revision < before else []
        return [*stored, *made[max(0, revision - before) : None if until is None else max(0, until - before)]]

    def until(self, execution_id: str, until: int) -> list[Recorded]:
        """Return the whole journal of an execution up to the change with this number."""
        staged = self._staged.get(execution_id)
        if staged is None or staged.discarded is None:
            return self.after(execution_id, 0, until)
        discarded = staged.discarded
        return [discarded.consolidated, *self.after(execution_id, discarded.sequence, until)]

    def _stored_revision(self, execution_id: str) -> int:
        """Return the revision of an execution before this batch."""
        staged = self._staged.get(execution_id)
        if execution_id in self._claims.revisions or staged is None:
            return self._claims.revisions.get(execution_id, 0)
        return staged.copy.execution.created.sequence - 1
