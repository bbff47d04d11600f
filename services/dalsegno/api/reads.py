"""Reads of the store: each in one thread and one snapshot, without an await in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dalsegno.rpc import views
from dalsegno.rpc.tokens import TASK_TOKEN_KEY, ResumeTokens
from dalsegno.store.records import ExecutionRow
from dalsegno.store.store import Queries, Store, StoreUnreachable
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.refusals import Overloaded, Unavailable
from dalsegno.workflow.states import COMPLETED_EXECUTION

Answer = TypeVar("Answer")
Known = tuple[ExecutionRow, execution_pb2.Execution | None]
"""An execution, and its message if it is completed or paused."""

_RESTING = {"PAUSED", *COMPLETED_EXECUTION}

READ_S = 20.0
"""A store without an answer for this time counts as unavailable, so that a call does not wait until its deadline."""

POSSIBLE_S = 3.0
"""For so long the store may be silent before health says so."""

READS_MAX = 2_000
"""When so many reads run or wait for a reader, further ones are refused."""

_log = logging.getLogger("dalsegno.api")


class Reads:
    """The read side of a store for servicers."""

    def __init__(self, store: Store, readers: int) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="read")
        self._count = 0
        """How many reads run or wait."""
        self._asked: dict[str, asyncio.Future[Known | None]] = {}
        self._gathering: asyncio.Task[None] | None = None
        self.lost = ""
        """Why the store cannot be read, for operators; empty: it could at the last read."""
        self._tokens: ResumeTokens | None = None

    async def resume_tokens(self) -> ResumeTokens:
        """Return the object that makes and checks resume tokens. Raises Unavailable."""
        if self._tokens is None:
            key = await self.run(lambda queries: queries.setting(TASK_TOKEN_KEY))
            if key is None:
                raise Unavailable("no engine has opened the store yet")
            self._tokens = ResumeTokens(key)
        return self._tokens

    async def run(self, read: Callable[[Queries], Answer]) -> Answer:
        """Call `read` with one snapshot of the store in a thread, and return its result. Raises Unavailable, and
        Overloaded when too many reads wait."""
        if self._count >= READS_MAX:
            raise Overloaded(f"{self._count} reads wait for the store; try again later")
        self._count += 1
        reading = asyncio.get_running_loop().run_in_executor(self._threads, self.run_here, read)
        try:
            async with asyncio.timeout(READ_S):
                return await reading
        except TimeoutError:
            raise self._unavailable(f"no answer within {READ_S:g} s") from None
        finally:
            self._count -= 1

    def run_here(self, read: Callable[[Queries], Answer]) -> Answer:
        """Do the same in the thread of the caller, for work that reads the store several times."""
        try:
            with self._store.read() as queries:
                answer = read(queries)
        except StoreUnreachable as error:
            raise self._unavailable(str(error)) from error
        if self.lost:
            self.lost = ""
            _log.warning("the store can be read again")
        return answer

    def _unavailable(self, reason: str) -> Unavailable:
        """Return the error for callers. Log the reason, which may name hosts and folders, once an outage."""
        if not self.lost:
            self.lost = reason
            _log.error("the store cannot be read: %s", reason)
        return Unavailable("the store cannot be read at present")

    async def execution(self, execution_id: str) -> Known | None:
        """Return an execution, with its message if it is completed or paused.

        Calls during a read are combined: the next read answers all of them.
        """
        loop = asyncio.get_running_loop()
        answer = self._asked.get(execution_id)
        if answer is None:
            answer = self._asked[execution_id] = loop.create_future()
            if self._gathering is None:
                self._gathering = loop.create_task(self._gather())
        return await asyncio.shield(answer)

    async def _gather(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self.run(lambda queries, ids=list(asked): _known(queries, ids))  # type: ignore[misc]
            except BaseException as error:
                for answer in asked.values():
                    if not answer.done():
                        answer.set_exception(error)
                        answer.exception()  # retrieved, because the caller may have left
                continue
            for execution_id, answer in asked.items():
                if not answer.done():
                    answer.set_result(found.get(execution_id))
        self._gathering = None

    async def is_possible(self) -> bool:
        """Return whether the store can be read now."""
        asking = asyncio.get_running_loop().run_in_executor(self._threads, self.run_here, lambda queries: True)
        try:
            async with asyncio.timeout(POSSIBLE_S):
                return await asking
        except TimeoutError:
            self._unavailable(f"no answer within {POSSIBLE_S:g} s")
        except Unavailable:
            pass
        except Exception as error:
            self._unavailable(f"{type(error).__name__}: {error}")
        return False

    def close(self) -> None:
        """Wait for running reads, and accept no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _known(queries: Queries, ids: list[str]) -> dict[str, Known]:
    rows = queries.executions_of(ids)
    resting = [row for row in rows.values() if row.state in _RESTING]
    told = {each.id: each for each in views.execution_messages(queries, resting)}
    return {execution_id: (row, told.get(execution_id)) for execution_id, row in rows.items()}
