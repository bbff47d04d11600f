"""No memory of a service on a disk: it may hold what inputs, results and tokens say."""

from __future__ import annotations

import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4


def write_none() -> None:
    """Let no crash write the memory of this process to a file, or hand it to the system's collector of such files.

    Other processes of the same user can then read neither its memory nor its environment, and only root can attach a
    debugger or a profiler. What it forks is like it; a program that it starts writes no core file either, unless that
    program allows itself one, and is open to its user again.
    """
    _, hardest = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hardest))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
