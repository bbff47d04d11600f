"""Contexts in which the last arrival is merged over the earlier ones (`Merge.LAST_ARRIVED`).

A variable remembers its newest writes, and each write the writes before it. Where branches meet, the writes of the
branch that arrives later are merged over the value of the earlier one, but only the writes that the earlier one does
not have, so that a value from before the fork never covers a newer one. Dicts are merged key by key, everything else is
replaced (orquesta/README.md#contexts). Branches that wrote nothing since their fork share their cells.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import immutables

from dalsegno.workflow.contexts.context import merge_by
from dalsegno.workflow.value import Value


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A value that was written to a variable, and the writes that it was merged over."""

    number: float
    """The revision that wrote it: later writes have greater numbers; 0: the value at the start."""
    value: object
    before: tuple[Write, ...] = ()
    cover: Cover | None = None
    """Of one that stands for many that every context has, or none: what they replaced. It has no value then."""


@dataclass(frozen=True, slots=True)
class Layered:
    """One variable: its value, and the newest writes that it is made of."""

    value: object
    heads: tuple[Write, ...]


Layers = immutables.Map[str, Layered]

Cover = bool | dict[str, "Cover"]
"""What writes replace of a value: all of it (true), or these members of it."""

_LEFT, _RIGHT, _BOTH = 1, 2, 3


def publish(context: Layers, number: float, values: Mapping[str, Value], initial: Callable[[str], object]) -> Layers:
    """Return the context after a publish. `initial` gives the value of a variable at the start; KeyError: it had
    none."""
    draft = context.mutate()
    for name, value in values.items():
        cell = draft.get(name) or _at_start(name, initial)
        if cell is None:
            draft[name] = Layered(value.data, (Write(number, value.data),))
        else:
            draft[name] = Layered(deep_merge(cell.value, value.data), (Write(number, value.data, cell.heads),))
    return draft.finish()


def _at_start(name: str, initial: Callable[[str], object]) -> Layered | None:
    try:
        value = initial(name)
    except KeyError:
        return None
    return Layered(value, (Write(0, value),))


def merge(left: Layers, right: Layers) -> Layers:
    """Merge what the branch that arrived later has written over the context of the earlier one."""
    return merge_by(left, right, _merge_cells)


def _merge_cells(left: Layered, right: Layered) -> Layered:
    value = left.value
    for write in _unseen(left.heads, right.heads):
        value = deep_merge(value, write.value)
    heads = {write.number: write for write in (*left.heads, *right.heads)}
    return Layered(value, tuple(heads.values()))


def _unseen(left: tuple[Write, ...], right: tuple[Write, ...]) -> list[Write]:
    """Return the writes of `right` that `left` does not have, in the order in which `right` merged them."""
    return merged_order(right, _unknown(left, right))


def merged_order(heads: Iterable[Write], among: set[float] | None = None) -> list[Write]:
    """Return the writes that lead to these, in the order in which they were merged; `among`: only of these numbers."""
    found: list[Write] = []
    seen: set[float] = set()
    waiting = [(write, False) for write in reversed([*heads])]
    while waiting:
        write, is_ready = waiting.pop()
        if is_ready:
            found.append(write)
        elif write.number not in seen and (among is None or write.number in among):
            seen.add(write.number)
            waiting.append((write, True))
            waiting += [(before, False) for before in reversed(write.before)]
    return found


def _unknown(left: Iterable[Write], right: Iterable[Write]) -> set[float]:
    """Return the numbers of the writes of `right` that `left` does not have.

    Walk both histories from the newest write backwards, no further than to where they were one.
    """
    sides: dict[float, int] = {}
    writes: dict[float, Write] = {}
    waiting: list[float] = []
    alone = 0
    """How many of the writes to visit belong to one side only."""

    def meet(write: Write, side: int) -> None:
        nonlocal alone
        known = sides.get(write.number)
        if known is None:
            writes[write.number] = write
            heapq.heappush(waiting, -write.number)
            alone += side != _BOTH
        else:
            alone -= known != _BOTH and known | side == _BOTH
        sides[write.number] = side | (known or 0)

    for write in left:
        meet(write, _LEFT)
    for write in right:
        meet(write, _RIGHT)
    unknown: set[float] = set()
    while alone and waiting:
        number = -heapq.heappop(waiting)
        side = sides[number]
        alone -= side != _BOTH
        if side == _RIGHT:
            unknown.add(number)
        for write in writes[number].before:
            meet(write, side)
    return unknown


def deep_merge(under: object, over: object) -> object:
    """Merge one value over another: dicts key by key, everything else is replaced."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    merged = dict(under)
    for key, member in over.items():
        merged[key] = deep_merge(merged[key], member) if key in merged else member
    return merged
