"""Ports for services that are killed and started again on the same one."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

LOWEST, HIGHEST = 10_000, 32_000
"""Below those that the system gives to whoever asks for any port: while a service is down, a connection of another test
would take such a one, and the service could not come back."""

_random = random.SystemRandom()
_taken: set[int] = set()
"""The ports that this process has given out."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on and that no other running test process gets from here. A
    service may take 10 s from here until it listens: without that rule, two tests now and then have the same port."""
    while True:
        port = _random.randint(LOWEST, HIGHEST)
        if port not in _taken and _reserve(port) and _is_free(port):
            _taken.add(port)
            return port


def free_address() -> str:
    """Return host:port of a free port."""
    return f"127.0.0.1:{free_port()}"


def _reserve(port: int) -> bool:
    """Lock the byte with the number of the port, until this process ends; return False if another process has it."""
    try:
        fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _lock_file() -> int:
    """Open the file of locks that all test processes of this user share; return its descriptor, which stays open."""
    path = Path(tempfile.gettempdir(), f"dalsegno-test-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _is_free(port: int) -> bool:
    """Return whether nobody listens on the port."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
