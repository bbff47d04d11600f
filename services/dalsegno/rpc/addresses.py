"""The form of addresses."""

from __future__ import annotations


def is_address(address: str) -> bool:
    """Return whether this has the form of an address to listen on. (grpc takes port 70000 for 4464.)

    >>> [is_address(each) for each in ("127.0.0.1:7700", ":0", "unix:/run/engine", "127.0.0.1", "a:70000", "a:http")]
    [True, True, True, False, False, False]
    """
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    _, colon, port = address.rpartition(":")
    return bool(colon) and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535
