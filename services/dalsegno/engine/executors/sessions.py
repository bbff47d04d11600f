"""Sessions of executors and their leases: which session has which attempts, and what happens to them when it ends.

A lease belongs to the session: one row, which every engine that hears the executor renews
(dalsegno/README.md#executors).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import Work
from dalsegno.engine.metrics import LEASES_LOST
from dalsegno.store.descriptions import digest_of
from dalsegno.store.records import DescriptionRow, HeldAttempt, SessionRow
from dalsegno.workflow.events import DeliveryLost
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.refusals import PermissionDenied, SupersededSession
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState

Delivery = tuple[str, AttemptKey, int]
"""An execution, an attempt of it, and a delivery of the attempt."""

SWEEP_LIMIT = 1_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Greeting:
    """The contents of an executor's Hello."""

    executor_id: str
    session_id: str
    descriptions: Mapping[str, str]
    """The descriptions of the actions that it serves, by name, as stored."""
    slots: int
    labels: Mapping[str, str]
    in_flight: frozenset[Delivery] = field(default_factory=frozenset)
    peer: str = ""
    """The address of its origin, as gRPC writes it."""
    answers_inventory: bool = False
    """Whether it answers what it has of an engine that has ended. Otherwise its Hello tells that."""
    principal: str = ""
    """The name of the caller that says it; empty: the engine asks for no token."""


class OpenSession(Work):
    """Opens or continues a session. Loses what the executor no longer has, and finds what it need not continue.

    The Hello tells of its own stream, and of what older versions have handed out. If the executor answers no
    Inventory, it also tells of its streams to engines that have ended.
    """

    __slots__ = (
        "_answer",
        "_connected_s",
        "_engine",
        "_greeting",
        "_held",
        "_lease_s",
        "_own",
        "ended",
        "gone",
        "session",
        "superseded",
    )

    def __init__(
        self,
        greeting: Greeting,
        engine_id: str,
        lease_s: float,
        answer: Callable[[OpenSession, BaseException | None], None],
        engine: int = 0,
    ) -> None:
        """`engine`: the number of this engine."""
        self._engine = engine
        self.gone: dict[int, str] = {}
        """The engines that have ended and of which the session has deliveries, by number, with their ids."""
        self.superseded: list[Delivery] = []
        """Deliveries that the executor still has and that no longer count."""
        self.ended: list[str] = []
        """Older sessions of the executor, which are ended now."""
        self.session = SessionRow(
            session_id=greeting.session_id,
            executor_id=greeting.executor_id,
            engine_id=engine_id,
            lease_until_s=0.0,
            labels=dict(greeting.labels),
            slots=greeting.slots,
            peer=greeting.peer,
            actions={name: digest_of(text) for name, text in greeting.descriptions.items()},
            principal=greeting.principal,
        )
        self._greeting = greeting
        self._lease_s = lease_s
        self._answer = answer
        self._held: list[HeldAttempt] = []
        self._own: frozenset[Delivery] = frozenset()
        """Those deliveries of the Hello that were handed to this executor. The others do not count."""
        self._connected_s = 0.0

    def needs(self, batch: Batch) -> Collection[str]:
        greeting = self._greeting
        known = batch.transaction.sessions_of(greeting.executor_id)
        others = [row for row in known if row.session_id != greeting.session_id]
        before = batch.transaction.session(greeting.session_id)
        check_principal(self.session, known if before is None or before.ended else [*known, before])
        self._connected_s = before.connected_s if before is not None else 0.0
        if before is not None and before.ended and others:
            raise superseded_by(others[-1])
        self.ended = [row.session_id for row in others]
        self._held = batch.transaction.held_attempts([greeting.session_id, *self.ended])
        own = [held for held in self._held if held.session_id == greeting.session_id]
        self.gone = gone_engines(batch, own, self._engine).get(greeting.session_id, {})
        self._own = handed_to(batch, greeting.in_flight, {greeting.session_id, *self.ended})
        return {delivery[0] for delivery in self._own}

    def carry_out(self, batch: Batch) -> None:
        greeting = self._greeting
        self._replace_opened(batch)
        if self.ended:
            batch.end_sessions(self.ended)
        kept = batch.held[greeting.session_id] = []
        told = {0, self._engine} if greeting.answers_inventory else {0, self._engine, *self.gone}
        for held in self._held:
            if held.session_id != greeting.session_id:
                lose(batch, held, greeting.executor_id, received=True)
            elif held.engine in told and delivery_of(held) not in greeting.in_flight:
                lose(batch, held, greeting.executor_id, received=False)
            else:
                kept.append((held.execution_id, held.key))
        counting = {each for each in self._own if still_counts(batch, each)}
        self.superseded = sorted(greeting.in_flight - counting)
        self._describe(batch)
        row = replace(self.session, lease_until_s=batch.at_s + self._lease_s, heard_s=batch.at_s)
        batch.sessions.save(replace(row, connected_s=self._connected_s or batch.at_s))

    def _replace_opened(self, batch: Batch) -> None:
        """Also end the executor's sessions that this batch has opened before this one. Raises SupersededSession if such
        a session has ended this one, and PermissionDenied if another caller has opened one."""
        check_principal(self.session, batch.sessions.opened(self.session.executor_id, self.session.session_id))
        opened = [
            row for row in batch.sessions.opened(self.session.executor_id) if row.session_id != self.session.session_id
        ]
        if opened and batch.sessions.has_ended(self.session.session_id):
            raise superseded_by(opened[-1])
        self.ended += [row.session_id for row in opened if row.session_id not in self.ended]

    def _describe(self, batch: Batch) -> None:
        """Store new descriptions of actions.

        A description becomes that of the action when it is new, or when nobody serves the action with the present one
        any more.
        """
        served, queries = self.session.actions, batch.transaction.queries
        own = batch.lookups.described(queries)
        others = {name: text for name, text in self._greeting.descriptions.items() if own.get(name) != text}
        if others:
            known = {row.digest for row in queries.descriptions(others)}
            rows = [DescriptionRow(served[name], name, text, batch.at_s) for name, text in others.items()]
            batch.transaction.save_descriptions([row for row in rows if row.digest not in known])
            served_now = {digest for each in queries.sessions() for digest in each.actions.values()}
            gone = {name for name in others if digest_of(own.get(name, "")) not in served_now}
            batch.transaction.save_actions(
                {row.name: row.description for row in rows if row.digest not in known or row.name in gone}
            )
        batch.defined = True  # the executors of its actions have changed

    def done(self) -> None:
        self._answer(self, self.refusal)

    def failed(self, error: BaseException) -> None:
        self._answer(self, error)


