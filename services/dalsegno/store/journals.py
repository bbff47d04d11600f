"""Journal rows as numbered changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dalsegno.store.records import JournalChange
from dalsegno.store.row_batch import decode_entries
from dalsegno.store.rows import digests
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import Texts, decode_changes, encode_changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.value import byte_length

CHANGE_BYTES = 300
"""Estimated bytes of a change in a message, without its values."""


class WrittenChanges(NamedTuple):
    """Changes of one execution as they are stored. Those of many are read by one query, and most are decoded later."""

    rows: Sequence[str]
    texts: Texts
    """By digest: the large values that the rows refer to, and perhaps others."""

    def decoded(self) -> list[AnyChange | Consolidated]:
        """Return the changes."""
        return [change for row in self.rows for change in decode_changes(row, self.texts)]


class JournalRow(NamedTuple):
    """A row of the journal as it is stored, and the changes of it that are asked for."""

    written: str
    texts: Mapping[str, str]
    """By digest: the large values that the row refers to."""
    changes: list[JournalChange]

    def size(self) -> int:
        """Return the size of the row's changes in messages, in bytes."""
        return bytes_in_messages(self.written, self.texts)


def number_changes(first: int, entries: str, changes: Sequence[AnyChange | Consolidated]) -> Iterator[JournalChange]:
    """Yield the changes of one row, each with its number and its step."""
    sequence = first
    for entry in decode_entries(entries):
        for change in changes[sequence - first : sequence - first + entry.count]:
            yield JournalChange(sequence, entry.at_s, entry.actor, entry.comment, entry.event, change)
            sequence += 1


def bytes_in_messages(written: str, texts: Mapping[str, str]) -> int:
    """Return the size of a row's changes in messages. A value that occurs in several changes is stored once and sent
    with each."""
    sizes = {digest: byte_length(text) for digest, text in texts.items()}
    return byte_length(written) + sum(sizes.get(digest, 0) for digest in digests(written))


def changes_of(rows: Iterable[JournalRow], until: int | None) -> list[AnyChange | Consolidated]:
    """Return the changes of these rows, up to the one with the number `until`."""
    found: list[AnyChange | Consolidated] = []
    for row in rows:
        changes = row.changes
        if until is not None and changes[-1].sequence >= until:
            return [*found, *(each.change for each in changes if each.sequence <= until)]
        found += (each.change for each in changes)
    return found


def first_changes(rows: Iterable[JournalRow], limit: int, bytes_max: int) -> list[JournalChange]:
    """Return the changes of these rows until there are enough. Return at least one."""
    found: list[JournalChange] = []
    total = 0
    for row in rows:
        wanted = row.changes[: limit - len(found)]
        size = row.size() + sum(map(_frame_bytes, wanted))
        if total + size > bytes_max:
            return [*found, *_first(wanted, bytes_max - total, least=not found)]
        total += size
        found += wanted
        if len(found) >= limit:
            break
    return found


def _first(changes: Iterable[JournalChange], bytes_max: int, *, least: bool) -> Iterator[JournalChange]:
    """Yield the first changes of a row. `least`: yield one of them even if it is too large."""
    total = 0
    for change in changes:
        aside = Texts()
        total += _frame_bytes(change) + bytes_in_messages(encode_changes([change.change], aside), aside)
        if total > bytes_max and not least:
            return
        least = False
        yield change


def _frame_bytes(change: JournalChange) -> int:
    return CHANGE_BYTES + byte_length(change.actor) + byte_length(change.comment)
