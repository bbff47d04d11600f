"""Read definitions in separate processes, so that a long one does not delay other callers.

A short text may be read in this process: that takes less than a tenth of a second. A document from another process is
compiled, except its expressions: each is compiled at its first evaluation.
"""

from __future__ import annotations

import gc
import pickle
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from dalsegno.definitions.document import Document, Member, MemberKind, load_stored, read, signature_of
from dalsegno.definitions.load import may_have_anchors
from dalsegno.expressions.pool.pool import Pool

MODULE = "dalsegno.definitions.reading"
"""The module that a pool must import to read definitions."""
SHORT_CHARACTERS = 16 * 1024
READ_S = 60.0
"""The time for reading one definition, in seconds."""
READ_MIB = 600
"""The address space for that: the longest definition needs some 300 MiB."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text to be read."""

    text: str
    name: str = ""
    """See document.read."""
    is_outline: bool = False
    """Whether the caller needs only the kinds, names, inputs and calls of the members."""


def is_short(text: str) -> bool:
    """Return whether the text is read quickly. A text with anchors is not: they can make it large."""
    return len(text) <= SHORT_CHARACTERS and not may_have_anchors(text)


def begin(pool: Pool, reading: Reading) -> Future[bytes]:
    """Read a text in a process of the pool: a pickled Document. The future raises CallFailed if it exceeds a limit;
    cancelling it ends the process."""
    return pool.call(
        f"{MODULE}:read_pickled",
        pickle.dumps(reading),
        shown="reading the definition",
        limit_s=READ_S,
        memory_mib=READ_MIB,
    )


def read_here(reading: Reading) -> Document:
    """Read a short text in this thread."""
    document = read(reading.text, name=reading.name, with_calls=reading.is_outline)
    if reading.is_outline:
        members = tuple(Member(each.kind, each.name, takes=signature_of(each)) for each in document.members)
        document = replace(document, members=members)
    return document


def read_pickled(argument: bytes) -> bytes:
    """Read a pickled Reading and return a pickled Document; runs in the process."""
    return pickle.dumps(read_here(pickle.loads(argument)), pickle.HIGHEST_PROTOCOL)


def unpickle(pickled: bytes) -> Any:
    """Return the object that another process has pickled. The garbage collector ignores it: it has no cycles, and a
    collection would stop all threads."""
    gc.disable()
    try:
        return pickle.loads(pickled)
    finally:
        gc.freeze()
        gc.enable()


def begin_load(pool: Pool, text: str, name: str, kind: MemberKind, version: int) -> Future[bytes]:
    """Load one member of a stored text in a process of the pool: a pickled Member. The future raises CallFailed if it
    exceeds a limit."""
    return pool.call(
        f"{MODULE}:load_pickled",
        pickle.dumps((text, name, kind)),
        shown=f"compiling {kind.value} {name} version {version}",
        limit_s=READ_S,
        memory_mib=READ_MIB,
    )


def load_pickled(argument: bytes) -> bytes:
    """Return a pickled member of a stored text, for its text, name and kind; runs in the process."""
    return pickle.dumps(load_stored(*pickle.loads(argument)), pickle.HIGHEST_PROTOCOL)
