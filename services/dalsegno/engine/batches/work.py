"""Works: the conductor carries out each one within a batch and answers it after the commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Self

import msgspec

from dalsegno.workflow.events import (
    CancelRequested,
    ChildMoved,
    DeliveryLost,
    Event,
    ForcedEnd,
    HeartbeatDue,
    NoticeDue,
    Poisoned,
    RemovalDue,
    SliceDue,
    StartRequested,
    TaskDone,
    TimerFired,
    Verdict,
)
from dalsegno.workflow.refusals import NotFound, Refusal
from dalsegno.workflow.scope import Suspended

if TYPE_CHECKING:
    from dalsegno.engine.batches.batch import Batch
    from dalsegno.engine.batches.evaluations import Evaluations
    from dalsegno.workflow.outside import Given


_REPORTS = (StartRequested, TaskDone, TimerFired, HeartbeatDue, SliceDue, ChildMoved, DeliveryLost)
"""The events that belong to the course of an execution. People ask for all other events, of it or of its parent."""


class Work(ABC):
    """One thing to do. All methods but `done`, `failed` and `defer` run in the conductor's thread, perhaps
    repeatedly."""

    __slots__ = ("evaluations", "execution_id", "given", "message_id", "refusal")

    refusal: Refusal | None
    """Why it was refused."""
    evaluations: Evaluations | None
    """The values that it has had evaluated in the pool."""
    execution_id: str
    """The execution that it is about, if it is about one."""
    given: Given | None
    """What its events are stepped with. Chosen when it is carried out for the first time, and kept."""
    message_id: str
    """The id of the stored message that it delivers; empty for none."""

    def __new__(cls, *arguments: object, **named: object) -> Self:
        """Make a work."""
        work = object.__new__(cls)
        work.refusal = work.evaluations = work.given = None
        work.execution_id = work.message_id = ""
        return work

    @property
    def turn(self) -> str:
        """With which other works it shares its turns (turns.py): those of its execution. Empty: it waits for none."""
        return self.execution_id

    @property
    def ends_by_force(self) -> bool:
        """Whether it ends its execution unconditionally. Then it waits for no other work."""
        return False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it. A request whose caller has gone is dropped before it is stored."""
        return True

    @property
    def is_request(self) -> bool:
        """Whether a client waits that can ask again. Then it is refused at once when the store is not available."""
        return False

    @property
    def is_periodic(self) -> bool:
        """Whether it is repeated anyway. Then it is not kept while the store is not available."""
        return False

    @property
    def can_wait(self) -> bool:
        """Whether a batch may leave it to the next one. A work that only removes a message is quick, and need not
        wait. One that is repeated anyway has read what it needs already: those that were left would read it again in
        every batch, until none has time for anything else."""
        return not (self.message_id or self.is_periodic)

    def must_wait(self, batch: Batch) -> bool:
        """Return whether the decisions of the batch must be stored first. If so, the next batch does this work."""
        return False

    def leave(self, batch: Batch) -> None:  # noqa: B027 -- most have no stored message
        """Leave this work to a later batch. What the batch has taken for it stays in the store."""

    def is_slice(self, batch: Batch) -> bool:
        """Return whether it begins a slice of items, or removes one of rows. A batch has one such work."""
        return False

    @property
    def name(self) -> str:
        """Its name in logs and metrics."""
        return type(self).__name__

    @abstractmethod
    def needs(self, batch: Batch) -> Collection[str]:
        """Return the ids of the executions to claim for it. May read the store, nothing else."""

    @abstractmethod
    def carry_out(self, batch: Batch) -> None:
        """Do it. Raises Refusal, and then has changed nothing."""

    def defer(self) -> None:  # noqa: B027 -- many have nobody who waits
        """On the event loop: note that it waits for values and is carried out again when they exist."""

    def done(self) -> None:  # noqa: B027 -- many have nobody to answer
        """On the event loop, after the commit: answer the caller that waits."""

    def failed(self, error: BaseException) -> None:  # noqa: B027 -- many have nobody to tell
        """On the event loop: answer that it could not be done and is not tried again."""


class DeliverEvent(Work):
    """Delivers an event to an execution. Without a reply a refusal is only logged."""

    __slots__ = ("_reply", "event", "verdict")

    def __init__(
        self,
        execution_id: str,
        event: Event | None,
        reply: Callable[[DeliverEvent, BaseException | None], None] | None = None,
        message_id: str = "",
    ) -> None:
        self.execution_id = execution_id
        self.event = event
        """None: the event is that of the stored message."""
        self.verdict: Verdict | None = None
        self._reply = reply
        self.message_id = message_id

    @property
    def ends_by_force(self) -> bool:
        return isinstance(self.event, Poisoned) or (
            isinstance(self.event, CancelRequested) and self.event.terminate is not ForcedEnd.NONE
        )

    @property
    def name(self) -> str:
        return "message" if self.event is None else type(self.event).__name__

    @property
    def can_wait(self) -> bool:
        return True

    def leave(self, batch: Batch) -> None:
        taken = batch.taken.pop(self.message_id, None)
        if taken is not None:
            batch.give_back(self.message_id, self.execution_id, taken)

    def is_slice(self, batch: Batch) -> bool:
        return type(self.event or batch.taken.get(self.message_id)) in (SliceDue, RemovalDue)

    def needs(self, batch: Batch) -> Collection[str]:
        return (self.execution_id,)

    def carry_out(self, batch: Batch) -> None:
        event, taken = self.event, None
        if self.message_id:
            taken = batch.taken.pop(self.message_id, None)
            if taken is None or not batch.exists(self.execution_id):
                self.verdict = Verdict.SUPERSEDED  # another batch has delivered it, or the execution does not exist
                return
            event = taken if event is None else _in_place_of(taken, event)
        assert event is not None
        if not batch.exists(self.execution_id):
            raise NotFound("execution", self.execution_id)
        if isinstance(event, NoticeDue):
            batch.notify(self.execution_id, event)
            return
        if isinstance(event, RemovalDue):
            batch.remove_discarded(self.execution_id)
            return
        if batch.deaths and isinstance(event, _REPORTS) and batch.is_given_up(self.execution_id):
            self.verdict = Verdict.SUPERSEDED  # not stepped: it may be what killed the engines
            return
        try:
            self.verdict = batch.step(self.execution_id, event).verdict
        except Suspended:
            if taken is not None:
                batch.taken[self.message_id] = taken  # still to be delivered
            raise

    def done(self) -> None:
        if self._reply is not None:
            self._reply(self, self.refusal)

    def failed(self, error: BaseException) -> None:
        if self._reply is not None:
            self._reply(self, error)


def _in_place_of(taken: Event, event: Event) -> Event:
    """Return the event that is delivered in place of a message. If the message is an order of the parent, the event
    answers it."""
    return msgspec.structs.replace(event, parent_revision=taken.parent_revision)


class DropUnusedWorkflows(Work):
    """Drops long compiled definitions that are not used, because they take much memory."""

    __slots__ = ("_dropped", "_on_drop")

    def __init__(self, on_drop: Callable[[], None]) -> None:
        """`on_drop` is called on the event loop when something was dropped."""
        self._on_drop = on_drop
        self._dropped = 0

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> Collection[str]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        """Drop them."""
        self._dropped = batch.drop_unused_workflows()

    def done(self) -> None:
        """Tell the owner."""
        if self._dropped:
            self._on_drop()
