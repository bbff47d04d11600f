"""`python -m dalsegno.gateway`: one gateway as a process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from dalsegno import core_files
from dalsegno.gateway.settings import Settings, read_settings
from dalsegno.rpc import logs
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.process import collect_garbage_rarely, run, stop_event
from dalsegno.rpc.server import CannotListen

MISSING = "the gateway is not installed: pip install 'dalsegno[gateway]'"

_log = logging.getLogger("dalsegno.gateway")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a gateway until SIGTERM or SIGINT. Return the exit code: 0, or 1 if it cannot start."""
    settings = read_settings(arguments)
    core_files.write_none()
    logs.set_up("gateway", settings.log_level)
    try:
        run(_serve(settings))
    except (CannotListen, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in ("connectrpc", "hypercorn"):
            raise
        print(MISSING, file=sys.stderr)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    from dalsegno.gateway.service import Gateway  # needs the extra

    stopped = stop_event()
    gateway = Gateway(settings)
    await gateway.start()
    collect_garbage_rarely()
    host = settings.listen.rpartition(":")[0]
    end_metrics = serve_metrics(host, settings.metrics_port)[1] if settings.metrics_port else None
    print(f"gateway listening on {gateway.scheme}://{host}:{gateway.port}", flush=True)
    _log.info("listening", extra={"address": f"{host}:{gateway.port}", "apis": ", ".join(settings.apis)})
    await stopped.wait()
    _log.info("stopping")
    await gateway.stop()
    if end_metrics is not None:
        end_metrics()


if __name__ == "__main__":
    sys.exit(main())
