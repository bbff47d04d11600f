"""Names of processes, by which an engine knows that another one, on the same machine, is gone."""

from __future__ import annotations

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_GONE_STATES = ("Z", "X")


def own_process() -> str:
    """Return the name of this process: machine (since its start), process namespace, number and start. Empty: this
    system cannot tell."""
    try:
        started = _state_and_start(os.getpid())[1]
        return f"{_BOOT.read_text().strip()} {_namespace()} {os.getpid()} {started}"
    except (OSError, ValueError, IndexError):
        return ""


def is_gone(process: str) -> bool:
    """Return whether a process has certainly ended. One of another machine or namespace cannot be seen."""
    parts, own = process.split(), own_process().split()
    if not own or parts[:2] != own[:2]:
        return False
    number, started = int(parts[2]), parts[3]
    try:
        os.kill(number, 0)
        state, start = _state_and_start(number)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError):
        return False  # there is one that may not be looked at
    return start != started or state in _GONE_STATES


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _state_and_start(number: int) -> tuple[str, str]:
    """Return the state of a process, and its start in ticks since that of the machine."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]
