"""One life of an engine of the simulation: the real Engine, without threads, wires and files.

Its event loop and its conductor take turns when the simulation says so. It may die at every commit and between any two
turns, and may stand still.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from operator import is_not
from typing import Any

from tests.simulation.documents import SharedCompiling
from tests.simulation.stepped import SteppedLoop, Timeline

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.definitions.reading import read_here
from dalsegno.engine import notifier, pulse, service
from dalsegno.engine.batches import deferred
from dalsegno.engine.batches.losses import StoreLost
from dalsegno.engine.batches.results import Committed, Deferred, Failed
from dalsegno.engine.batches.step_note import Mark
from dalsegno.engine.batches.work import Work
from dalsegno.engine.desk import server
from dalsegno.engine.pulse import Pulse
from dalsegno.engine.settings import Settings
from dalsegno.expressions import pool_client
from dalsegno.rpc import reading
from dalsegno.store.stalls import NO_STALL, Stall
from dalsegno.store.store import Queries, Store, StoreConflict, StoreUnreachable, Transaction
from dalsegno.v1 import engine_service_pb2_grpc, executor_service_pb2_grpc

LEASE_S = 6.0
HEARTBEAT_S = 2.0
GRACE_S = 1.0
LOOK_S = 1.0
"""How often an engine looks whether the store is written: four times as often would take a tenth of all turns."""


BREAKS = "the store does what nobody expects"
"""The error of a commit that breaks: the engine must find out which of its works is to blame, if any is."""


WITH_DELIVERIES = "die with deliveries"


class Died(BaseException):
    """The process is no more."""


class EngineStore:
    """The shared store as one engine reaches it: absent, slow, or gone at a commit."""

    def __init__(self, inner: Store, timeline: Timeline) -> None:
        self.inner = inner
        self._timeline = timeline
        self.faults: list[str] = []
        """What happens at the next commits that write something: "die before", "die after", "lose before", "lose
        after", "conflict before" or "break before"; empty: nothing."""
        self.is_absent = False
        self.slow_s = 0.0
        """How long each transaction takes."""
        self.hangs_s = (0.0, 0.0)
        """From when until when commits hang."""
        self.is_dead = False
        self.happened: Callable[[str], None] = lambda fault: None
        """Called with each fault that has happened."""
        self.failed: Callable[[str], None] = lambda failure: None
        """Called with what an engine must not do."""
        self._number = 0

    def _reach(self) -> None:
        if self.is_dead:
            raise Died("a process that is no more writes nothing")
        self._timeline.extra_s += self.slow_s
        if self.is_absent:
            raise StoreUnreachable("the database is away")

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        self._reach()
        fault = self.faults.pop(0) if self.faults else ""
        with self.inner.write() as transaction:
            before = _tables(transaction)
            yield transaction
            row = transaction.queries.engines().get(self._number)
            if row is not None and row.ended and any(map(is_not, _tables(transaction), before)):
                self.failed(f"engine {self._number} writes, though others have ended it")
            self._fail(fault, "before")
        self._fail(fault, "after")

    def _fail(self, fault: str, moment: str) -> None:
        if not fault.endswith(moment):
            return
        self.happened(fault)
        if fault.startswith("die"):
            self.is_dead = True
            raise Died(f"{moment} a commit")
        if fault.startswith("break"):
            raise RuntimeError(BREAKS)
        if fault.startswith("conflict"):
            raise StoreConflict("the database has rolled it back: it met another transaction")
        raise StoreUnreachable(f"the connection was lost {moment} the commit")

    @contextmanager
    def read(self) -> Iterator[Queries]:
        self._reach()
        with self.inner.read() as queries:
            yield queries

    def register_engine(self, engine_id: str, process: str, *, is_alone: bool) -> int:
        self._number = self.inner.register_engine(engine_id, process, is_alone=is_alone)
        return self._number

    def renew_engine(self, number: int, patience_s: float) -> bool:
        self._reach()
        return self.inner.renew_engine(number, patience_s)

    def end_engine(self, number: int) -> bool:
        self._reach()
        return self.inner.end_engine(number)

    def is_available(self) -> bool:
        return not self.is_absent

    @property
    def is_hanging(self) -> bool:
        return self._timeline.now_s < self.hangs_s[1]

    def stall(self) -> Stall:
        return Stall(self._timeline.now_s - self.hangs_s[0], "a commit hangs") if self.is_hanging else NO_STALL


_OWNED = ("executions", "attempts", "ready", "messages", "sessions", "requests")
"""The tables that only a living engine may write to."""


def _tables(transaction: Transaction) -> list[Any]:
    """Return these tables: an altered one is another object. A file gives none."""
    tables = getattr(transaction, "tables", None)
    return [] if tables is None else [getattr(tables, name) for name in _OWNED]


