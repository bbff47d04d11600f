"""Sends notices to web addresses after the commit that they tell of, and repeats them until they are accepted.

A notice is a row of `messages` of the transaction that decided on it, due LEASE_S later. The engine that wrote it posts
it at once, and deletes the row when the receiver answers 2xx. If that engine dies, the row becomes due, and the engine
that finds it posts it. If the receiver does not accept it, the row becomes due later, with longer delays, TRIES_MAX
times in all. So a notice arrives at least once. A receiver recognizes repeated ones by the id in the header
Dalsegno-Notice. Notices are deleted with their execution.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import Counter

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import Work
from dalsegno.outgoing.connecting import http_session, http_timeout
from dalsegno.outgoing.reach import Reach
from dalsegno.store.records import NewMessage
from dalsegno.workflow.events import NoticeDue
from dalsegno.workflow.secrets import mask
from dalsegno.workflow.value import byte_length

if TYPE_CHECKING:  # slow to import, and many engines never post anything
    import aiohttp

TRIES_MAX = 15
DELAY_S_MAX = 300.0
"""The delays between tries double from one second up to this. All tries take half an hour."""

POST_S = 10.0
"""How long a receiver may take to answer."""

CONCURRENCY = 50
WAITING_MAX = 1_000
WAITING_BYTES_MAX = 64 * 1024 * 1024
"""More notices are not kept in memory: their rows become due again."""

POSTED = Counter("dalsegno_engine_notices", "Notices posted, by result.", ["outcome"])

_log = logging.getLogger(__name__)


def delay_s(failures: int) -> float:
    """Return the delay after this many failures."""
    return float(min(2.0 ** (failures - 1), DELAY_S_MAX))


@dataclass(slots=True)
class PendingNotice:
    """One notice that is being posted, or waits for it."""

    message_id: str
    """The id of the row to delete when the notice has arrived."""
    execution_id: str
    notice: NoticeDue

    @property
    def size(self) -> int:
        return byte_length(self.notice.payload.text)


class RecordPost(Work):
    """Deletes the row of a notice that was posted, or delays it."""

    __slots__ = ("_done", "_error", "_is_dropped", "_pending")

    def __init__(self, pending: PendingNotice, error: str, done: Callable[[PendingNotice], None]) -> None:
        """`error`: why the receiver did not accept it; empty when it did."""
        self._pending = pending
        self._error = error
        self.message_id = pending.message_id
        self._done = done
        self._is_dropped = False

    def needs(self, batch: Batch) -> Collection[str]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        taken = batch.taken.pop(self.message_id, None)
        if taken is None or not self._error:
            return  # it has arrived, its execution was deleted, or another engine posts it
        assert isinstance(taken, NoticeDue)
        failures = taken.failures + 1
        self._is_dropped = failures >= TRIES_MAX
        if not self._is_dropped:
            again = msgspec.structs.replace(taken, failures=failures)
            batch.delay(self._pending.execution_id, again, batch.at_s + delay_s(failures))

    def done(self) -> None:
        self._done(self._pending)
        POSTED.labels("dropped" if self._is_dropped else "failed" if self._error else "taken").inc()
        if self._error:
            words = f"given up after {TRIES_MAX} tries" if self._is_dropped else "will be tried again"
            level = logging.WARNING if self._is_dropped else logging.INFO
            _log.log(level, "notice %s was not accepted (%s): %s", self._pending.notice.id, self._error, words)

    def failed(self, error: BaseException) -> None:
        self._done(self._pending)


class Notifier:
    """Posts notices from the event loop: those of one execution to one address in order, others concurrently."""

    def __init__(self, put: Callable[[Work], None], reach: Reach) -> None:
        """`reach`: where receivers may be."""
        self._put = put
        self._reach = reach
        self._pending_notices: dict[str, PendingNotice] = {}
        """By the notice's id, until its result is committed."""
        self._bytes = 0
        self._lines: dict[tuple[str, str], deque[PendingNotice]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(CONCURRENCY)
        self._session: aiohttp.ClientSession | None = None

    def send(self, messages: Iterable[NewMessage]) -> None:
        """Post the notices that a commit has stored."""
        for message in messages:
            assert isinstance(message.event, NoticeDue)
            known = self._pending_notices.get(message.event.id)
            if known is not None:
                known.message_id = message.id  # it has waited here for so long that its row became due
            elif len(self._pending_notices) < WAITING_MAX and self._bytes < WAITING_BYTES_MAX:
                self._line_up(PendingNotice(message.id, message.execution_id, message.event))

    async def close(self, grace_s: float) -> None:
        """Wait for the current posts, then stop. The other notices stay in the store."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _line_up(self, pending: PendingNotice) -> None:
        self._pending_notices[pending.notice.id] = pending
        self._bytes += pending.size
        key = pending.execution_id, pending.notice.url
        line = self._lines.get(key)
        if line is not None:
            line.append(pending)
            return
        self._lines[key] = deque([pending])
        task = asyncio.create_task(self._work_off(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off(self, key: tuple[str, str]) -> None:
        line = self._lines[key]
        while line:
            pending = line.popleft()
            async with self._room:
                error = await self._post(pending.notice)
            self._put(RecordPost(pending, error, self._forget))
        del self._lines[key]

    def _forget(self, pending: PendingNotice) -> None:
        if self._pending_notices.pop(pending.notice.id, None) is not None:
            self._bytes -= pending.size

    async def _post(self, notice: NoticeDue) -> str:
        """Post a notice. Return why the receiver did not accept it; empty when it did."""
        own = {"content-type": "application/json", "dalsegno-notice": notice.id}
        headers = own | {name.lower(): value for name, value in notice.headers.items()}
        try:
            session = self._open_session()
            body = mask(notice.payload.text).encode()
            async with session.post(
                notice.url, data=body, headers=headers, allow_redirects=False, timeout=http_timeout(POST_S)
            ) as response:
                return "" if 200 <= response.status < 300 else f"HTTP {response.status} {response.reason}"
        except Exception as error:  # after any error the next notices must be posted
            return str(error) or type(error).__name__

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = http_session(self._reach, CONCURRENCY)
        return self._session
