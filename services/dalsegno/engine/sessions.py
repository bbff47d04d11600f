"""Sessions of executors and their leases: who has which work, and what becomes of it when they are gone.

A lease belongs to the session: one row, renewed by whichever engine hears the executor (DESIGN.md section 5).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from dalsegno.engine.batch import Batch
from dalsegno.engine.metrics import LEASES_LOST
from dalsegno.engine.work import Work
from dalsegno.store.records import HeldAttempt, SessionRow
from dalsegno.workflow.events import DeliveryLost
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState

Delivery = tuple[str, AttemptKey, int]
"""An execution, an attempt of it and a delivery of that."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What an executor's Hello says."""

    executor_id: str
    session_id: str
    descriptions: Mapping[str, str]
    """What it serves: name to the description as the store keeps it."""
    slots: int
    labels: Mapping[str, str]
    in_flight: frozenset[Delivery] = field(default_factory=frozenset)


class OpenSession(Work):
    """An executor has come, or come back: its session, what it no longer has, and what it need not go on with."""

    __slots__ = ("_answer", "_engine_id", "_greeting", "_held", "_lease_s", "_others", "ended", "superseded")

    def __init__(
        self,
        greeting: Greeting,
        engine_id: str,
        lease_s: float,
        answer: Callable[[OpenSession, BaseException | None], None],
    ) -> None:
        self.refusal = None
        self.superseded: list[Delivery] = []
        """Deliveries that the executor still has and that no longer count."""
        self.ended: list[str] = []
        """Older sessions of the executor, now ended."""
        self._greeting = greeting
        self._engine_id = engine_id
        self._lease_s = lease_s
        self._answer = answer
        self._held: list[HeldAttempt] = []

    def needs(self, batch: Batch) -> Collection[str]:
        greeting = self._greeting
        known = batch.transaction.sessions_of(greeting.executor_id)
        self.ended = [row.session_id for row in known if row.session_id != greeting.session_id]
        self._held = batch.transaction.held_attempts([greeting.session_id, *self.ended])
        return {held.execution_id for held in self._held} | {delivery[0] for delivery in greeting.in_flight}

    def carry_out(self, batch: Batch) -> None:
        greeting = self._greeting
        if self.ended:
            batch.end_sessions(self.ended)
        for held in self._held:
            is_own = held.session_id == greeting.session_id
            if not is_own or (held.execution_id, held.key, held.delivery) not in greeting.in_flight:
                lose(batch, held, greeting.executor_id, received=not is_own)
        self.superseded = [each for each in greeting.in_flight if not _counts(batch, each)]
        known = batch.lookups.described(batch.transaction.queries)
        news = {name: text for name, text in greeting.descriptions.items() if known.get(name) != text}
        if news:
            batch.transaction.save_actions(news)
            batch.defined = True
        batch.transaction.save_session(
            SessionRow(
                session_id=greeting.session_id,
                executor_id=greeting.executor_id,
                engine_id=self._engine_id,
                lease_until_s=batch.at_s + self._lease_s,
                labels=dict(greeting.labels),
                slots=greeting.slots,
            )
        )

    def done(self) -> None:
        self._answer(self, self.refusal)

    def failed(self, error: BaseException) -> None:
        self._answer(self, error)


def _counts(batch: Batch, delivery: Delivery) -> bool:
    execution_id, key, number = delivery
    if not batch.exists(execution_id):
        return False
    attempt = batch.open(execution_id).copy.execution.attempts.get(key)
    if attempt is None or attempt.delivery != number or attempt.state is AttemptState.READY:
        return False
    return attempt.state not in COMPLETED_ATTEMPT


def lose(batch: Batch, held: HeldAttempt, executor_id: str, *, received: bool) -> None:
    """What a session had is handed out again, or fails (DESIGN.md section 5)."""
    if batch.exists(held.execution_id):
        lost = DeliveryLost(key=held.key, delivery=held.delivery, executor_id=executor_id, received=received)
        batch.step(held.execution_id, lost)


class CloseSession(Work):
    """An executor goes and gives back what it has."""

    __slots__ = ("_executor_id", "_held", "_session_id")

    def __init__(self, session_id: str, executor_id: str) -> None:
        self.refusal = None
        self._session_id = session_id
        self._executor_id = executor_id
        self._held: list[HeldAttempt] = []

    def needs(self, batch: Batch) -> Collection[str]:
        self._held = batch.transaction.held_attempts([self._session_id])
        return {held.execution_id for held in self._held}

    def carry_out(self, batch: Batch) -> None:
        for held in self._held:
            lose(batch, held, self._executor_id, received=True)
        batch.end_sessions([self._session_id])


class KeepLeases(Work):
    """Renew the leases of executors that were heard, and end those of executors that were not.

    `open_sessions` are those with a stream here, and their executors. An engine that has just started, or could not
    write, lets no lease end before `may_end_after_s`, so that executors have one full lease time to renew.
    """

    __slots__ = ("_answer", "_heard", "_held", "_lease_s", "_may_end_after_s", "_open", "ended", "lost")

    def __init__(
        self,
        heard: Collection[str],
        open_sessions: Mapping[str, str],
        lease_s: float,
        may_end_after_s: float,
        answer: Callable[[KeepLeases], None],
    ) -> None:
        self.refusal = None
        self.lost: list[SessionRow] = []
        """Sessions whose lease has ended now."""
        self.ended: list[str] = []
        """Sessions with a stream here that another engine has ended."""
        self._heard = list(heard)
        self._open = dict(open_sessions)
        self._lease_s = lease_s
        self._may_end_after_s = may_end_after_s
        self._answer = answer
        self._held: list[HeldAttempt] = []

    def needs(self, batch: Batch) -> Collection[str]:
        transaction = batch.transaction
        if self._heard:
            transaction.renew_sessions(self._heard, batch.at_s + self._lease_s)
        if self._open:
            alive = {row.session_id for row in transaction.queries.sessions()}
            self.ended = [session_id for session_id in self._open if session_id not in alive]
        self.lost, self._held = [], []
        if batch.at_s >= self._may_end_after_s:
            self.lost = transaction.expired_sessions(batch.at_s)
        gone = [row.session_id for row in self.lost] + self.ended
        if gone:
            self._held = transaction.held_attempts(gone)
        return {held.execution_id for held in self._held}

    def carry_out(self, batch: Batch) -> None:
        if self.lost or self.ended:
            batch.end_sessions([*(row.session_id for row in self.lost), *self.ended])
        names = {row.session_id: row.executor_id for row in self.lost}
        for held in self._held:
            lose(batch, held, names.get(held.session_id) or self._open[held.session_id], received=True)

    def done(self) -> None:
        for row in self.lost:
            LEASES_LOST.inc()
            count = sum(held.session_id == row.session_id for held in self._held)
            _log.warning(
                "executor %s is lost: the lease of session %s has ended, with %d actions",
                row.executor_id,
                row.session_id,
                count,
            )
        self._answer(self)
