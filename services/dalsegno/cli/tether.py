"""Starts a service that dies with the process that started it, however that one ends.

Run as a file, not imported: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT...`. It asks the kernel (Linux) to send
SIGTERM when the parent dies, then becomes the program. Doing this between fork and exec of the parent itself would need
code that runs after fork, which threads and gRPC do not take well.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program. Raises OSError when that cannot be run."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It died before the kernel was told.
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
