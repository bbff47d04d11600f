"""Freed memory returns to the machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from tests.integration.engines import until

from dalsegno.rpc import memory


async def test_memory_goes_back_after_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has grown returns memory three times; another one does not."""
    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(memory, "give_back", lambda: None)
    size, let_go = 100, 0
    monkeypatch.setattr(memory, "resident_bytes", lambda: size << 20)

    def count() -> None:
        nonlocal let_go
        let_go += 1

    looking = asyncio.create_task(memory.give_back_now_and_then(count))
    await asyncio.sleep(0.1)
    assert let_go == 0
    size = 200
    await until(lambda: let_go >= memory.LOOKS)
    await asyncio.sleep(0.1)
    assert let_go == memory.LOOKS
    looking.cancel()


async def test_memory_goes_back_after_something_large_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any growth: what was dropped may be in cycles that no collection of new objects finds."""
    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 100 << 20)
    looks, dropped = 0, [True]

    def count() -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(memory, "give_back", count)
    looking = asyncio.create_task(memory.give_back_now_and_then(lambda: None, lambda: bool(dropped and dropped.pop())))
    await until(lambda: looks >= memory.LOOKS)
    await asyncio.sleep(0.1)
    looking.cancel()
    assert looks == memory.LOOKS


async def test_busy_process_is_looked_through_whole_when_it_has_little_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection stops all threads, so it waits until the process uses little of its core."""
    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.01)
    looks = 0

    def count() -> None:
        nonlocal looks
        looks += 1

    is_large, is_busy = False, True
    monkeypatch.setattr(memory, "give_back", count)
    monkeypatch.setattr(memory, "resident_bytes", lambda: (100 if looks else 200 if is_large else 100) << 20)
    monkeypatch.setattr(time, "process_time", lambda: time.monotonic() if is_busy else 0.0)
    looking = asyncio.create_task(memory.give_back_now_and_then(lambda: None))
    await asyncio.sleep(0.05)
    is_large = True
    await asyncio.sleep(0.1)
    assert looks == 0
    is_busy = False
    await until(lambda: looks >= memory.LOOKS)
    await asyncio.sleep(0.1)
    looking.cancel()
    assert looks == memory.LOOKS


def test_what_cycles_keep_is_given_back() -> None:
    """A hundred megabytes that only a cycle keeps are freed."""
    # In a process of its own: what other tests have left running here takes memory too.
    program = """
from dalsegno.rpc import memory
memory.give_back()
before = memory.resident_bytes()
for _ in range(100):
    cycle = [bytearray(b"x" * (1 << 20))]
    cycle.append(cycle)
grown = memory.resident_bytes() - before
del cycle
memory.give_back()
print(grown, memory.resident_bytes() - before)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    grown, left = map(int, ended.stdout.split())
    assert grown > 80 << 20
    assert left < 20 << 20


def test_threads_allocate_from_one_arena() -> None:
    """A thread that is started after `share_one_arena` has no arena of its own, as it has without."""
    assert [_count_arenas("share_one_arena()"), _count_arenas("pass")] == [1, 2]


def _count_arenas(first: str) -> int:
    """Return how many arenas a new process has in which a thread allocates after this statement."""
    program = f"""
import ctypes, threading
from dalsegno.rpc.memory import share_one_arena
{first}
thread = threading.Thread(target=lambda: bytearray(100_000))
thread.start()
thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.count(b"<heap nr=")
