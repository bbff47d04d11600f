"""Hosts, as requests name them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


def name_of(host: str) -> str:
    """Return the name in a Host header, without the port.

    >>> [name_of(each) for each in ("localhost:7702", "[::1]:7702", "[::1]", "Example.COM.", "")]
    ['localhost', '::1', '::1', 'example.com', '']
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


@lru_cache(maxsize=1024)
def is_loopback(name: str) -> bool:
    """Return whether a host is this machine by its name or address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
