"""Rows of the journal as numbered changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dalsegno.store.batch import decode_entries
from dalsegno.store.records import JournalChange
from dalsegno.workflow.changes import AnyChange


def numbered(first: int, entries: str, changes: Sequence[AnyChange]) -> Iterator[JournalChange]:
    """The changes of one row, each with its number and what its step was."""
    sequence = first
    for entry in decode_entries(entries):
        for change in changes[sequence - first : sequence - first + entry.count]:
            yield JournalChange(sequence, entry.at_s, entry.actor, entry.comment, entry.event, change)
            sequence += 1


def bounded(rows: Iterable[tuple[int, list[JournalChange]]], limit: int, bytes_max: int) -> list[JournalChange]:
    """The changes of these rows (each with its size in bytes) until there are enough; those of one row at least."""
    found: list[JournalChange] = []
    total = 0
    for size, changes in rows:
        total += size
        if found and total > bytes_max:
            break
        found += changes[: limit - len(found)]
        if len(found) >= limit:
            break
    return found
