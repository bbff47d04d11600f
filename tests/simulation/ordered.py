"""The store in memory, which answers in an order that no hash decides: a seed gives the same in every process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from dalsegno.store.discards import Removal
from dalsegno.store.memory import MemoryStore, MemoryTransaction
from dalsegno.store.records import Claimed, Saved
from dalsegno.store.snapshot import Tables


class OrderedStore(MemoryStore):
    """See MemoryStore."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.kinds: Counter[str] = Counter()
        """How often each kind of change was stored."""
        self.events: Counter[str] = Counter()
        """How often each kind of event was stored."""

    @contextmanager
    def _transaction(self) -> Iterator[MemoryTransaction]:
        with self._writing:
            transaction = OrderedTransaction(self._tables, self._clock)
            yield transaction
            self._tables = transaction.tables
            for saved in transaction.saved:
                self.kinds.update(type(change).__name__ for change in saved.changes)
                self.events.update(entry.event for entry in saved.entries)


class OrderedTransaction(MemoryTransaction):
    """See MemoryTransaction."""

    def __init__(self, tables: Tables, clock: Callable[[], float]) -> None:
        super().__init__(tables, clock)
        self.saved: list[Saved] = []

    def save_all(self, batch: Sequence[Saved], busy: Collection[str] = (), keeper: int = 0) -> dict[str, Removal]:
        self.saved += batch
        return super().save_all(batch, busy, keeper)

    def claim(self, execution_ids: Collection[str]) -> dict[str, Claimed]:
        return super().claim(sorted(execution_ids))
