"""Messages: those to deliver at once, and those that wait for their time.

Every message is a row. What is kept in memory only saves queries. A poll of the store finds what a dead engine left.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Protocol

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.outbox import NOTICE_LEASE_S
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.clock import Clock
from dalsegno.store.records import DueMessage, NewMessage
from dalsegno.workflow.events import RemovalDue, SliceDue

KEPT_MAX = 200_000
"""More waiting messages are not kept in memory; the poll finds them when they are due."""

POLL_LIMIT = 1_000

OVERDUE_S = 10.0
"""A message that waits longer for a living engine, which may stand still in a step, is delivered by another one."""

_log = logging.getLogger(__name__)


class Timers:
    """Passes each message to the conductor when its time has come."""

    def __init__(
        self, clock: Clock, put: Callable[[Work], None], put_slice: Callable[[Work], None] | None = None
    ) -> None:
        self._clock = clock
        self._put = put
        self._put_slice = put_slice or put
        self._heap: list[tuple[float, str, str]] = []
        self._known: set[str] = set()
        """The ids of the messages in the heap or at the conductor."""
        self._changed = asyncio.Event()

    def add(self, messages: Iterable[NewMessage]) -> None:
        """Add the messages that a commit has stored."""
        now_s = self._clock.now_s()
        for message in messages:
            if isinstance(message.event, SliceDue | RemovalDue) and message.due_s <= now_s:
                self._known.add(message.id)
                self._put_slice(DeliverEvent(message.execution_id, None, self._applied, message.id))
            elif message.due_s <= now_s:
                self._apply(message.id, message.execution_id)
            elif len(self._known) < KEPT_MAX:
                self._known.add(message.id)
                heapq.heappush(self._heap, (message.due_s, message.id, message.execution_id))
                if self._heap[0][1] == message.id:
                    self._changed.set()

    def add_found(self, messages: Iterable[DueMessage]) -> None:
        """Add the due messages that the poll has found, and wake `run` if the counted time was corrected forward while
        it waited."""
        for message in messages:
            if message.id not in self._known:
                self._apply(message.id, message.execution_id)
        if self._heap and self._heap[0][0] <= self._clock.now_s():
            self._changed.set()

    async def run(self) -> None:
        """Wait for the next due time, repeatedly."""
        while True:
            now_s = self._clock.now_s()
            while self._heap and self._heap[0][0] <= now_s:
                _, message_id, execution_id = heapq.heappop(self._heap)
                self._apply(message_id, execution_id)
            wait_s = self._heap[0][0] - now_s if self._heap else None
            try:
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except TimeoutError:
                continue
            self._changed.clear()

    def _apply(self, message_id: str, execution_id: str) -> None:
        self._known.add(message_id)
        self._put(DeliverEvent(execution_id, None, self._applied, message_id))

    def _applied(self, work: DeliverEvent, error: BaseException | None) -> None:
        self._known.discard(work.message_id)
        if error is not None:
            _log.info("message to execution %s dropped: %s", work.execution_id, error)


class Scanner(Protocol):
    """What looks for READY attempts: the dispatcher."""

    def scan(self, batch: Batch) -> None:
        """Look for READY attempts that this engine keeps."""
        ...

    def adopt(self, batch: Batch, ended: Collection[int], living: Collection[int], *, is_alone: bool) -> bool:
        """Become the keeper of READY attempts of other engines that keep something, by their numbers. `is_alone`:
        whether no other engine is there. Return whether there may be more."""
        ...


class Poll(Work):
    """Looks for due messages and READY attempts that no engine has in memory: own ones, and those that other engines
    keep (dalsegno/README.md#executors)."""

    __slots__ = ("_ended", "_found", "_is_alone", "_is_full", "_known_to", "_living", "_look_again", "_scanner")

    def __init__(self, timers: Timers, scanner: Scanner, look_again: Callable[[], None]) -> None:
        """`look_again` is called on the event loop when other engines have left more than one batch adopts."""
        self._known_to = timers
        self._look_again = look_again
        self._is_full = False
        self._scanner = scanner
        self._found: list[DueMessage] = []
        self._is_alone = True
        self._ended: list[int] = []
        self._living: list[int] = []
        """The other engines that keep something."""

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> Collection[str]:
        self._found = batch.transaction.due_messages(batch.at_s, POLL_LIMIT, batch.engine)
        self._scanner.scan(batch)
        if batch.engine:
            keeping, living = batch.transaction.keepers()
            self._is_alone = living <= {batch.engine}
            self._ended = sorted(keeping - living - {batch.engine})
            self._living = sorted(keeping & living - {batch.engine})
        return ()

    def carry_out(self, batch: Batch) -> None:
        """Adopt, now that all is claimed: later batches deliver and hand out what was found."""
        adopt = partial(batch.transaction.adopt_messages, batch.engine, limit=POLL_LIMIT)
        left = adopt(self._ended, batch.at_s, notice_lease_s=NOTICE_LEASE_S) if self._ended else []
        self._found += left
        self._found += adopt(self._living, batch.at_s - OVERDUE_S) if self._living else ()
        adopted = self._scanner.adopt(batch, self._ended, self._living, is_alone=self._is_alone)
        self._is_full = adopted or len(left) == POLL_LIMIT

    def done(self) -> None:
        self._known_to.add_found(self._found)
        if self._is_full:
            self._look_again()
