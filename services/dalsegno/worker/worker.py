"""A worker: a program that runs actions for engines, from its start to its stop.

    Worker(greet, orders, engine="127.0.0.1:7701", id="greeter-1").run()

It connects to each engine and connects again when a stream breaks, also to one that is not there yet. At SIGTERM or
SIGINT it takes nothing more, waits for what runs within the grace period, reports it, and gives back the rest; at the
second one it does not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import grpc
from prometheus_client import REGISTRY, CollectorRegistry

from dalsegno.access.bearer import FILE_VARIABLE, open_token_file
from dalsegno.actions import grpc as grpc_calls
from dalsegno.actions import http
from dalsegno.actions.action import Action, AnyAction
from dalsegno.actions.limits import Limits
from dalsegno.actions.registry import Registry, actions_of
from dalsegno.rpc import logs
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.convert import LABELS_MAX
from dalsegno.rpc.links import caller_from
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.server import Server
from dalsegno.worker import isolation
from dalsegno.worker.connection import Connection
from dalsegno.worker.loop_watch import LoopWatch
from dalsegno.worker.metrics import Metrics
from dalsegno.worker.pace import Pace
from dalsegno.worker.session import Session

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls

DEFAULT_ENGINE = "127.0.0.1:7701"
EXECUTOR_LABEL = "executor"
"""A session for one action has the worker's id in this label, so that a target which names the worker means it too."""

READINESS_S = 0.2
PARTING_S = 3.0

_log = logging.getLogger(__name__)