def superseded_by(newer: SessionRow) -> SupersededSession:
    """Return the refusal for a session that a newer session of its executor has replaced."""
    origin = newer.peer or "elsewhere"
    return SupersededSession(
        f"a newer session of executor {newer.executor_id!r}, from {origin}, has taken this one's place"
    )


def check_principal(session: SessionRow, known: Iterable[SessionRow]) -> None:
    """Raise PermissionDenied if another caller has opened one of these sessions, which have not ended."""
    for row in known:
        if is_of_another(row, session.principal):
            _log.warning(
                "executor %s of %r is refused: %r has its session %s",
                *(session.executor_id, session.principal, row.principal, row.session_id),
            )
            raise PermissionDenied(
                f"executor {session.executor_id!r} or session {session.session_id} belongs to another caller than"
                f" {session.principal!r} until that session has ended: take another executor id, or show a token of the"
                " same name as before"
            )


def is_of_another(session: SessionRow, principal: str) -> bool:
    """Return whether another caller has opened a session. One that was opened without a token is nobody's."""
    return bool(principal and session.principal and session.principal != principal)


def handed_to(batch: Batch, deliveries: Collection[Delivery], sessions: Collection[str]) -> frozenset[Delivery]:
    """Return those of these deliveries whose attempts were last handed to one of these sessions.

    An executor names what it has: so nothing of executions in which it has no part is claimed, loaded or told.
    """
    if not deliveries:
        return frozenset()
    rows = batch.transaction.queries.attempts_of({(execution_id, key) for execution_id, key, _ in deliveries})
    places = {(row.execution_id, row.key) for row in rows if row.session_id in sessions}
    return frozenset(each for each in deliveries if each[:2] in places)


