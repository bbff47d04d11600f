"""Run a service that ends when the process that started it ends, for any reason.

Run as a file, not imported: `python -I -S parent_watch.py PARENT_PID PROGRAM ARGUMENT...`. It asks the kernel (Linux)
to send SIGTERM when the parent dies, then becomes the program. The parent cannot do this between fork and exec:
that needs code that runs after fork, which is unsafe with threads and gRPC.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Bind this process to its parent and run the program in its place. Raises OSError if it cannot be run."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It died before the registration.
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
