"""What executions have discarded, and how it is removed: in slices, so that no transaction grows with an execution.

A discard that is not removed as a whole in its own transaction is stored as ranges of numbers of tasks. No query shows
what lies in them, nor the ended executions below; hidden.py has the conditions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from dalsegno.store.row_batch import decode_entries, encode_entries
from dalsegno.store.rows import digests
from dalsegno.workflow.codec import Texts, encode_changes
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey

SLICE_ROWS = 1_000
"""How many rows a transaction removes."""

DETACHED = 0
"""The task that a child has whose attempt is discarded, but not its task. Every discard includes this number."""


class Left(Enum):
    """What a slice has left."""

    NOTHING = "nothing"
    MORE = "more"
    """The next slice can go on at once."""
    WAITING = "waiting"
    """Only executions that are not at rest, or that others use now."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What one slice has removed."""

    executions: Sequence[str]
    """The ids of the executions that do not exist any more."""
    left: Left


@dataclass(frozen=True, slots=True)
class Gone:
    """What is discarded of an execution."""

    execution_id: str
    root_id: str
    first_sequence: int
    """Entries and changes before it are discarded."""
    ranges: Sequence[tuple[int, int]]
    """The first and the last number of tasks that are discarded, in order. They begin with DETACHED."""

    @property
    def last(self) -> int:
        """Return the last number that is discarded."""
        return self.ranges[-1][1]

    @property
    def kept(self) -> list[int]:
        """Return the numbers between that are kept."""
        pairs = zip(self.ranges, self.ranges[1:], strict=False)
        return [number for (_, last), (first, _) in pairs for number in range(last + 1, first)]

    def has(self, task: int) -> bool:
        """Return whether a task is discarded."""
        return any(first <= task <= last for first, last in self.ranges)


def gone_of(execution: Execution, discarded: Discarded) -> Gone:
    """Return what a discard has discarded, with all that was discarded before."""
    return Gone(execution.id, execution.root_id, discarded.sequence, ranges(discarded.task_count, discarded.kept))


def ranges(count: int, kept: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges of the numbers from 0 to `count` that are not kept."""
    found: list[tuple[int, int]] = []
    first = DETACHED
    for number in sorted(kept):
        if number > first:
            found.append((first, number - 1))
        first = number + 1
    return [*found, (first, count)] if first <= count else found


def names_child(execution: Execution, key: AttemptKey, child_id: str) -> bool:
    """Return whether the attempt that created a child, or a later one of the same item, still has it."""
    task = execution.tasks.get(key[0])
    last = key[2] if task is None else max(key[2], task.last_attempt)
    later = (execution.attempts.get((key[0], key[1], number)) for number in range(key[2], last + 1))
    return any(attempt is not None and attempt.child_id == child_id for attempt in later)


@dataclass(frozen=True, slots=True)
class NewRow:
    """A journal row that begins with Consolidated."""

    entries: str
    changes: str
    texts: Texts
    """The large texts of Consolidated."""
    unused: Collection[str]
    """The digests of the large texts that the row has had and has not any more."""


def begin_with(consolidated: Consolidated, first: int, entries: str, changes: str) -> NewRow:
    """Return a journal row, whose first change has the sequence `first`, as it is when Consolidated takes the place of
    the change with its sequence and of all before it."""
    written: list[msgspec.Raw] = msgspec.json.decode(changes, type=list[msgspec.Raw])
    gone = consolidated.entry.sequence - first
    aside = Texts()
    beginning = encode_changes([consolidated], aside)[1:-1]
    parts = [beginning, *(bytes(each).decode() for each in written[gone + 1 :])]
    text = f"[{','.join(parts)}]"
    had = {digest for each in written[: gone + 1] for digest in digests(bytes(each).decode())}
    return NewRow(_without_first(entries, gone), text, aside, had.difference(digests(text)))


def _without_first(entries: str, count: int) -> str:
    """Return the entries of a journal row without its first changes."""
    kept = []
    for entry in decode_entries(entries):
        left = entry.count - count
        count = max(0, -left)
        if left > 0:
            kept.append(msgspec.structs.replace(entry, count=left))
    return encode_entries(kept)
