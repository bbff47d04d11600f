"""Command lines of programs that end when the test or the benchmark that starts them ends, also by kill -9.

    subprocess.Popen(tied(sys.executable, "-m", "dalsegno.engine"))

Run as a file with `USER PARENT_PID PROGRAM ARGUMENT...`, it becomes that user first.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys

from dalsegno.cli import parent_watch


def tied(program: str, *arguments: str, user: str | None = None) -> list[str]:
    """Return the command line that runs a program (a path, or a name on PATH), which gets SIGTERM when the thread that
    starts it ends (on Linux). `user` is whom it runs as, else the present one. Raises FileNotFoundError if there is no
    such program."""
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(program)
    bound = [str(os.getpid()), path, *arguments]
    if user is None:
        return [sys.executable, "-I", "-S", str(parent_watch.__file__), *bound]
    return [sys.executable, __file__, user, *bound]


def main(arguments: list[str]) -> None:
    """Become the user, then the program."""
    user = pwd.getpwnam(arguments[0])
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    parent_watch.main(arguments[1:])  # The kernel forgets the parent's death when the user changes: so this is last.


if __name__ == "__main__":
    main(sys.argv[1:])
