"""The variables that tasks see of each other, merged by how often they were published.

A context maps each variable to a cell: its value and, for each leaf of it, how often that leaf was published along the
branch. Where branches meet, the leaf that was published more often wins; on a tie the branch merged first wins
(mistral/README.md#contexts). Contexts share structure: a task that publishes one variable costs one cell, however large
the context is; branches that published nothing since their fork share one context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import immutables
import msgspec

from dalsegno.workflow.value import Value


class Cell(msgspec.Struct, frozen=True):
    """One variable."""

    value: object
    versions: Mapping[str, int]
    """The number of publishes along the branch for each leaf (its path below the variable, '' for the variable
    itself)."""


Context = immutables.Map[str, Cell]
EMPTY_CONTEXT: Context = immutables.Map()


def publish(context: Context, values: Mapping[str, Value]) -> Context:
    """Return the context after a publish: each name is replaced as a whole, each leaf is counted once more."""
    if not values:
        return context
    draft = context.mutate()
    for name, value in values.items():
        old = draft.get(name)
        versions = dict(old.versions) if old is not None else {}
        for path in _leaves(value.data, ""):
            versions[path] = versions.get(path, 0) + 1
        draft[name] = Cell(value.data, versions)
    return draft.finish()


def merge(left: Context, right: Context) -> Context:
    """Merge the variables of both branches; decide those that are in both leaf by leaf."""
    return merge_by(left, right, _merge_cells)


AnyCell = TypeVar("AnyCell")


def merge_by(
    left: immutables.Map[str, AnyCell],
    right: immutables.Map[str, AnyCell],
    merge_cells: Callable[[AnyCell, AnyCell], AnyCell],
) -> immutables.Map[str, AnyCell]:
    """Merge two maps: keep what is in one of them, and merge the cells that are in both. Equal parts are shared."""
    if left is right or not right:
        return left
    if not left:
        return right
    draft = left.mutate()
    for name, cell in right.items():
        mine = draft.get(name)
        if mine is None:
            draft[name] = cell
        elif mine is not cell:
            draft[name] = merge_cells(mine, cell)
    return draft.finish()


def _merge_cells(left: Cell, right: Cell) -> Cell:
    value = _merge_values(left, right, left.value, right.value, "")
    versions = dict(left.versions)
    for path, count in right.versions.items():
        if count > versions.get(path, 0):
            versions[path] = count
    return Cell(value, versions)


def _merge_values(left: Cell, right: Cell, mine: object, theirs: object, path: str) -> object:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        merged = dict(mine)
        for key, member in theirs.items():
            if key not in merged:
                merged[key] = member
            elif merged[key] is not member:
                merged[key] = _merge_values(left, right, merged[key], member, f"{path}.{key}")
        return merged
    return theirs if right.versions.get(path, 0) > left.versions.get(path, 0) else mine


def _leaves(value: object, path: str) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [path]
    return [leaf for key, member in value.items() for leaf in _leaves(member, f"{path}.{key}")]
