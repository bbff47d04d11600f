"""What is put before the conductor: one thing each, carried out within a batch and answered after its commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from dalsegno.workflow.events import Event, NoticeDue
from dalsegno.workflow.refusals import NotFound, Refusal

if TYPE_CHECKING:
    from dalsegno.engine.batch import Batch


class Work(ABC):
    """One thing to do. Its methods but `done` and `failed` run in the conductor's thread, perhaps more than once."""

    __slots__ = ("refusal",)

    refusal: Refusal | None
    """Why it was not done, when it was refused."""

    @property
    def message_id(self) -> str:
        """The stored message that it is; empty for none."""
        return ""

    @property
    def is_request(self) -> bool:
        """Whether somebody waits who can ask again: told at once when the store is lost."""
        return False

    @property
    def is_periodic(self) -> bool:
        """Whether it comes again by itself: not kept while the store is lost."""
        return False

    @property
    def name(self) -> str:
        """What it is, for logs and metrics."""
        return type(self).__name__

    @abstractmethod
    def needs(self, batch: Batch) -> Collection[str]:
        """The executions that it is about: they are claimed. May read the store, nothing else."""

    @abstractmethod
    def carry_out(self, batch: Batch) -> None:
        """Do it. Raises Refusal, having changed nothing."""

    def done(self) -> None:  # noqa: B027 -- many have nobody to answer
        """On the event loop, once everything is committed: answer whoever waits."""

    def failed(self, error: BaseException) -> None:  # noqa: B027 -- many have nobody to tell
        """On the event loop: it could not be done, and is not tried again."""


class Told(Work):
    """An execution is told of an event. Without a reply a refusal is only logged."""

    __slots__ = ("_message_id", "_reply", "event", "execution_id", "verdict")

    def __init__(
        self,
        execution_id: str,
        event: Event | None,
        reply: Callable[[Told, BaseException | None], None] | None = None,
        message_id: str = "",
    ) -> None:
        self.execution_id = execution_id
        self.event = event
        """None: the event is that of the stored message."""
        self.refusal = None
        self.verdict = ""
        self._reply = reply
        self._message_id = message_id

    @property
    def message_id(self) -> str:
        return self._message_id

    @property
    def name(self) -> str:
        return "message" if self.event is None else type(self.event).__name__

    def needs(self, batch: Batch) -> Collection[str]:
        return (self.execution_id,)

    def carry_out(self, batch: Batch) -> None:
        event = self.event
        if self._message_id:
            taken = batch.taken.pop(self._message_id, None)
            if taken is None or not batch.exists(self.execution_id):
                self.verdict = "superseded"  # another batch has applied it, or nobody is there to be told
                return
            event = event or taken
        assert event is not None
        if not batch.exists(self.execution_id):
            raise NotFound("execution", self.execution_id)
        if isinstance(event, NoticeDue):
            batch.notify(self.execution_id, event)
            return
        self.verdict = batch.step(self.execution_id, event).verdict

    def done(self) -> None:
        if self._reply is not None:
            self._reply(self, self.refusal)

    def failed(self, error: BaseException) -> None:
        if self._reply is not None:
            self._reply(self, error)


class Dropped(Work):
    """A stored message that nothing can be done about is taken away, so that it is not met again."""

    __slots__ = ("_message_id",)

    def __init__(self, message_id: str) -> None:
        self.refusal = None
        self._message_id = message_id

    @property
    def message_id(self) -> str:
        return self._message_id

    def needs(self, batch: Batch) -> Collection[str]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        """Its message has been taken when the batch began."""