def gone_engines(batch: Batch, held: Collection[HeldAttempt], own: int) -> dict[str, dict[int, str]]:
    """Return, for each session, the engines that have ended and of which it has any of these, by number, with their
    ids. `own`: the number of this engine."""
    others = {(each.session_id, each.engine) for each in held if each.engine not in (0, own)}
    if not others:
        return {}
    rows = batch.transaction.queries.engines()
    found: dict[str, dict[int, str]] = {}
    for session_id, number in sorted(others):
        row = rows.get(number)
        if row is None or row.ended:
            found.setdefault(session_id, {})[number] = "" if row is None else row.id
    return found


def delivery_of(held: HeldAttempt) -> Delivery:
    """Return the delivery of an attempt that a session has."""
    return held.execution_id, held.key, held.delivery


def still_counts(batch: Batch, delivery: Delivery) -> bool:
    """Return whether an answer to this delivery of a claimed execution is still awaited."""
    execution_id, key, number = delivery
    if execution_id in batch.deaths:
        return True  # it is only stepped in a batch of its own; a report that comes too late is superseded then
    execution = batch.look_at(execution_id)
    attempt = execution.attempts.get(key) if execution is not None else None
    if attempt is None or attempt.delivery != number or attempt.state is AttemptState.READY:
        return False
    return attempt.state not in COMPLETED_ATTEMPT


def lose(batch: Batch, held: HeldAttempt, executor_id: str, *, received: bool) -> None:
    """Report an attempt of a session lost: it is handed out again, or fails (dalsegno/README.md#executors).

    Each execution gets an event of its own, so that no session waits for the expressions of any execution.
    """
    lost = DeliveryLost(key=held.key, delivery=held.delivery, executor_id=executor_id, received=received)
    batch.send(held.execution_id, lost)


class TakeBack(Work):
    """Withdraws what a batch has handed out when it is unknown whether its commit happened. If it did, nothing was
    sent."""

    __slots__ = ("_executor_id", "_session_id", "_unsent")

    def __init__(self, session_id: str, executor_id: str, unsent: Collection[Delivery]) -> None:
        self._session_id = session_id
        self._executor_id = executor_id
        self._unsent = unsent

    def needs(self, batch: Batch) -> Collection[str]:
        return {execution_id for execution_id, _, _ in self._unsent}

    def carry_out(self, batch: Batch) -> None:
        for execution_id, key, delivery in self._unsent:
            execution = batch.look_at(execution_id)
            attempt = execution.attempts.get(key) if execution is not None else None
            # The session may have an earlier delivery of it. Then the one in doubt was not stored.
            named = self._session_id, delivery, batch.engine
            if attempt is not None and (attempt.session_id, attempt.delivery, attempt.engine) == named:
                held = HeldAttempt(execution_id, key, delivery, self._session_id)
                lose(batch, held, self._executor_id, received=False)


class CloseSession(Work):
    """Ends the session of an executor that leaves and returns its attempts."""

    __slots__ = ("_executor_id", "_held", "_session_id")

    def __init__(self, session_id: str, executor_id: str) -> None:
        self._session_id = session_id
        self._executor_id = executor_id
        self._held: list[HeldAttempt] = []

    def needs(self, batch: Batch) -> Collection[str]:
        self._held = batch.transaction.held_attempts([self._session_id])
        return ()

    def carry_out(self, batch: Batch) -> None:
        for held in self._held:
            lose(batch, held, self._executor_id, received=True)
        batch.end_sessions([self._session_id])


class Connected(Protocol):
    """What KeepLeases must know of the connected executors."""

    def take_heard(self) -> set[str]:
        """Return the sessions that were heard since the last call. Called from the conductor's thread."""
        ...

    def connected(self) -> dict[str, str]:
        """Return the sessions with a stream here, with their executors. Called from the conductor's thread."""
        ...

    def sessions_ended(self, session_ids: Collection[str]) -> None:
        """End the streams of these sessions. Called on the event loop."""
        ...

    def session_superseded(self, session_id: str, newer: SessionRow) -> None:
        """End the stream of a session that a newer session of its executor, at another engine, has ended. Called on the
        event loop."""
        ...

    def engines_ended(self, session_id: str, gone: Mapping[int, str]) -> None:
        """Find out what a session has of these engines, by number, with their ids. Called on the event loop."""
        ...


