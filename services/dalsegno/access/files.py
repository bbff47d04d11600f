"""Files that are read again when they change."""

from __future__ import annotations

import os

Stamp = tuple[int, int, int]


def stamp_of(path: str) -> Stamp | None:
    """Return what differs once a file has changed; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
