"""One life of an engine without its thread, its event loop and its wires; it may end between any two lines."""

from __future__ import annotations

import queue
import random
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import dalsegno.engine
import dalsegno.store
from dalsegno.actions.registry import builtin_descriptions
from dalsegno.engine.batches.cache import CompiledWorkflows, ExecutionCache
from dalsegno.engine.batches.compiling import compile_row
from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.batches.losses import StoreLost
from dalsegno.engine.batches.outside import Lookups
from dalsegno.engine.batches.results import Committed, Deferred, Failed
from dalsegno.engine.clock import Clock
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.dispatcher import Dispatcher
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.engine.executors.tokens import new_key
from dalsegno.engine.timers import Timers
from dalsegno.rpc.tokens import TASK_TOKEN_KEY
from dalsegno.store.records import SessionRow
from dalsegno.store.store import Queries, Store, Transaction
from dalsegno.v1 import executor_service_pb2 as wire

ROOMS = tuple(str(Path(next(iter(room.__path__)))) for room in (dalsegno.engine, dalsegno.store))


class Died(BaseException):
    """The process is no more."""


@contextmanager
def death_after(lines: int) -> Iterator[None]:
    """The process dies before it executes so many more lines of the engine and the store; 0: it lives."""
    left = lines

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                raise Died(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(ROOMS) else None

    before = sys.gettrace()
    if lines:
        sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)


class FaultyStore:
    """A store whose next commit may fail: before it has happened, or, worse, after it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.fault = ""

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self.inner.write() as transaction:
            yield transaction
            self._fail("before")
        self._fail("after")

    def _fail(self, moment: str) -> None:
        if self.fault == moment:
            self.fault = ""
            raise sqlite3.OperationalError(f"the connection was lost {moment} the commit")

    @contextmanager
    def read(self) -> Iterator[Queries]:
        with self.inner.read() as queries:
            yield queries

    def is_available(self) -> bool:
        return True


class VirtualClock(Clock):
    """The simulation's time."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__(now_s)
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s()

    @property
    def is_stale(self) -> bool:
        return False


class Loop:
    """Stands where the event loop would: the simulation begins batches itself."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        """The next turn does that."""

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        self.later.append(function)


class Life:
    """The conductor, its timers, and the streams of executors."""

    def __init__(self, store: Store, now_s: Callable[[], float], chance: random.Random) -> None:
        self.store = FaultyStore(store)
        faulty: Any = self.store
        with store.write() as transaction:
            self.callbacks = Callbacks(transaction.settle(TASK_TOKEN_KEY, new_key()))
        workflows = CompiledWorkflows(compile_row)
        lookups = Lookups(workflows, builtin_descriptions(), lasting=True)
        copies = ExecutionCache(chance.choice([1, 1 << 30]), workflows)
        self.dispatcher = Dispatcher(self.callbacks)
        self.conductor = Conductor(faulty, VirtualClock(now_s), copies, lookups, self.dispatcher)
        self.conductor.on_commit.append(self._committed)
        self.timers = Timers(self.conductor.clock, self.conductor.put)
        self.streams: dict[str, ExecutorStream] = {}
        """By session."""
        self.transit: dict[str, list[wire.RunAction]] = {}
        """What was sent by each stream and has not arrived."""
        self.opening: set[str] = set()
        """The sessions that have said Hello and were not answered yet."""
        self._heard: set[str] = set()
        self._loop = Loop()
        loop: Any = self._loop
        self.conductor._loop = loop

    def turn(self) -> bool:
        """One batch, and what follows its commit, as the conductor's thread and the loop would do it."""
        later, self._loop.later = self._loop.later, []
        for function in later:
            function()
        self.conductor._begin()
        try:
            works = self.conductor._inbox.get_nowait()
        except queue.Empty:
            return False
        assert works is not None
        results: list[Committed | Failed | Deferred] = []
        lost: StoreLost | None = None
        try:
            results = self.conductor.carry_out(works)
        except StoreLost as error:
            lost = error
        for result in results:
            assert not isinstance(result, Failed), result.error
        self.conductor._end(works, results, lost)
        return True

    def _committed(self, committed: Committed) -> None:
        self.timers.add(committed.messages)
        for stream, actions in committed.outgoing.items():
            if self.streams.get(stream.session_id) is stream:
                self.transit[stream.session_id] += actions

    def wake(self) -> None:
        """The timers' loop looks at the time."""
        while self.timers._heap and self.timers._heap[0][0] <= self.conductor.clock.now_s():
            self.timers._apply(*self.timers._heap.pop(0)[1:])
            self.timers._heap.sort()

    def connect(self, stream: ExecutorStream) -> None:
        """A session has a stream."""
        self.streams[stream.session_id] = stream
        self.transit[stream.session_id] = []
        self.dispatcher.add_stream(stream)

    def cut(self, session_id: str) -> None:
        """It has none any more; what was on the way is gone."""
        stream = self.streams.pop(session_id, None)
        if stream is not None:
            stream.close()
            del self.transit[session_id]
            self.dispatcher.remove_stream(stream)

    def hear(self, session_id: str) -> None:
        """A sign of life."""
        self._heard.add(session_id)

    # What KeepLeases asks.

    def take_heard(self) -> set[str]:
        heard, self._heard = self._heard, set()
        return heard

    def connected(self) -> dict[str, str]:
        return {stream.session_id: stream.executor_id for stream in self.streams.values()}

    def sessions_ended(self, session_ids: Collection[str]) -> None:
        for session_id in session_ids:
            self.cut(session_id)

    def session_superseded(self, session_id: str, newer: SessionRow) -> None:
        self.cut(session_id)

    def engines_ended(self, session_id: str, gone: Mapping[int, str]) -> None:
        raise AssertionError("there is one engine at a time")
