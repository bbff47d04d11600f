"""What an executor has of an engine that has ended: the answer to an InventoryRequest
(dalsegno/README.md#executors)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import Work
from dalsegno.engine.executors.sessions import Delivery, delivery_of, handed_to, lose, still_counts
from dalsegno.store.records import HeldAttempt

_log = logging.getLogger(__name__)


class TakeInventory(Work):
    """Loses what an engine that has ended handed out and the executor never received. The rest goes on with it."""

    __slots__ = (
        "_done",
        "_engine_id",
        "_executor_id",
        "_held",
        "_in_flight",
        "_lost",
        "_own",
        "_session_id",
        "superseded",
    )

    def __init__(
        self,
        session_id: str,
        executor_id: str,
        engine_id: str,
        in_flight: frozenset[Delivery],
        done: Callable[[TakeInventory], None],
    ) -> None:
        """`in_flight`: all that the executor has, also of other engines."""
        self.superseded: list[Delivery] = []
        """What the executor has and nobody waits for any more."""
        self._session_id = session_id
        self._executor_id = executor_id
        self._engine_id = engine_id
        self._in_flight = in_flight
        self._done = done
        self._held: list[HeldAttempt] = []
        self._lost = 0
        self._own: frozenset[Delivery] = frozenset()
        """What the store does not say that its session has, and was handed to it before."""

    def needs(self, batch: Batch) -> Collection[str]:
        self._held = batch.transaction.held_attempts([self._session_id])
        self._own = handed_to(batch, self._unknown(), {self._session_id})
        return {execution_id for execution_id, _, _ in self._own}

    def carry_out(self, batch: Batch) -> None:
        rows = batch.transaction.queries.engines()
        is_of_it = {row.number for row in rows.values() if row.ended and row.id == self._engine_id}
        if not self._engine_id:  # its row is gone
            is_of_it |= {held.engine for held in self._held if held.engine not in rows}
        lost = [held for held in self._held if held.engine in is_of_it and delivery_of(held) not in self._in_flight]
        for held in lost:
            lose(batch, held, self._executor_id, received=False)
        self._lost = len(lost)
        counting = {each for each in self._own if still_counts(batch, each)}
        self.superseded = sorted(self._unknown() - counting)

    def done(self) -> None:
        facts = (self._executor_id, len(self._in_flight), self._engine_id, self._lost)
        _log.info("executor %s has %d deliveries; of engine %s, which has ended, it never received %d", *facts)
        self._done(self)

    def _unknown(self) -> frozenset[Delivery]:
        """Return what the executor has, and the store does not say that its session has."""
        return self._in_flight - {delivery_of(held) for held in self._held}
