"""`python -m dalsegno.api`: one api as a process."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

from dalsegno import core_files
from dalsegno.api.service import Api
from dalsegno.api.settings import Settings, read_settings
from dalsegno.rpc import logs
from dalsegno.rpc.exits import CANNOT_RUN
from dalsegno.rpc.memory import share_one_arena
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.options import warning_of
from dalsegno.rpc.process import collect_garbage_rarely, interrupt_nobody, run, stop_event
from dalsegno.rpc.server import CannotListen
from dalsegno.store.opening import open_store
from dalsegno.store.store import Store, StoreDamaged, StoreNewer, StoreOutdated, StoreUnreachable

_log = logging.getLogger("dalsegno.api")

STORE_WAIT_S = 15.0
"""How long an api waits at its start for the engine to create the tables."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an api until SIGTERM or SIGINT. Return the exit code: 0; 1 if it cannot start; CANNOT_RUN if it could not
    start at another time either."""
    share_one_arena()
    settings = read_settings(arguments)
    core_files.write_none()
    logs.set_up("api", settings.log_level)
    if warning := warning_of(settings.database):
        _log.warning("%s", warning)
    try:
        store = _open(settings)
    except (ValueError, StoreOutdated, StoreUnreachable) as error:
        print(error, file=sys.stderr)
        return CANNOT_RUN if isinstance(error, StoreDamaged | StoreNewer) else 1
    try:
        run(_serve(settings, store))
    except (CannotListen, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        store.close()
    return 0


def _open(settings: Settings) -> Store:
    """Open the store for reading, after waiting until it has the tables of this version."""
    store = open_store(settings.database or None, read_only=True, readers=settings.readers)
    ends_s = time.monotonic() + STORE_WAIT_S
    while True:
        try:
            store.check_version()
        except (StoreOutdated, StoreUnreachable) as error:
            if time.monotonic() > ends_s or isinstance(error, StoreDamaged | StoreNewer):
                raise
            time.sleep(0.1)
        else:
            return store


async def _serve(settings: Settings, store: Store) -> None:
    stopped = stop_event()
    collect_garbage_rarely()
    interrupt_nobody()
    api = Api(settings, store)
    await api.start()
    host = settings.listen.rpartition(":")[0]
    end_metrics = serve_metrics(host, settings.metrics_port)[1] if settings.metrics_port else None
    print(f"api listening on {host}:{api.port}", flush=True)
    _log.info("listening", extra={"address": f"{host}:{api.port}", "engines": ", ".join(settings.engines)})
    await stopped.wait()
    _log.info("stopping")
    await api.stop()
    if end_metrics is not None:
        end_metrics()


if __name__ == "__main__":
    sys.exit(main())
