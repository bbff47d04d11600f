"""Tasks that run beside the calls of a service for as long as it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

AGAIN_S = 1.0
"""So long after a failure a task begins again, in seconds."""

_log = logging.getLogger(__name__)


def keep_running(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
    """Run `work` until it returns or the task is cancelled. Log a failure, and begin again.

    Without this the service would go on without the task, and nobody would know.
    """
    return asyncio.create_task(_keep_running(work, name), name=name)


async def _keep_running(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    while True:
        try:
            return await work()
        except Exception:
            _log.exception("%s has failed; it begins again in %g s", name, AGAIN_S)
            await asyncio.sleep(AGAIN_S)
