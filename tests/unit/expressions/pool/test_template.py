"""The process that the pool's processes are forked from."""

from __future__ import annotations

import socket
import subprocess
import sys


def test_template_whose_pool_has_gone_before_it_was_ready_ends_without_a_word() -> None:
    """When an engine is killed in its first second, no traceback of its template stands in the log."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "dalsegno.expressions.pool.template"],
            stdin=theirs.fileno(),
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")
