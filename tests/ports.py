"""Ports for services that are killed and started again on the same one."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 10_000, 32_000
"""Below those that the system gives to whoever asks for any port: while a service is down, a connection of another test
would take such a one, and the service could not come back."""

_random = random.SystemRandom()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on. Two calls, also in two processes, hardly return the same."""
    while True:
        port = _random.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def free_address() -> str:
    """Return host:port of a free port."""
    return f"127.0.0.1:{free_port()}"
