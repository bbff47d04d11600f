"""`python -m dalsegno.executor`: one executor as a process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence

from dalsegno.actions import grpc, http
from dalsegno.actions.registry import load_registry
from dalsegno.executor.settings import Settings, read_settings
from dalsegno.rpc import logs
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.server import CannotListen, Server
from dalsegno.worker.connection import Connection
from dalsegno.worker.metrics import Metrics
from dalsegno.worker.session import Session

_log = logging.getLogger("dalsegno.executor")

READINESS_S = 0.2
PARTING_S = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an executor until SIGTERM or SIGINT. Return the exit code: 0, or 1 if it cannot start or was replaced."""
    settings = read_settings(arguments)
    logs.set_up("executor", settings.log_level)
    try:
        code, stuck_threads = asyncio.run(_serve(settings))
    except (CannotListen, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if stuck_threads:
        # The interpreter would wait for these threads without a limit.
        _log.warning("%d actions that were stopped still run: the executor ends without them", stuck_threads)
        logging.shutdown()
        os._exit(code)
    return code


async def _serve(settings: Settings) -> tuple[int, int]:
    """Serve, and return the exit code and the number of threads that are still busy."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Server(settings.listen, ()) if settings.listen else None
    if server is not None:
        await server.start()
    end_metrics = serve_metrics("127.0.0.1", settings.metrics_port)[1] if settings.metrics_port else None
    session = Session(
        settings.id,
        load_registry(allowed=settings.allow, files=_files(settings)),
        settings.engines,
        slots=settings.slots,
        threads=settings.threads,
        labels=settings.labels,
        metrics=Metrics(),
    )
    channels = [open_channel(engine) for engine in settings.engines]
    connections = [
        Connection(session, engine, channel) for engine, channel in zip(settings.engines, channels, strict=True)
    ]
    tasks = [asyncio.create_task(connection.run()) for connection in connections]
    print(f"executor {settings.id} works for {', '.join(settings.engines)}", flush=True)
    await _until_stopped(session, connections, server, stopped)
    _log.info("stopping", extra={"executor": settings.id})
    await _leave(session, connections, tasks, settings.grace_s)
    for channel in channels:
        await channel.close()
    if server is not None:
        await server.stop(0.5)
    if end_metrics is not None:
        end_metrics()
    return int(session.superseded.is_set()), session.runner.stuck_threads


async def _until_stopped(
    session: Session, connections: list[Connection], server: Server | None, stopped: asyncio.Event
) -> None:
    """Update the health until the stop: the executor is ready while an engine can send it work."""
    was_ready = False
    while not stopped.is_set() and not session.superseded.is_set():
        ready = any(connection.is_connected for connection in connections)
        if server is not None and ready != was_ready:
            was_ready = ready
            await server.set_ready(was_ready)
        try:
            async with asyncio.timeout(READINESS_S):
                await stopped.wait()
        except TimeoutError:
            continue


async def _leave(
    session: Session, connections: list[Connection], tasks: list[asyncio.Task[None]], grace_s: float
) -> None:
    """Accept nothing more, wait for actions within the grace period, send their outcomes, give back the rest.

    The outcomes of a session that another one has replaced are not sent.
    """
    session.leaving = True
    for connection in connections:
        connection.stop_taking()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0 if session.superseded.is_set() else grace_s):
            await session.wait_idle()
    for connection in connections:
        connection.release()
    await asyncio.wait(tasks, timeout=PARTING_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await session.runner.close(1.0)
    await http.close()
    await grpc.close()


def _files(settings: Settings) -> grpc.Files:
    """Return the files of grpc.call."""
    return grpc.Files(settings.grpc_ca, settings.grpc_cert, settings.grpc_key, settings.grpc_descriptors)


if __name__ == "__main__":
    sys.exit(main())
