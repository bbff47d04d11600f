"""Identities inside the core: numbers shown as text, and ids of children, which are derived and not random."""

from __future__ import annotations

import hashlib
import uuid

AttemptKey = tuple[int, int, int]
"""Task number, item index (0 for a task without items), attempt number from 1."""


def task_id(execution_id: str, number: int) -> str:
    """Return the id that clients see: `<execution>.17`."""
    return f"{execution_id}.{number}"


def attempt_id(execution_id: str, key: AttemptKey) -> str:
    """Return the id that clients see: `<execution>.17.3.2`."""
    return f"{execution_id}.{key[0]}.{key[1]}.{key[2]}"


def parse_attempt_id(text: str) -> tuple[str, AttemptKey]:
    """Return the execution's id and the key. Raise ValueError for a text of another form."""
    execution_id, task, item, attempt = text.split(".")
    return execution_id, (int(task), int(item), int(attempt))


def derived_id(at_s: float, seed: str) -> str:
    """Return a UUIDv7 whose time is `at_s` (seconds since 1970) and whose other bits are a hash of the seed."""
    bits = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=10).digest(), "big")
    value = (int(at_s * 1000) & ((1 << 48) - 1)) << 80 | bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
