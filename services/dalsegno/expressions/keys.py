"""Equality keys: equal values have equal keys, so that a look-up finds them.

Python hashes texts with a secret of the process, but numbers by their value: an author can choose
numbers that all collide, so that a set of them takes time that grows with the square of their count. So numbers are
looked up as bytes, which are hashed like texts.
"""

from __future__ import annotations

from collections.abc import Mapping

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.integers import bounded

SMALL = 1 << 20
"""Integers below it rarely collide."""
COMPARED_PER_STEP = 8
"""Keys that are compared in the time of one step."""


def key_of(budget: Budget, value: object) -> object:
    """Return a hashable key; keys are equal exactly if their values are, such as 1, 1.0 and true."""
    kind = type(value)
    if kind is str:
        budget.read(value)  # type: ignore[arg-type]
        return value
    if isinstance(value, int):
        return b"%x" % bounded(budget, value)
    if isinstance(value, float):
        if value.is_integer():
            return b"%x" % int(value)
        return value.hex().encode() if value == value else value  # no NaN is equal to another
    if isinstance(value, (list, tuple)):
        budget.step(1 + len(value))
        return ("list", *[key_of(budget, item) for item in value])
    if isinstance(value, Mapping):
        budget.step(1 + 2 * len(value))
        return ("dict", frozenset((key_of(budget, key), key_of(budget, item)) for key, item in value.items()))
    if isinstance(value, (set, frozenset)):
        budget.step(1 + len(value))
        return frozenset(key_of(budget, item) for item in value)
    return value


def pay_for_key(budget: Budget, key: object, held: int) -> None:
    """Count a look-up of a dict's key among others; it may be compared with all of them.

    In the pool this is not counted, because the time limit is enough.
    """
    if type(key) is str:
        budget.read(key)
    elif budget.is_here and not (key is None or (isinstance(key, int) and -SMALL < key < SMALL)):
        budget.step(held // COMPARED_PER_STEP)
