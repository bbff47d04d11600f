"""Return memory to the operating system after a large request.

Otherwise the process keeps freed memory: Python rarely collects cycles (exceptions with their frames, parsed
documents) while few objects are made, and the allocator keeps freed blocks.

A full collection stops every thread, for some 200 ms per million objects. So each second only new objects are
collected, and those that remain are collected again only when the process has little to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

COLLECT_EVERY_S = 1.0
LOOK_EVERY_S = 10.0
GROWTH_BYTES = 32 * 1024 * 1024
"""After this growth since the last return of memory a process tries again."""

LOOKS = 3
"""The number of tries: a large object may still be in use at first."""

IDLE_SHARE = 0.2
"""A process that uses a smaller share of a core counts as idle: it makes a full collection."""

BUSY_LOOKS_MAX = 30
MUCH_BYTES = 256 * 1024 * 1024
"""After this number of tries without being idle, or this growth, it makes a full collection anyway."""

LARGE_BYTES = 256 * 1024

_log = logging.getLogger(__name__)


def resident_bytes() -> int:
    """Return the memory that this process has now; 0 if it is unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Collect cycles, and return free memory to the operating system, if the allocator can."""
    gc.unfreeze()
    collect_new()
    trim()


def collect_new() -> None:
    """Collect cycles among new objects; the objects that remain are not examined again."""
    gc.collect()
    gc.freeze()


def trim() -> None:
    """Return free memory to the operating system, if the allocator can. Other threads run meanwhile."""
    if _trim is not None:
        _trim(0)


async def give_back_now_and_then(
    clear_caches: Callable[[], None], has_dropped: Callable[[], bool] = lambda: False
) -> None:
    """Collect new cycles each second, and return memory whenever the process has grown, until cancelled.

    `clear_caches` empties caches. `has_dropped`: whether something large was dropped since the last call.
    """
    collecting = asyncio.create_task(_collect_now_and_then())
    try:
        await return_when_grown(clear_caches, has_dropped)
    finally:
        collecting.cancel()


async def _collect_now_and_then() -> None:
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        if gc.get_count()[1]:  # the collector has run since, so there are new objects
            collect_new()


async def return_when_grown(
    clear_caches: Callable[[], None] = lambda: None, has_dropped: Callable[[], bool] = lambda: False
) -> None:
    """Return memory whenever the process has grown, until cancelled.

    A process that collects cycles itself uses this alone. `collect_new` each second would exempt objects that are in
    use at that time from all later collections, large bodies too.

    `clear_caches` empties caches. `has_dropped`: whether something large was dropped since the last call.
    """
    map_large_blocks()
    least, looks_left, busy_looks = resident_bytes(), 0, 0
    while True:
        began, used_s = time.monotonic(), time.process_time()
        await asyncio.sleep(LOOK_EVERY_S)
        before = resident_bytes()
        least = min(least, before)
        if has_dropped() or before - least > GROWTH_BYTES:
            looks_left = LOOKS
        if not looks_left:
            continue
        is_idle = time.process_time() - used_s < IDLE_SHARE * (time.monotonic() - began)
        if is_idle or busy_looks == BUSY_LOOKS_MAX or before - least > MUCH_BYTES:
            looks_left -= 1
            busy_looks = 0
            clear_caches()
            give_back()
            least = resident_bytes()
            _log.debug("memory given back", extra={"before": before, "after": least})
        else:
            busy_looks += 1
            trim()


def map_large_blocks() -> None:
    """Make the allocator map blocks of LARGE_BYTES and more separately, so that each is returned when it is freed.

    By default it stops this after a large block has been freed, and keeps the space between the other blocks.
    """
    if _mallopt is not None:
        _mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


def share_one_arena() -> None:
    """Make all threads that are started from now on allocate from one arena. Call this before they are started.

    An arena of a thread grows by a few pages at a time, each time by a system call: in an engine that is one for each
    step that loads an execution. It also keeps what its thread has freed from the other threads.
    """
    if _mallopt is not None:
        _mallopt(_ARENA_MAX, 1)


def _find(name: str) -> ctypes._NamedFuncPointer | None:
    try:
        found: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # another C library
        return None
    return found


_trim = _find("malloc_trim")
_mallopt = _find("mallopt")
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
