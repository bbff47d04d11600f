"""`python -m dalsegno.gateway`: one gateway as a process."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence

from dalsegno.gateway.settings import Settings, read_settings
from dalsegno.rpc import logs
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.server import CannotListen

MISSING = "the gateway is not installed: pip install 'dalsegno[gateway]'"

_log = logging.getLogger("dalsegno.gateway")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a gateway until SIGTERM or SIGINT. Return the exit code: 0, or 1 if it cannot start."""
    settings = read_settings(arguments)
    logs.set_up("gateway", settings.log_level)
    try:
        asyncio.run(_serve(settings))
    except (CannotListen, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in ("connectrpc", "hypercorn"):
            raise
        print(MISSING, file=sys.stderr)
        return 1
    return 0


def _calm_the_collector() -> None:
    """Collect garbage rarely: calls leave no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


async def _serve(settings: Settings) -> None:
    from dalsegno.gateway.service import Gateway  # needs the extra

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    gateway = Gateway(settings)
    await gateway.start()
    _calm_the_collector()
    host = settings.listen.rpartition(":")[0]
    end_metrics = serve_metrics(host, settings.metrics_port)[1] if settings.metrics_port else None
    print(f"gateway listening on {gateway.scheme}://{host}:{gateway.port}", flush=True)
    _log.info("listening", extra={"address": f"{host}:{gateway.port}", "api": settings.api})
    await stopped.wait()
    _log.info("stopping")
    await gateway.stop()
    if end_metrics is not None:
        end_metrics()


if __name__ == "__main__":
    sys.exit(main())