class Note:
    """Stands where the step note would: it survives the process, and may be where the process dies."""

    def __init__(self) -> None:
        self.left: Mark | None = None
        self.die_at = 0
        """The process dies at this mark; 0: at none."""
        self.died: Callable[[], None] = lambda: None
        self.is_left = False
        """Whether the process has died in a step: nobody clears the note until the next one begins."""

    def mark(self, execution_id: str, event: str) -> None:
        self.left = Mark(execution_id, event)
        if self.die_at:
            self.die_at -= 1
            if not self.die_at:
                self.died()
                self.is_left = True
                raise Died("in a step")

    def clear(self) -> None:
        if not self.is_left:
            self.left = None

    def read(self) -> Mark | None:
        self.is_left = False
        return self.left


class SteppedPulse(Pulse):
    """Beats when the simulation says so."""

    made: list[SteppedPulse]

    def start(self) -> None:
        self.made.append(self)

    def stop(self) -> None:
        self._stopped.set()


class _Wire:
    """Stands where the gRPC server would."""

    port = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.grpc = None

    async def start(self) -> None:
        pass

    async def stop(self, grace_s: float) -> None:
        pass

    async def set_ready(self, is_ready: bool, *, reason: str = "") -> None:
        pass


_descriptions = cache(builtin_descriptions)
_read = cache(read_here)


def _register(servicer: object, server: None) -> None:
    """Register nothing: links and people call the engine's parts themselves."""


async def _nothing(*arguments: Any) -> None:
    pass


