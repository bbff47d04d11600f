"""The processes of a pool, as the system shows them: without asking the pool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 20.0
"""How long the tests wait for what must happen soon: the machine may be busy with other tests."""


def children(parent: int) -> list[int]:
    """The process ids of a process's children that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def templates(owner: int | None = None) -> list[int]:
    """The template processes of a process, this one by default."""
    named = b"dalsegno.expressions.pool.template"
    return [pid for pid in children(owner or os.getpid()) if named in command_of(pid)]


def command_of(pid: int) -> bytes:
    """The command line of a process, nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident_mib(pid: int) -> float:
    """What of a process is in memory, what it shares with others included; nothing when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def until(holds: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Return once it holds. Fails the test when that takes too long."""
    ends_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_s, "it has not come true"
        time.sleep(0.01)
