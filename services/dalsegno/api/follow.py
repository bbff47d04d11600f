"""Hints: which executions have changed. One stream from each engine; it also polls the store once a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc

from dalsegno.api.homes import Homes
from dalsegno.api.reads import Reads
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.channel import call_metadata
from dalsegno.rpc.peers import Peer
from dalsegno.store.records import AttemptRow, Standing
from dalsegno.store.store import Queries
from dalsegno.v1 import engine_service_pb2, engine_service_pb2_grpc
from dalsegno.workflow.refusals import Overloaded

_log = logging.getLogger("dalsegno.api")

ASK_S = 1.0
"""The interval at which the revisions of all watched executions are read from the store."""

RECONNECT_S = 0.5

_REFUSES = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

WATCHERS_MAX = 10_000
"""When so many calls watch an execution or wait for one, further ones are refused."""


class Watched:
    """One watched execution: `moved` is set when its revision has grown."""

    def __init__(self) -> None:
        self.revision = 0
        self.deleted = False
        self.moved = asyncio.Event()
        self.telling: tuple[AttemptRow, ...] = ()
        """Its open attempts that have reported progress."""
        self.rested = asyncio.Event()
        """Set when it may be at rest or paused: a wait reads the execution only then."""

    def tell(self, revision: int | None, *, resting: bool) -> None:
        """Set the revision that it has reached; None: it is deleted."""
        if revision is None:
            self.deleted = True
        elif revision > self.revision:
            self.revision = revision
        else:
            return
        self.moved.set()
        if resting:
            self.rested.set()

    def tell_progress(self, telling: Sequence[AttemptRow]) -> None:
        """Set the attempts that have reported progress."""
        if (told := tuple(telling)) != self.telling:
            self.telling = told
            self.moved.set()


class Follower:
    """Notifies watchers when their execution has changed."""

    def __init__(self, reads: Reads, homes: Homes) -> None:
        """`homes` is told which engine has an execution."""
        self._reads = reads
        self._homes = homes
        self._watched: dict[str, set[Watched]] = {}
        self._count = 0
        """How many calls watch or wait."""
        self._asking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to ask the store, in the running event loop."""
        self._asking = keep_running(self._ask, "reading revisions")

    async def stop(self) -> None:
        """Stop to ask."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    @contextmanager
    def watch(self, execution_id: str) -> Iterator[Watched]:
        """Yield the state of a watched execution, updated during the `with` block. Raises Overloaded."""
        if self._count >= WATCHERS_MAX:
            raise Overloaded(f"{self._count} calls watch or wait; try again later, or at another api")
        self._count += 1
        watched = Watched()
        self._watched.setdefault(execution_id, set()).add(watched)
        try:
            yield watched
        finally:
            self._count -= 1
            others = self._watched[execution_id]
            others.discard(watched)
            if not others:
                del self._watched[execution_id]

    async def follow(self, engine: Peer) -> None:
        """Take the hints of one engine, for ever. The end of a stream is the first sign that an engine has ended."""
        refused = ""
        stub = engine_service_pb2_grpc.EngineServiceStub(engine.channel)
        while True:
            call = stub.Follow(engine_service_pb2.FollowRequest(), metadata=call_metadata())
            try:
                async for response in call:
                    self._take(response.hints, engine)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSES and error.details() != refused:
                    refused = error.details() or ""
                    _log.warning("the engine at %s refuses this api: %s", engine.address, refused)
                _log.debug("no hints for now", extra={"code": error.code().name, "engine": engine.address})
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    engine.lost("it cannot be reached")
            finally:
                call.cancel()
            await asyncio.sleep(RECONNECT_S)

    def _take(self, hints: Iterable[engine_service_pb2.Hint], engine: Peer) -> None:
        for hint in hints:
            self._homes.note(hint.execution_id, engine if hint.revision else None)
            for watched in self._watched.get(hint.execution_id, ()):
                watched.tell(hint.revision or None, resting=hint.resting)

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(ASK_S)
            asked = list(self._watched)
            if not asked:
                continue
            try:
                found, telling = await self._reads.run(lambda queries, ids=asked: _read_news(queries, ids))  # type: ignore[misc]
            except Exception as error:  # the store is unavailable: retry after a second
                _log.warning("cannot read revisions", extra={"error": str(error)})
                continue
            for execution_id in asked:
                standing = found.get(execution_id)
                for watched in self._watched.get(execution_id, ()):
                    if standing is None:
                        watched.tell(None, resting=True)
                    else:
                        watched.tell(standing.revision, resting=standing.resting)
                        watched.tell_progress(telling.get(execution_id, ()))


def _read_news(
    queries: Queries, execution_ids: Collection[str]
) -> tuple[dict[str, Standing], dict[str, list[AttemptRow]]]:
    """Read the revisions of executions, and the attempts that have reported progress."""
    return queries.standings(execution_ids), queries.attempts_with_progress(execution_ids)