class Worker:
    """Runs actions for engines."""

    def __init__(
        self,
        *actions: AnyAction | ModuleType,
        engine: str | Sequence[str] = (),
        id: str = "",
        slots: int = 1000,
        threads: int = 32,
        labels: Mapping[str, str] | None = None,
        limits: Mapping[str, Limits] | None = None,
        grace_s: float = 10.0,
        tls: ClientTls | Literal[False] | None = None,
        token_file: str | None = None,
        listen: str = "",
        metrics_port: int = 0,
    ) -> None:
        """Prepare a worker for these actions, or for all actions of a module.

        `engine` is host:port of an engine, or of several (default: DALSEGNO_ENGINE, else 127.0.0.1:7701). `id` is its
        name, stable over restarts (default: host and process). It runs at most `slots` actions at once, `threads` of
        them in threads. A task with a `target` selects workers by id or by `labels`. `limits` by name of action
        replace those of the action. Actions have `grace_s` to end when the worker stops. `tls` is how it calls engines
        (default: DALSEGNO_TLS_CA, ..., else plain text; False: plain text), `token_file` the file of the token that it
        shows them (default: DALSEGNO_TOKEN_FILE, else none; empty: none). `listen` is host:port of a health service,
        `metrics_port` serves metrics for Prometheus. Raises ValueError for what cannot be.
        """
        engines = engine or os.environ.get("DALSEGNO_ENGINE") or DEFAULT_ENGINE
        self.engines = tuple(dict.fromkeys(engines.replace(",", " ").split() if isinstance(engines, str) else engines))
        self.id = id or f"{socket.gethostname()}-{os.getpid()}"
        self.stuck = 0
        """How many actions still run, though they were stopped, after the worker has stopped."""
        self._registry = Registry(_all_actions(actions))
        self._slots = slots
        self._threads = threads
        self._labels = dict(labels or {})
        self._limits = {each.name: each.limits for each in self._registry} | dict(limits or {})
        self._grace_s = grace_s
        self._tls = caller_from(os.environ) if tls is None else tls or None
        self._token = open_token_file(os.environ.get(FILE_VARIABLE, "") if token_file is None else token_file)
        self._listen = listen
        self._metrics_port = metrics_port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops = 0
        self._stopped = asyncio.Event()
        self._stops_at_once = asyncio.Event()
        self._sessions: list[Session] = []
        self._connections: list[Connection] = []
        self._exit: threading.Timer | None = None
        self._check()

    def _check(self) -> None:
        if not len(self._registry):
            raise ValueError("a worker needs an action: Worker(my_action, engine=...)")
        for each in self.engines:
            if ":" not in each:
                raise ValueError(f"the engine {each!r} is not of the form host:port")
        if unknown := self._limits.keys() - {each.name for each in self._registry}:
            raise ValueError(f"a limit for {', '.join(sorted(unknown))}, which the worker does not serve")
        has_limits = any(limits != Limits() for limits in self._limits.values())
        if len(self._labels) > LABELS_MAX - has_limits:  # a session with limits has one more: see _open_sessions
            raise ValueError(
                f"{len(self._labels)} labels: a worker has at most {LABELS_MAX}, one less if an action of it has limits"
            )
        isolation.check(self._registry)
        if self._slots < 1 or self._threads < 1:
            raise ValueError("slots and threads must be at least 1")

    @property
    def is_connected(self) -> bool:
        """Return whether an engine can send it work."""
        return any(each.is_connected for each in self._connections)

    @property
    def told(self) -> str:
        """Return which engines do not take it, and why; empty if all do, or none is asked yet."""
        return "; ".join(dict.fromkeys(each.reason for each in self._connections if each.reason))

    def run(self) -> int:
        """Work until SIGTERM or SIGINT. Return 0, or 1 if another process with the same id has replaced it.

        Use it in the main thread. It ends the process if actions that cannot be stopped still run. It logs to standard
        error unless the program has set up logging. Raises CannotListen or OSError for an address that is in use.
        """
        _refuse_in_child()
        if not logging.getLogger().handlers:
            logs.set_up("worker")
        replaced = asyncio.run(self._serve_until_signal())
        if self._exit is not None:
            self._exit.cancel()
        if self.stuck:
            _exit(int(replaced))
        return int(replaced)

    async def serve(self) -> bool:
        """Work until `stop` is called, once. Return whether another process with the same id has replaced it."""
        self._loop = asyncio.get_running_loop()
        isolation.prepare(self._registry)
        async with self._open_ports() as server, self._open_channels() as channels:
            sessions = self._sessions = self._open_sessions()
            self._connections = [
                Connection(session, *each, self._tls)
                for session in sessions
                for each in zip(self.engines, channels, strict=True)
            ]
            tasks = [asyncio.create_task(each.run()) for each in self._connections]
            watch = LoopWatch()
            _log.info("started", extra={"executor": self.id, "engines": ", ".join(self.engines)})
            try:
                await self._until_stopped(server)
                _log.info("stopping", extra={"executor": self.id})
                await self._leave(tasks)
            finally:
                watch.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.gather(*(each.runner.close(1.0) for each in sessions))
                await http.close()
                await grpc_calls.close()
            self.stuck = sum(each.runner.stuck for each in sessions)
        return self._is_replaced

    def stop(self) -> None:
        """End `serve` in order; at the second call, without waiting for actions. It may be called in any thread."""
        if self._loop is None:
            self._note_stop()
        else:
            self._loop.call_soon_threadsafe(self._note_stop)

    def _note_stop(self) -> None:
        self._stops += 1
        self._stopped.set()
        if self._stops > 1:
            self._stops_at_once.set()

    async def _serve_until_signal(self) -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._note_stop)
        replaced = await self.serve()
        # The event loop would wait for what cannot be stopped without a limit.
        self._exit = threading.Timer(PARTING_S, _exit, [int(replaced)])
        self._exit.daemon = True
        self._exit.start()
        return replaced

    @property
    def _is_replaced(self) -> bool:
        return any(each.superseded.is_set() for each in self._sessions)

    def _open_sessions(self) -> list[Session]:
        """Open a session for all actions without limits, and one for each action with limits.

        An engine never hands a session more than its slots and its credit, so that what is over a limit waits in the
        engine: it uses no slot of other actions, and other executors can take it.
        """
        metrics = Metrics(REGISTRY if self._metrics_port else CollectorRegistry())
        limited = [each for each in self._registry if self._limits[each.name] != Limits()]
        free = [each for each in self._registry if each not in limited]
        sessions = [self._open_session(self.id, free, self._labels, Limits(), metrics)] if free else []
        for each in limited:
            labels = {EXECUTOR_LABEL: self.id, **self._labels}
            sessions.append(
                self._open_session(f"{self.id}/{each.name}", [each], labels, self._limits[each.name], metrics)
            )
        metrics.watch(
            lambda: sum(each.slots.running for each in sessions), lambda: sum(len(each.outbox) for each in sessions)
        )
        return sessions

    def _open_session(
        self, id: str, actions: list[AnyAction], labels: Mapping[str, str], limits: Limits, metrics: Metrics
    ) -> Session:
        slots = self._slots if limits.concurrency is None else limits.concurrency
        return Session(
            id,
            Registry(actions),
            self.engines,
            slots=slots,
            threads=min(slots, self._threads),
            labels=labels,
            metrics=metrics,
            pace=None if limits.starts is None else Pace(limits.starts, limits.period_s),
        )

    @contextlib.asynccontextmanager
    async def _open_ports(self) -> AsyncIterator[Server | None]:
        """Serve health and metrics, as far as they are wanted."""
        server = Server(self._listen, ()) if self._listen else None
        if server is not None:
            await server.start()
        end_metrics = serve_metrics("127.0.0.1", self._metrics_port)[1] if self._metrics_port else None
        try:
            yield server
        finally:
            if server is not None:
                await server.stop(0.5)
            if end_metrics is not None:
                end_metrics()

    @contextlib.asynccontextmanager
    async def _open_channels(self) -> AsyncIterator[list[grpc.aio.Channel]]:
        channels = [open_channel(each, tls=self._tls, token=self._token) for each in self.engines]
        try:
            yield channels
        finally:
            for channel in channels:
                await channel.close()

    async def _until_stopped(self, server: Server | None) -> None:
        """Update the health until the stop: the worker is ready while an engine can send it work."""
        told: tuple[bool, str] | None = None
        while not self._stopped.is_set() and not self._is_replaced:
            found = self.is_connected, self.told
            if server is not None and found != told:
                told = found
                await server.set_ready(found[0], reason="" if found[0] else found[1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READINESS_S):
                    await self._stopped.wait()

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        """Accept nothing more, wait for actions within the grace period, send their outcomes, give back the rest.

        The outcomes of a session that another one has replaced are not sent.
        """
        for session in self._sessions:
            session.leaving = True
        for connection in self._connections:
            connection.stop_taking()
        idle = asyncio.create_task(self._wait_idle())
        at_once = asyncio.create_task(self._stops_at_once.wait())
        grace_s = 0 if self._is_replaced else self._grace_s
        await asyncio.wait([idle, at_once], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        at_once.cancel()
        for connection in self._connections:
            connection.release()
        await asyncio.wait(tasks, timeout=PARTING_S)

    async def _wait_idle(self) -> bool:
        await asyncio.gather(*(each.wait_idle() for each in self._sessions))
        return True


def _all_actions(given: Iterable[AnyAction | ModuleType]) -> Iterator[AnyAction]:
    for each in given:
        if isinstance(each, Action):
            yield each
        elif isinstance(each, ModuleType):
            found = list(actions_of(each))
            if not found:
                raise ValueError(f"the module {each.__name__} has no actions")
            yield from found
        else:
            raise TypeError(f"{each!r} is no action: decorate it with @action('pack.name')")


def _exit(code: int) -> None:
    """End the process. The interpreter would wait for threads that cannot be stopped without a limit."""
    _log.warning("actions that were stopped still run: the process ends without them")
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _refuse_in_child() -> None:
    """Raise if this is a child process of an isolated action, which loads the program again."""
    is_loading = getattr(multiprocessing.current_process(), "_inheriting", False)
    if is_loading or multiprocessing.parent_process() is not None:
        raise RuntimeError("the program starts its worker when it is imported: put it under if __name__ == '__main__':")
