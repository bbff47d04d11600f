"""`python -m dalsegno.executor`: one executor as a process."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from dalsegno.actions.registry import load_registry
from dalsegno.executor.metrics import Metrics
from dalsegno.executor.settings import Settings, read_settings
from dalsegno.executor.worker import Executor
from dalsegno.rpc import logs
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.server import CannotListen, Server

_log = logging.getLogger("dalsegno.executor")

READINESS_S = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an executor until SIGTERM or SIGINT. The exit code: 0, or 1 when it cannot begin or has been replaced."""
    settings = read_settings(arguments)
    logs.set_up("executor", settings.log_level)
    try:
        return asyncio.run(_serve(settings))
    except (CannotListen, OSError) as error:
        print(error, file=sys.stderr)
        return 1


async def _serve(settings: Settings) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Server(settings.listen, ()) if settings.listen else None
    if server is not None:
        await server.start()
    end_metrics = serve_metrics("127.0.0.1", settings.metrics_port)[1] if settings.metrics_port else None
    executor = Executor(settings, load_registry(), Metrics())
    executor.start()
    print(f"executor {settings.id} works for {', '.join(settings.engines)}", flush=True)
    await _until_stopped(executor, server, stopped)
    _log.info("stopping", extra={"executor": settings.id})
    await executor.stop()
    if server is not None:
        await server.stop(0.5)
    if end_metrics is not None:
        end_metrics()
    return 1 if executor.is_superseded else 0


async def _until_stopped(executor: Executor, server: Server | None, stopped: asyncio.Event) -> None:
    """Health follows the streams: the executor is ready while any engine can send it work."""
    was_ready = False
    while not stopped.is_set() and not executor.is_superseded:
        if server is not None and executor.is_connected != was_ready:
            was_ready = executor.is_connected
            await server.set_ready(was_ready)
        try:
            async with asyncio.timeout(READINESS_S):
                await stopped.wait()
        except TimeoutError:
            continue


if __name__ == "__main__":
    sys.exit(main())
