"""Read definitions in separate processes, so that a long one does not delay other callers.

A short text may be read here: that takes less than a tenth of a second. What another process has read comes back
compiled, but for its expressions, each of which is compiled when it is evaluated first.
"""

from __future__ import annotations

import gc
import pickle
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from dalsegno.definitions.document import Document, Member, load_stored, read, signature_of
from dalsegno.definitions.load import may_have_anchors
from dalsegno.expressions.pool.pool import Pool

MODULE = "dalsegno.definitions.reading"
"""What a pool that reads definitions must have imported."""
SHORT_CHARACTERS = 16 * 1024
READ_S = 60.0
"""Seconds by the clock for reading one definition."""
READ_MIB = 600
"""Address space for that: the longest definition takes some 300 MiB."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text to be read."""

    text: str
    name: str = ""
    """See document.read."""
    is_outline: bool = False
    """Whether the caller wants of the members their kinds, names and what they take, and with them what they call."""


def is_short(text: str) -> bool:
    """Whether reading the text takes next to nothing. Anchors make much of little."""
    return len(text) <= SHORT_CHARACTERS and not may_have_anchors(text)


def begin(pool: Pool, reading: Reading) -> Future[bytes]:
    """Have a text read in a process of the pool: a pickled Document. The future raises CallFailed when it takes too
    much; cancelling it ends the process."""
    return pool.call(
        f"{MODULE}:read_pickled",
        pickle.dumps(reading),
        shown="reading the definition",
        limit_s=READ_S,
        memory_mib=READ_MIB,
    )


def read_here(reading: Reading) -> Document:
    """Read a text in this thread: for short ones."""
    document = read(reading.text, name=reading.name, with_calls=reading.is_outline)
    if reading.is_outline:
        members = tuple(Member(each.kind, each.name, takes=signature_of(each)) for each in document.members)
        document = replace(document, members=members)
    return document


def read_pickled(argument: bytes) -> bytes:
    """Read a pickled Reading and give a pickled Document: what the process does."""
    return pickle.dumps(read_here(pickle.loads(argument)), pickle.HIGHEST_PROTOCOL)


def unpickle(pickled: bytes) -> Any:
    """What another process has pickled. Nothing of it is looked at by the collector, now or later: it has no cycles,
    and everybody would stand still for the time that it takes."""
    gc.disable()
    try:
        return pickle.loads(pickled)
    finally:
        gc.freeze()
        gc.enable()


def load_pickled(argument: bytes) -> bytes:
    """Give a member of a stored text, pickled, for its text, its name and its kind: what the process does."""
    return pickle.dumps(load_stored(*pickle.loads(argument)), pickle.HIGHEST_PROTOCOL)
