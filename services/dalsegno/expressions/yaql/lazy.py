"""Sequences that are computed when they are iterated, as in YAQL.

Sequences can depend on each other without a limit (`aggregate($1.select($))`), and each item then passes through all of
them, in C, where the stack can overflow. So each has the number of its sources, and one with too many is computed at
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

STACKED = 20
"""The maximum number of sequences that depend on each other."""


class Lazy(chain[Any]):
    """An iterator that depends on other iterators."""

    __slots__ = ("depth",)

    depth: int
    """The number of iterators that depend on each other here."""


def stack(items: Iterator[Any], *sources: object) -> Iterator[Any]:
    """Return the items, computed from the sources: lists, or results of this function."""
    depth = depth_of(sources[0]) if len(sources) == 1 else max(map(depth_of, sources))
    if depth == 0:
        return items
    stacked = Lazy(items)
    stacked.depth = depth + 1
    return stacked


SINGLE = frozenset({map, filter})
"""Types of iterators over a list."""


def depth_of(items: object) -> int:
    """Return the number of sequences that depend on each other here: 0 for computed values."""
    if type(items) in SINGLE:
        return 1
    if type(items) is list:
        return 0
    depth: int = getattr(items, "depth", -1)
    return depth if depth >= 0 else int(isinstance(items, Iterator))


def is_deep(items: object) -> bool:
    """Return whether no further sequence may depend on the items."""
    return type(items) not in SINGLE and getattr(items, "depth", 0) >= STACKED
