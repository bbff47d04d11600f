"""What one batch has claimed: executions locked for other engines, at which revision, and how they are loaded."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from dalsegno.engine.batches.cache import Copy, ExecutionCache
from dalsegno.engine.batches.step_note import StepNote
from dalsegno.store.journals import WrittenChanges
from dalsegno.store.records import Begun, DefinitionPlace
from dalsegno.store.store import Transaction
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.journal import replay
from dalsegno.workflow.model import MISTRAL_RULES, ORQUESTA_RULES, Workflow

Recorded = AnyChange | Consolidated
"""What a journal has."""

SMALL_REVISION = 1_000
"""Executions with at most so many changes to read are loaded together: their journals by one query, and without the
numbers of changes, which nothing needs here."""

LOADED_TOGETHER = 64
"""How many at most. A batch that takes over hundreds from another engine has time to step some of them only."""

CHANGES_TOGETHER = 2_000
"""How many changes they have at most, together."""

TEXTS_TOGETHER = 1024 * 1024
"""How long their large values are at most, together, in characters. What exceeds it is loaded by itself."""


class Claims:
    """The executions that a transaction has locked, and those that it creates."""

    def __init__(
        self, transaction: Transaction, cache: ExecutionCache, step_note: StepNote, *, last_resort: bool
    ) -> None:
        """`last_resort`: see `load`."""
        self.ids: set[str] = set()
        """All that were asked for or created, whether they exist or not."""
        self.revisions: dict[str, int] = {}
        """The stored revisions of those that existed before the batch."""
        self.deaths: dict[str, int] = {}
        """The number of deaths of those in whose steps engines died."""
        self.loading_s = 0.0
        """How long loading has taken, by the clock: the processor time would be asked by two system calls each time."""
        self._transaction, self._cache, self._step_note = transaction, cache, step_note
        self._last_resort = last_resort
        self._first_sequences: dict[str, int] = {}
        self._read: dict[str, tuple[int, WrittenChanges]] = {}
        """The changes that were read together with those of others and are not applied yet, and after which revision
        they come."""
        self._settled: set[str] = set()
        """The executions that were loaded, or whose changes were read as far as they can be read together."""

    def add(
        self, execution_ids: Collection[str], engine: int = 0, places: Sequence[DefinitionPlace] = ()
    ) -> Begun | None:
        """Lock these executions for other engines until the transaction ends, and before them the row of this engine
        against its end. Return what else is known then; None: no other engine may end this one.

        `engine`: its number; 0: no other engine may end it. `places`: those of definitions to look up.
        """
        self.ids.update(execution_ids)
        begun = self._transaction.claim_for(engine, execution_ids, places) if engine else None
        if begun is not None:
            claimed = begun.claimed
        else:
            claimed = self._transaction.claim(execution_ids) if execution_ids else {}
        for each, row in claimed.items():
            self.revisions[each], self._first_sequences[each] = row.revision, row.first_sequence
            if row.deaths:
                self.deaths[each] = row.deaths
        return begun

    def stepping_s(self) -> float:
        """Return the processor time of this thread without what loading took: to load an execution of another engine
        takes longer than its step, and makes no work slow."""
        return time.thread_time() - self.loading_s

    def load(self, execution_id: str) -> Copy:
        """Return an execution as it is stored: the copy in memory, brought up to date, or a new one.

        As a last resort, it is loaded without its definition and without the copy: they may be what is wrong.
        """
        if not self._last_resort:
            copy = self._cache.find(execution_id, self.revisions[execution_id])
            if copy is not None:
                self._settled.add(execution_id)
                return copy
        began_s = time.perf_counter()
        try:
            return self._load(execution_id)
        finally:
            self._settled.add(execution_id)
            self.loading_s += time.perf_counter() - began_s

    def _load(self, execution_id: str) -> Copy:
        self._step_note.mark(execution_id, "load")
        if not self._last_resort:
            known = self._known(execution_id)
            read = self._read_together(execution_id, known)
            changes = self._transaction.changes_after(execution_id, known) if read is None else read.decoded()
            return self._cache.catch_up(execution_id, known, changes)
        changes = self._transaction.changes_after(execution_id, 0)
        execution = replay(changes)
        created = execution.created
        rules = ORQUESTA_RULES if created.language == "orquesta" else MISTRAL_RULES
        return Copy(execution, Workflow(created.workflow, {}, rules=rules), changes)

    def _known(self, execution_id: str) -> int:
        """Return after which revision its changes are to be read: that of the copy in memory, or 0."""
        return self._cache.known(execution_id, self.revisions[execution_id], self._first_sequences[execution_id])

    def _read_together(self, execution_id: str, known: int) -> WrittenChanges | None:
        """Return the changes of an execution after this revision; None: they are read by themselves. Those of several
        executions of a batch are read by few queries, as when many delegates are completed at once, or when work moves
        from one engine to another."""
        if execution_id not in self._settled and not self.deaths:
            self._read_few(self._next_few(execution_id, known))
        since, read = self._read.pop(execution_id, (known, None))
        return read if since == known else None

    def _read_few(self, known: Mapping[str, int]) -> None:
        """Read the changes of these executions after these revisions."""
        if not known:
            return
        self._settled.update(known)
        # From 0 means from where the journal begins: what comes before that is being removed.
        after = {each: revision or self._first_sequences[each] - 1 for each, revision in known.items()}
        for each, written in self._transaction.written_changes(after, TEXTS_TOGETHER).items():
            self._read[each] = known[each], written

    def _next_few(self, execution_id: str, known: int) -> dict[str, int]:
        """Return the executions to read now, and after which revisions: this one, and others of which the batch may
        need changes. Empty: this one has too many."""
        count = self.revisions[execution_id] - known
        if count > SMALL_REVISION:
            return {}
        few = {execution_id: known}
        for each, revision in self.revisions.items():
            if len(few) >= LOADED_TOGETHER or count >= CHANGES_TOGETHER:
                break
            if each in self._settled or each in few or self._cache.find(each, revision) is not None:
                continue
            since = self._known(each)
            if revision - since <= min(SMALL_REVISION, CHANGES_TOGETHER - count):
                few[each] = since
                count += revision - since
        return few