def _run_once(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
    """Run a background task that must not fail: what its result raises is an error of the event loop."""
    task = asyncio.create_task(work(), name=name)
    task.add_done_callback(lambda ended: None if ended.cancelled() else ended.result())
    return task


def engine_substitutes(pool: object, receivers: object) -> dict[tuple[Any, str], Any]:
    """Return what stands in place of names, for all engines of a simulation: also for the pool of processes and for
    those who receive notices."""
    return {
        (service, "Server"): _Wire,
        (engine_service_pb2_grpc, "add_EngineServiceServicer_to_server"): _register,
        (executor_service_pb2_grpc, "add_ExecutorServiceServicer_to_server"): _register,
        **{(module, "POOL"): pool for module in (service, deferred, server)},
        (reading, "read_here"): _read,
        (notifier.Notifier, "_open_session"): lambda notifier: receivers,
        (service, "warm_up"): lambda: None,
        (service, "own_process"): lambda: "",
        (service, "LOOK_S"): LOOK_S,
        (service, "builtin_descriptions"): _descriptions,
        (service, "give_back_now_and_then"): _nothing,
        (service, "keep_running"): _run_once,
        (service, "Pulse"): SteppedPulse,
        (pulse, "is_gone"): lambda process: False,
    }


class EngineLife:
    """An engine at one of the addresses of the simulation, from its start to its end."""

    def __init__(self, store: EngineStore, timeline: Timeline, note: Note, cache_bytes: int, name: str) -> None:
        self.name = name
        self.store = store
        self.note = note
        self.is_dead = False
        self.is_stopping = False
        self.frozen_until_s = 0.0
        """Until then it stands still."""
        self.batch_delay_s: Callable[[], float] = lambda: 0.001
        self.is_compiling_slow: Callable[[], bool] = lambda: False
        self.on_death: Callable[[str], None] = lambda place: None
        self.failures: list[str] = []
        """What must not happen in an engine, whatever happens around it."""
        store.failed = self.failures.append
        self.dies_with_deliveries = False
        """Whether it dies when it has stored deliveries and has not sent them."""
        self.batches = 0
        self._timeline = timeline
        self._planned_s: float | None = None
        self._is_batch_planned = False
        self._is_batch_ending = False
        """Whether its event loop has not heard yet what a batch with other than periodic works came to."""
        self._waiting: list[Any] = []
        self.loop = SteppedLoop(lambda: timeline.now_s)
        self._given: Any = store
        self._build(cache_bytes)
        self._pulses: list[SteppedPulse] = []

    def _build(self, cache_bytes: int) -> None:
        given: Any = self.note
        service.open_note = lambda settings: given  # type: ignore[attr-defined]
        service.Compiling = lambda pool: SharedCompiling(self._wait_for, lambda: self.is_compiling_slow())  # type: ignore
        settings = Settings(lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S, grace_s=GRACE_S, public_url="https://example.com")
        self.engine = service.Engine(settings, self._given, is_only_engine=False)
        self.conductor = self.engine.conductor
        conductor: Any = self.conductor
        conductor._cache._cache_bytes = cache_bytes
        conductor._thread = _NoThread()
        self.inbox: queue.SimpleQueue[Any] = conductor._inbox
        self.executors = self.engine._executors
        self.desk = self.engine._front

    def _wait_for(self, begun: Any) -> None:
        """A definition is being compiled elsewhere for a while."""
        self._timeline.later(0.05, lambda: begun.done() or begun.set_result(None))
        pool_client.wait_for(begun)

    @property
    def works(self) -> bool:
        """Whether its conductor has works, or some wait for values, or a batch has not ended; without those that are
        repeated each second."""
        conductor: Any = self.conductor
        return bool(conductor._deferred) or self._is_batch_ending or not all(map(_is_periodic, conductor._queue))

    def start(self) -> None:
        """Start it, as the process would."""
        SteppedPulse.made = self._pulses
        self.spawn(self.engine.start())
        self.run()
        self._plan_beat()

    def spawn(self, course: Any) -> asyncio.Task[Any]:
        """Run a coroutine on its loop."""
        asyncio.events._set_running_loop(self.loop)
        try:
            task = self.loop.create_task(course)
        finally:
            asyncio.events._set_running_loop(None)
        self.wake()
        return task

    def wake(self) -> None:
        """Plan the next turn of its loop."""
        next_s = self.loop.next_s
        if next_s is None or self.is_dead:
            return
        at_s = max(next_s, self.frozen_until_s, self._timeline.now_s)
        if self._planned_s is None or at_s < self._planned_s:
            self._planned_s = at_s
            self._timeline.at(at_s, lambda: self._due(at_s))

    def _due(self, at_s: float) -> None:
        if self._planned_s == at_s:  # else an earlier turn has come
            self.run()

    def run(self) -> None:
        """Let its loop take a turn, unless it stands still."""
        self._planned_s = None
        if self.is_dead:
            return
        if self._timeline.now_s >= self.frozen_until_s:
            try:
                SteppedPulse.made = self._pulses
                self.loop.turn()
            except Died as place:
                self.die(str(place))
                return
            if self.engine.ended.is_set() and not self.is_stopping:
                self.stop()
            if not self._is_batch_planned and not self.inbox.empty():
                self._is_batch_planned = True
                self._timeline.later(self.batch_delay_s(), self._batch)
        self.wake()

    def _batch(self) -> None:
        """Its conductor carries out one batch, as its thread would."""
        if self.is_dead:
            return
        if self._stands_still(self._batch):
            return
        self._is_batch_planned = False
        works = self.inbox.get_nowait()
        if works is None:
            return
        results: list[Committed | Failed | Deferred] = []
        lost: StoreLost | None = None
        conductor: Any = self.conductor
        pool_client.use(conductor._evaluator)
        self.batches += 1
        try:
            results = self.conductor.carry_out(works)
        except StoreLost as error:
            lost = error
        except Died as place:
            self.die(str(place))
            return
        finally:
            pool_client.use(None)
        for result in results:
            if isinstance(result, Failed) and not _is_expected(result.error):
                self.failures.append(f"{result.work.name} failed: {result.error!r}")
        if self.dies_with_deliveries and any(isinstance(each, Committed) and each.outgoing for each in results):
            self.store.happened(WITH_DELIVERIES)
            self.die(WITH_DELIVERIES)
            return
        self._is_batch_ending = not all(map(_is_periodic, works))
        self._timeline.later(self.batch_delay_s(), lambda: self._end_batch(works, results, lost))

    def _stands_still(self, happening: Callable[[], None]) -> bool:
        """Return whether it cannot write now. Then this happens when it can."""
        still_until_s = max(self.frozen_until_s, self.store.hangs_s[1])
        if self._timeline.now_s >= still_until_s:
            return False
        self._timeline.at(still_until_s, happening)
        return True

    def _end_batch(self, works: Any, results: Any, lost: StoreLost | None) -> None:
        if self.is_dead:
            return
        self._is_batch_ending = False
        self.loop.call_soon(self.conductor._end, works, results, lost)
        self.wake()

    def _plan_beat(self) -> None:
        self._timeline.later(1.0, self._beat)

    def _beat(self) -> None:
        """Its thread for signs of life writes one, once a second."""
        if self.is_dead or (self._pulses and self._pulses[0]._stopped.is_set()):
            return
        if self._stands_still(self._beat):
            return
        try:
            for each in self._pulses:
                each.beat()
        except Died as place:
            self.die(str(place))
            return
        self._plan_beat()
        self.wake()

    def freeze(self, duration_s: float) -> None:
        """It stands still for a while, as after SIGSTOP."""
        self.frozen_until_s = max(self.frozen_until_s, self._timeline.now_s + duration_s)

    def stop(self) -> None:
        """Stop it in order."""
        self.is_stopping = True
        self.spawn(self._stop())

    async def _stop(self) -> None:
        await self.engine.stop()
        self._timeline.later(0.0, lambda: self.die("stopped"))

    def die(self, place: str) -> None:
        """The process is no more."""
        if not self.is_dead:
            self.is_dead = self.store.is_dead = True
            self.on_death(place)

    def bury(self) -> None:
        """End what is left of it, after the end of the simulation."""
        self.is_dead = self.store.is_dead = True
        self.loop.bury()


class _NoThread:
    """Stands where the conductor's thread would."""

    def start(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        pass


def _is_periodic(work: Work) -> bool:
    return work.is_periodic


def _is_expected(error: BaseException) -> bool:
    """Return whether a work may fail so: another engine has written what it was about, or the commit broke."""
    return type(error).__name__ == "Unavailable" or BREAKS in str(error)
