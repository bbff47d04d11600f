"""What the processes of services have in common."""

from __future__ import annotations

import asyncio
import gc
import signal


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, from now on."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def collect_garbage_rarely() -> None:
    """Collect garbage rarely. Calls leave no cycles, and cached executions are many small objects without cycles:
    frequent collections cost a fifth of an engine's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
