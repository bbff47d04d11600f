"""One engine: its parts, and how they start and stop."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.definitions.document import forget_expressions
from dalsegno.definitions.reading import MODULE as READING
from dalsegno.engine.batches.cache import CompiledWorkflows, ExecutionCache
from dalsegno.engine.batches.compiling import Compiling
from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.batches.outside import Lookups
from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.step_note import count_death, open_note
from dalsegno.engine.batches.work import DropUnusedWorkflows
from dalsegno.engine.clock import Clock
from dalsegno.engine.desk.requests import PruneRequests
from dalsegno.engine.desk.server import EngineServer
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.dispatcher import Dispatcher
from dalsegno.engine.executors.progress import Board, WriteProgress
from dalsegno.engine.executors.server import Executors
from dalsegno.engine.executors.sessions import KeepLeases
from dalsegno.engine.executors.tokens import new_key
from dalsegno.engine.feed import Feed
from dalsegno.engine.notifier import Notifier
from dalsegno.engine.processes import own_process
from dalsegno.engine.pulse import Pulse
from dalsegno.engine.settings import Settings
from dalsegno.engine.timers import Poll, Timers
from dalsegno.expressions.compile import warm_up
from dalsegno.expressions.pool_client import POOL
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.channel import MESSAGE_BYTES
from dalsegno.rpc.guard import Guard
from dalsegno.rpc.memory import give_back_now_and_then
from dalsegno.rpc.options import Auth
from dalsegno.rpc.server import Server
from dalsegno.rpc.tokens import TASK_TOKEN_KEY
from dalsegno.secrets import keys
from dalsegno.secrets.cipher import NO_CIPHERS, Ciphers, StoreCiphers
from dalsegno.store.store import Queries, Store, StoreUnreachable, Transaction
from dalsegno.v1 import engine_service_pb2_grpc, executor_service_pb2_grpc
from dalsegno.workflow.refusals import Unavailable

TICK_S = 1.0
LOOK_S = 0.25
"""How often it looks whether the store hangs, and how soon its health tells that."""

PRUNE_EVERY_TICKS = 600
SWEEP_EVERY_TICKS = 60
DROP_EVERY_TICKS = 20
MISSED_S = 3.0
"""If there was no tick for this long, the process was stopped."""

NOTICES_GRACE_S = 1.0
ROOMY = {
    "/dalsegno.v1.ExecutorService/Connect": 64 * 1024 * 1024,
    "/dalsegno.v1.EngineService/Submit": MESSAGE_BYTES + 64 * 1024,
}
"""A result that is far too large is read, so that it can be refused; otherwise its executor would send it for ever. A
write is as large as a public request, plus what api adds."""

SERVICES = ("dalsegno.v1.EngineService", "dalsegno.v1.ExecutorService")

_log = logging.getLogger(__name__)


def _open_ciphers(transaction: Transaction, own: Sequence[bytes]) -> Ciphers:
    """Return the ciphers of the store; the first engine with a key makes the key of the store. `own`: the keys of the
    operator, the newest first. Raises UnfitKeys if the store has a key that none of these decrypts."""
    if own:
        wrapped = transaction.settle(keys.STORE_KEY, keys.wrap(own[0], keys.new_key()))
        return StoreCiphers(keys.unwrap(own, wrapped))
    if transaction.queries.setting(keys.STORE_KEY) is not None:
        raise keys.UnfitKeys("this store has secrets: start the engine with their key, by --secret-keys FILE")
    return NO_CIPHERS


class Engine:
    """Runs on one event loop. The caller opens the store, upgrades it, and closes it afterwards."""

    def __init__(self, settings: Settings, store: Store, *, is_only_engine: bool) -> None:
        """`is_only_engine`: nobody else writes this store, so that lookups may be cached."""
        self.settings = settings
        self.id = str(uuid.uuid4())
        self.number = store.register_engine(self.id, own_process(), is_alone=is_only_engine)
        self.ended = asyncio.Event()
        """Set when another engine has ended this one. It writes nothing more, and is to be stopped."""
        self._store = store
        self._is_shared = not is_only_engine
        self._clock = Clock(is_shared=self._is_shared)
        self._step_note = open_note(settings)
        died_in = self._step_note.read()
        with store.write() as transaction:
            callbacks = Callbacks(transaction.settle(TASK_TOKEN_KEY, new_key()), settings.public_url)
            ciphers = _open_ciphers(transaction, settings.secret_keys)
            deaths = count_death(transaction, died_in) if died_in is not None else 0
        self._step_note.clear()
        if died_in is not None and deaths:
            _log.warning(
                "the engine died while it stepped execution %s (%s): it has now done so %d times in a row",
                *(died_in.execution_id, died_in.event, deaths),
            )
        workflows = CompiledWorkflows(Compiling(POOL))
        lookups = Lookups(workflows, builtin_descriptions(), ciphers, lasting=is_only_engine)
        cache = ExecutionCache(settings.cache_mb * 1024 * 1024, workflows)
        self._dispatcher = Dispatcher(callbacks, self.number, ciphers)
        self.conductor = Conductor(
            *(store, self._clock, cache, lookups, self._dispatcher),
            step_note=self._step_note,
            engine=self.number if self._is_shared else 0,
        )
        self.conductor.on_ended = self._note_end
        self._timers = Timers(self._clock, self.conductor.put, self.conductor.put_slice)
        self._notifier = Notifier(self.conductor.put, settings.private_networks)
        self._feed = Feed()
        self._board = Board()
        lookups.hearing_since_s = self._hearing_since_s
        self._executors = Executors(
            self.conductor, self._dispatcher, settings, self.id, self._board, self.number, self._read
        )
        self._front = EngineServer(self.conductor, self._feed, callbacks)
        self.conductor.on_commit.append(self._committed)
        is_guarded = settings.auth == Auth.TOKENS
        guard = Guard(self._read, settings.service_names, issuers=settings.issuers) if is_guarded else None
        self._server = Server(
            *(settings.listen, SERVICES),
            insecure=settings.insecure,
            tls=settings.tls.serves,
            roomy=ROOMY,
            guard=guard,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._dropped = False
        self._heard_from_s = self._ticked_s = self._clock.steady_s()
        self._pulse: Pulse | None = None

    @property
    def port(self) -> int:
        """The port where it listens, after it has started."""
        return self._server.port

    async def start(self) -> None:
        """Listen, look for what a dead engine left, and become ready. Raises CannotListen."""
        engine_service_pb2_grpc.add_EngineServiceServicer_to_server(self._front, self._server.grpc)
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(self._executors, self._server.grpc)
        await asyncio.to_thread(self._clock.begin, self._store)
        self._heard_from_s = self._ticked_s = self._clock.steady_s()
        if self._is_shared:
            await asyncio.to_thread(self._begin_pulse, asyncio.get_running_loop())
        await self._server.start()
        POOL.import_too(READING)
        await asyncio.to_thread(warm_up)
        self.conductor.start()
        self._tasks = [
            keep_running(self._timers.run, "timers"),
            keep_running(self._tick, "tick"),
            keep_running(self._keep_readiness, "readiness"),
            keep_running(partial(give_back_now_and_then, forget_expressions, self._has_dropped), "memory"),
        ]

    async def stop(self) -> None:
        """Wait for the reports of executors, finish the running batch, then stop. One that was ended waits for
        nothing."""
        grace_s = 0.0 if self.ended.is_set() else self.settings.grace_s
        for task in self._tasks:
            if task.get_name() == "readiness":
                task.cancel()
        await self._server.set_ready(False)
        await self._executors.drain(grace_s)
        for task in self._tasks:
            task.cancel()
        await self._notifier.close(NOTICES_GRACE_S)
        await self.conductor.stop(grace_s)
        await self._server.stop(0.5)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._step_note.clear()  # the conductor may still step something: that is no death
        if (
            not self.conductor.readiness.stall
        ):  # else this would wait as long as the store does: others find that it is silent
            await asyncio.to_thread(self._end_pulse)

    async def _read(self, read: Callable[[Queries], Any]) -> Any:
        """Read the store for the guard. Raises Unavailable."""

        def read_here() -> Any:
            with self._store.read() as queries:
                return read(queries)

        try:
            return await asyncio.to_thread(read_here)
        except StoreUnreachable:
            raise Unavailable("the store cannot be read at present") from None

    def _begin_pulse(self, loop: asyncio.AbstractEventLoop) -> None:
        """Show the other engines that this one lives, and end those that do not."""

        def on_ended() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._note_end)

        self._pulse = Pulse(self._store, self.number, self.conductor.take_longest_s, on_ended, self._clock.steady_s)
        self._pulse.beat()
        self._pulse.start()

    def _end_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
        with suppress(StoreUnreachable):  # then the others find that it is silent
            self._store.end_engine(self.number)

    def _note_end(self) -> None:
        if not self.ended.is_set():
            _log.critical(
                "another engine has ended engine %d (%s), because it gave no sign of life: it writes nothing more and"
                " stops; a new start gives it a new number",
                *(self.number, self.id),
            )
        self.ended.set()

    def _look(self) -> None:
        if not self.conductor.has(Poll):
            self.conductor.put_first(Poll(self._timers, self._dispatcher, self._look))

    def _note_drop(self) -> None:
        self._dropped = True

    def _has_dropped(self) -> bool:
        """Return whether a large definition was dropped since the last call."""
        dropped, self._dropped = self._dropped, False
        return dropped

    def _committed(self, committed: Committed) -> None:
        self._timers.add(committed.messages)
        for (execution_id, key), progress in committed.progress.items():
            self._board.note(execution_id, key, progress)
        self._notifier.send(committed.notices)
        self._feed.send(committed.hints)

    async def _tick(self) -> None:
        """Once a second: renew leases, and look for due messages and READY attempts that no engine knows of."""
        ticks, is_sweep_due = 0, False
        while True:
            steady_s = self._clock.steady_s()
            if steady_s - self._ticked_s > MISSED_S:
                self._heard_from_s = steady_s  # the process was stopped: what executors sent is yet to be read
            self._ticked_s = steady_s
            is_sweep_due = is_sweep_due or ticks % SWEEP_EVERY_TICKS == SWEEP_EVERY_TICKS - 1
            # While a batch takes long, only one of each waits: several in one batch would all do the same.
            if not self.conductor.has(KeepLeases):
                self.conductor.put(
                    KeepLeases(
                        *(self._executors, self.settings.lease_s, self._may_end),
                        sweep=is_sweep_due,
                        is_shared=self._is_shared,
                        engine=self.number,
                    )
                )
                is_sweep_due = False
            if self._may_end():
                self._executors.end_unanswered()
            if self._board and not self.conductor.has(WriteProgress):
                self.conductor.put(WriteProgress(self._board))
            self._look()
            if ticks % PRUNE_EVERY_TICKS == 0:
                self.conductor.put(PruneRequests())
            if ticks % DROP_EVERY_TICKS == 0:
                self.conductor.put(DropUnusedWorkflows(self._note_drop))
            ticks += 1
            await asyncio.sleep(TICK_S)

    async def _keep_readiness(self) -> None:
        """Report health: whether the store is written, else why not."""
        told: str | None = None
        while True:
            self.conductor.look_at_store()
            if self.conductor.readiness.reason != told:
                told = self.conductor.readiness.reason
                await self._server.set_ready(not told, reason=told)
            await asyncio.sleep(LOOK_S)

    def _hearing_since_s(self) -> float:
        """Return since when executors and third parties can be heard, in counted time."""
        silent_s = self._clock.steady_s() - self._reachable_since_s()
        return self._clock.now_s() - max(0.0, silent_s)

    def _reachable_since_s(self) -> float:
        """Return when the last start, outage or standstill ended, by the steady clock."""
        return max(self._heard_from_s, self.conductor.readiness.recovered_s, self._clock.settled_s)

    def _may_end(self) -> bool:
        """Return whether every executor had a full lease time to be heard, since the last start, outage or
        standstill."""
        steady_s = self._clock.steady_s()
        if not self.conductor.readiness.is_ready or steady_s - self._ticked_s > MISSED_S:
            return False
        return steady_s >= self._reachable_since_s() + self.settings.lease_s