class KeepLeases(Work):
    """Renews the leases of executors that were heard, and ends those of executors that were not."""

    __slots__ = (
        "_ended",
        "_engine",
        "_executors",
        "_gone",
        "_heard",
        "_held",
        "_is_shared",
        "_lease_s",
        "_lost",
        "_may_end",
        "_newer",
        "_sweep",
    )

    def __init__(
        self,
        executors: Connected,
        lease_s: float,
        may_end: Callable[[], bool],
        *,
        sweep: bool = False,
        is_shared: bool = False,
        engine: int = 0,
    ) -> None:
        """`may_end`: whether leases may end at all now. `sweep`: also look for attempts without a session. `is_shared`:
        whether other engines hand out too, so that the attempts of the sessions must be read. `engine`: the number of
        this engine."""
        self._is_shared = is_shared
        self._engine = engine
        self._gone: dict[str, dict[int, str]] = {}
        """The engines that have ended and of which sessions have deliveries."""
        self._executors = executors
        self._lease_s = lease_s
        self._may_end = may_end
        self._sweep = sweep
        self._heard: set[str] = set()
        self._lost: list[SessionRow] = []
        """Sessions whose lease ends now."""
        self._ended: dict[str, str] = {}
        """Sessions with a stream here that another engine has ended, and their executors."""
        self._newer: dict[str, SessionRow] = {}
        """Those of them that newer sessions of their executors have replaced, with the newer ones."""
        self._held: list[HeldAttempt] = []

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> Collection[str]:
        transaction = batch.transaction
        self._heard |= self._executors.take_heard()
        if self._heard:
            batch.sessions.renew(self._heard, batch.at_s, batch.at_s + self._lease_s)
        connected = self._executors.connected()
        if connected and self._is_shared:
            held = transaction.held_attempts(connected)
            batch.held.update({each: [] for each in connected})
            for each in held:
                batch.held[each.session_id].append((each.execution_id, each.key))
            self._gone = gone_engines(batch, held, self._engine)
        may_end = self._may_end()
        alive = transaction.queries.sessions() if connected or may_end else []
        ids = {row.session_id for row in alive}
        self._ended = {each: name for each, name in connected.items() if each not in ids}
        self._newer = {each: row for each, name in self._ended.items() for row in alive if row.executor_id == name}
        over = [row for row in alive if row.lease_until_s <= batch.at_s] if may_end else []
        self._lost = [row for row in over if row.session_id not in self._heard]
        gone = [*(row.session_id for row in self._lost), *self._ended]
        self._held = transaction.held_attempts(gone) if gone else []
        if self._sweep and may_end:
            self._held += transaction.abandoned_attempts(SWEEP_LIMIT)
        return ()

    def carry_out(self, batch: Batch) -> None:
        # The executors of sessions that this batch has opened have said Hello, and have told what they have.
        opened = batch.sessions.has_opened
        self._lost = [row for row in self._lost if not opened(row.session_id)]
        self._ended = {each: name for each, name in self._ended.items() if not opened(each)}
        self._newer = {each: row for each, row in self._newer.items() if each in self._ended}
        names = {row.session_id: row.executor_id for row in self._lost} | self._ended
        if names:
            batch.end_sessions(names)
        for held in self._held:
            if not opened(held.session_id):
                name = names.get(held.session_id) or f"of session {held.session_id}"
                lose(batch, held, name, received=True)

    def done(self) -> None:
        for row in self._lost:
            LEASES_LOST.inc()
            count = sum(held.session_id == row.session_id for held in self._held)
            _log.warning(
                "executor %s is lost: the lease of session %s has ended, with %d actions",
                *(row.executor_id, row.session_id, count),
            )
        for session_id, engines in self._gone.items():
            self._executors.engines_ended(session_id, engines)
        for session_id, newer in self._newer.items():
            self._executors.session_superseded(session_id, newer)
        gone = [*(row.session_id for row in self._lost), *(self._ended.keys() - self._newer.keys())]
        if gone:
            self._executors.sessions_ended(gone)
