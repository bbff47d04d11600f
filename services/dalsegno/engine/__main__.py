"""`python -m dalsegno.engine`: one engine as a process."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from dalsegno import core_files
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings, read_settings
from dalsegno.rpc import logs
from dalsegno.rpc.exits import CANNOT_RUN
from dalsegno.rpc.memory import share_one_arena
from dalsegno.rpc.metrics import serve_metrics
from dalsegno.rpc.options import warning_of
from dalsegno.rpc.process import collect_garbage_rarely, run, stop_event
from dalsegno.rpc.server import CannotListen
from dalsegno.secrets.keys import UnfitKeys
from dalsegno.store.opening import open_store
from dalsegno.store.store import Store, StoreDamaged, StoreLocked, StoreNewer, StoreOutdated, StoreUnreachable

_log = logging.getLogger("dalsegno.engine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an engine until SIGTERM or SIGINT. Return the exit code: 0; 1 when it cannot begin, or when another one
    has ended it; CANNOT_RUN when it could not begin at another time either."""
    share_one_arena()
    settings = read_settings(arguments)
    core_files.write_none()
    logs.set_up("engine", settings.log_level)
    if warning := warning_of(settings.database):
        _log.warning("%s", warning)
    try:
        store = open_store(settings.database or None)
    except (ValueError, StoreUnreachable) as error:
        return _tell(error)
    try:
        store.hold_engine_lock()
        if not store.upgrade():
            _log.info("the tables of the store are of a later version, which this one can use")
        return run(_serve(settings, store))
    except (StoreLocked, StoreOutdated, StoreUnreachable, CannotListen, UnfitKeys, OSError) as error:
        return _tell(error)
    finally:
        store.close()


def _tell(error: Exception) -> int:
    """Print why the engine cannot begin. Return the exit code."""
    print(error, file=sys.stderr)
    return CANNOT_RUN if isinstance(error, StoreDamaged | StoreNewer | UnfitKeys) else 1


SWITCH_S = 0.001
"""How long the conductor keeps the interpreter from the event loop at most. Each message waits for it several times."""


async def _serve(settings: Settings, store: Store) -> int:
    stopped = stop_event()
    collect_garbage_rarely()
    sys.setswitchinterval(SWITCH_S)
    engine = Engine(settings, store, is_only_engine=not settings.database.startswith("postgres"))
    await engine.start()
    host = settings.listen.rpartition(":")[0]
    end_metrics = serve_metrics(host, settings.metrics_port)[1] if settings.metrics_port else None
    print(f"engine listening on {host}:{engine.port}", flush=True)
    _log.info("listening", extra={"address": f"{host}:{engine.port}", "engine": engine.id})
    waits = [asyncio.create_task(each.wait()) for each in (stopped, engine.ended)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()
    _log.info("stopping")
    await engine.stop()
    if end_metrics is not None:
        end_metrics()
    return 1 if engine.ended.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
