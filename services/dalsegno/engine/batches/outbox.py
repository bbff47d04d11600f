"""What one batch sends: messages and notices, which are rows of its transaction, and orders to cancel actions."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

from dalsegno.store.records import NewMessage
from dalsegno.workflow.commands import CancelAction, Notify
from dalsegno.workflow.events import AnyEvent, Event, NoticeDue

NOTICE_LEASE_S = 15.0
"""How long after its time a notice becomes due again, in case its engine died."""


class MessageIds:
    """Makes message ids. They increase with each message of one engine, and differ from those of all other engines."""

    def __init__(self) -> None:
        self._engine = os.urandom(5).hex()
        self._counter = itertools.count()
        self._last = 0

    def next(self, at_s: float) -> str:
        """Return an id later than all before it."""
        self._last = max(self._last, int(at_s * 1_000_000))
        return f"{self._last:014x}-{next(self._counter):010x}-{self._engine}"


@dataclass(frozen=True, slots=True)
class Cancel:
    """A CancelAction to send after the commit."""

    session_id: str
    execution_id: str
    command: CancelAction
    reason: str = ""


class Outbox:
    """Everything that a batch has decided to send."""

    def __init__(self, message_ids: MessageIds, at_s: float) -> None:
        """`at_s`: the time of the batch."""
        self.messages: list[NewMessage] = []
        self.notices: list[NewMessage] = []
        """The notices to post after the commit."""
        self.cancels: list[Cancel] = []
        self._delayed: list[NewMessage] = []
        self._given_back: list[NewMessage] = []
        self._message_ids, self._at_s = message_ids, at_s

    @property
    def has_new(self) -> bool:
        """Whether there are messages or notices that were not stored before."""
        return bool(self.messages or self.notices or self._delayed)

    @property
    def rows(self) -> list[NewMessage]:
        """All messages and notices to store."""
        return [*self.messages, *self.notices, *self._delayed, *self._given_back]

    def send(self, to: str, event: Event, due_s: float | None) -> None:
        """Store a message that delivers the event to an execution; `due_s` is None: in the next batch."""
        due_s = self._at_s if due_s is None else due_s
        self.messages.append(NewMessage(self._message_ids.next(self._at_s), to, event, due_s))

    def notify(self, execution_id: str, notice: NoticeDue) -> None:
        """Store a notice and post it after the commit. It becomes due again unless the receiver takes it."""
        due_s = self._at_s + NOTICE_LEASE_S
        self.notices.append(NewMessage(self._message_ids.next(self._at_s), execution_id, notice, due_s))

    def delay(self, execution_id: str, notice: NoticeDue, due_s: float) -> None:
        """Store a notice that is posted later."""
        self._delayed.append(NewMessage(self._message_ids.next(self._at_s), execution_id, notice, due_s))

    def give_back(self, message_id: str, execution_id: str, event: AnyEvent) -> None:
        """Store a message again that the batch has taken and does not deliver."""
        self._given_back.append(NewMessage(message_id, execution_id, event, self._at_s))


def notice_of(command: Notify) -> NoticeDue:
    """Return what is delivered for a command to post a notice."""
    return NoticeDue(id=command.id, url=command.url, headers=command.headers, payload=command.payload)
