"""Memory goes back to the machine when a large request has been handled.

What was freed stays with the process otherwise: Python looks for cycles (exceptions with their frames, parsed
documents) seldom while few objects are made, and the allocator keeps what it was given.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path

LOOK_EVERY_S = 10.0
GROWTH_BYTES = 32 * 1024 * 1024
"""A process that has grown by so much since it gave back memory last looks again for what it can give."""

LOOKS = 3
"""So often it then looks: what was large may still be in use at first."""

_log = logging.getLogger(__name__)


def resident_bytes() -> int:
    """The memory that this process has now; 0 where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Free what is kept by cycles only, and return what is free to the machine, where the allocator can."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # what is left will last: nobody waits until the collector has looked through it again
    if _trim is not None:
        _trim(0)  # lets other threads run meanwhile


async def give_back_now_and_then(let_go: Callable[[], None]) -> None:
    """Give memory back whenever the process has grown, until cancelled. `let_go` drops what can be made again."""
    least, looks_left = resident_bytes(), 0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        before = resident_bytes()
        least = min(least, before)
        if before - least > GROWTH_BYTES:
            looks_left = LOOKS
        if looks_left:
            looks_left -= 1
            let_go()
            give_back()
            least = resident_bytes()
            _log.debug("memory given back", extra={"before": before, "after": least})


def _find_trim() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None


_trim = _find_trim()
