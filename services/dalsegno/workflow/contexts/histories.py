"""The writes of one variable in several contexts, made fewer (see trimming.py).

A merge asks two things of a context: which writes it has, and in which order it merged them (layers.py). So the writes
of a cell can as well be a list in that order, and fewer writes are as good as long as the contexts differ by the same
values in the same order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

from dalsegno.workflow.contexts.layers import Cover, Layered, Write, deep_merge, merged_order

START = 0
"""The number of the value at the start, which is the first that is merged."""


class Histories:
    """The writes of some cells: those of each cell in the order in which they were merged."""

    def __init__(self, cells: Iterable[Layered]) -> None:
        self.cells = {id(cell): cell for cell in cells}
        self._writes: dict[float, Write] = {}
        self._orders: dict[int, list[float]] = {}
        for key, cell in self.cells.items():
            order = merged_order(cell.heads)
            self._orders[key] = [write.number for write in order]
            self._writes |= {write.number: write for write in order}

    def known(self, cell: Layered) -> set[float]:
        """Return the numbers of all writes that the cell is made of."""
        return set(self._orders[id(cell)])

    def cover(self, cell: Layered) -> Cover:
        """Return what the cell's writes replace of the value at the start."""
        return self._covered(self._orders[id(cell)])

    def collapse(self, known: Collection[float]) -> None:
        """Have one write without a value stand for these, because nobody asks for their values."""
        gone = {number for number in known if number != START}
        if len(gone) < 2:
            return
        number = max(gone)
        self._writes[number] = Write(number, None, cover=self._covered(gone))
        for key, order in self._orders.items():
            if not gone.isdisjoint(order):
                self._orders[key] = [each for each in order if each not in gone or each == number]

    def shorten(self) -> None:
        """Put writes into one that directly follow each other wherever there is one of them."""
        found_in: dict[float, set[int]] = {}
        for key, order in self._orders.items():
            for number in order:
                found_in.setdefault(number, set()).add(key)
        together = Counter(pair for order in self._orders.values() for pair in pairwise(order))
        made: dict[float, Write] = {}
        for key, order in self._orders.items():
            runs: list[Write] = []
            last = -1.0
            for number in order:
                is_together = runs and found_in[last] == found_in[number]
                if is_together and together[last, number] == len(found_in[number]):
                    joined = _joined(runs[-1], self._writes[number])
                    runs[-1:] = [runs[-1], self._writes[number]] if joined is None else [joined]
                else:
                    runs.append(self._writes[number])
                last = number
            self._orders[key] = [run.number for run in runs]
            made |= {run.number: made.get(run.number, run) for run in runs}
        self._writes = made

    def begin_with(self, value: object, *, exists: bool) -> None:
        """Have all writes be merged over another value at the start, or (not `exists`) over none."""
        first: list[float] = [START] if exists else []
        self._writes[START] = Write(START, value)
        for key, order in self._orders.items():
            self._orders[key] = [*first, *(number for number in order if number != START)]

    def made(self, values: Mapping[int, object]) -> dict[int, Layered]:
        """Return the cells with these values and the writes as they are now, by the ids of those that they replace."""
        writes = {number: Write(number, each.value, cover=each.cover) for number, each in self._writes.items()}
        return {
            key: Layered(value, tuple(writes[number] for number in self._orders[key])) for key, value in values.items()
        }

    def _covered(self, numbers: Iterable[float]) -> Cover:
        found: Cover = {}
        for number in numbers:
            write = self._writes[number]
            if number != START:
                found = _union(found, _replaced(write.value) if write.cover is None else write.cover)
        return found


def _joined(first: Write, then: Write) -> Write | None:
    """Return one write that gives the same as one after the other; None: there is none."""
    if START in (first.number, then.number) or first.cover is not None or then.cover is not None:
        return None
    if not _fit(first.value, then.value):
        return None
    return Write(max(first.number, then.number), deep_merge(first.value, then.value))


def _fit(under: object, over: object) -> bool:
    """Return whether merging one value and then the other gives the same as merging both of them together: not where a
    dict replaces something else, for it would be merged into what is under that."""
    if not isinstance(over, dict):
        return True
    return isinstance(under, dict) and all(key not in under or _fit(under[key], each) for key, each in over.items())


def _replaced(value: object) -> Cover:
    """Return what writing this replaces: a dict is merged key by key, anything else replaces all."""
    return {key: _replaced(member) for key, member in value.items()} if isinstance(value, dict) else True


def _union(one: Cover, other: Cover) -> Cover:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return True
    return {**one, **{key: _union(one[key], each) if key in one else each for key, each in other.items()}}


def shown(value: object, cover: Cover, start: object) -> object:
    """Return a value made by writes that replace this much, as it is over another value at the start."""
    if not isinstance(cover, dict):
        return value
    assert isinstance(value, dict), "what is merged key by key is a dict"
    found = dict(start) if isinstance(start, dict) else {}
    for key, each in cover.items():
        found[key] = shown(value[key], each, found.get(key))
    return found
