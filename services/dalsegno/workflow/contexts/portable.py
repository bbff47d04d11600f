"""Contexts as they are stored: a table of cells and a table of writes, each only once, and contexts as names of cells.

Contexts that are read back behave the same in every later publish and merge, and share as much as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import immutables
import msgspec

from dalsegno.workflow.contexts.context import Cell, Context
from dalsegno.workflow.contexts.layers import Cover, Layered, Layers, Write
from dalsegno.workflow.value import Value

AnyContext = Context | Layers


class PortableCell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One variable."""

    value: Value
    versions: dict[str, int] | None = None
    """How often each leaf was published (context.py); None: the cell has writes instead."""
    heads: tuple[int, ...] = ()
    """The places of its newest writes in the table (layers.py)."""


class PortableWrite(msgspec.Struct, frozen=True, omit_defaults=True):
    """One write of a variable."""

    number: float
    value: Value | None = None
    """None: it stands for several, and `cover` says what they replaced."""
    before: tuple[int, ...] = ()
    """The places of the writes that it was merged over, which are before its own."""
    cover: Value | None = None


class Portable(msgspec.Struct, frozen=True, omit_defaults=True):
    """Several contexts, in the form in which they are stored."""

    cells: tuple[PortableCell, ...] = ()
    writes: tuple[PortableWrite, ...] = ()
    contexts: tuple[dict[str, int], ...] = ()
    """Each different context: its variables with the places of their cells."""
    order: tuple[int, ...] = ()
    """The place of each context that was given among the different ones."""


class _Writer:
    """The tables, as far as they are filled."""

    def __init__(self) -> None:
        self.cells: dict[int, tuple[int, PortableCell]] = {}
        self.writes: dict[int, tuple[int, PortableWrite]] = {}
        self.contexts: dict[int, tuple[int, dict[str, int]]] = {}

    def context(self, context: AnyContext) -> int:
        """Return the place of the context."""
        known = self.contexts.get(id(context))
        if known is None:
            named = {name: self._cell(cell) for name, cell in sorted(context.items())}
            known = self.contexts[id(context)] = len(self.contexts), named
        return known[0]

    def _cell(self, cell: object) -> int:
        known = self.cells.get(id(cell))
        if known is None:
            if isinstance(cell, Cell):
                made = PortableCell(Value(data=cell.value), dict(cell.versions))
            else:
                assert isinstance(cell, Layered)
                made = PortableCell(Value(data=cell.value), heads=tuple(self._write(write) for write in cell.heads))
            known = self.cells[id(cell)] = len(self.cells), made
        return known[0]

    def _write(self, write: Write) -> int:
        waiting = [write]
        while waiting:  # not recursive: a history has any length
            top = waiting[-1]
            unknown = [each for each in top.before if id(each) not in self.writes]
            if unknown:
                waiting += unknown
                continue
            waiting.pop()
            if id(top) not in self.writes:
                before = tuple(self.writes[id(each)][0] for each in top.before)
                value, cover = (None, Value(data=top.cover)) if top.cover is not None else (Value(data=top.value), None)
                made = PortableWrite(top.number, value, before, cover)
                self.writes[id(top)] = len(self.writes), made
        return self.writes[id(write)][0]


def to_portable(contexts: Sequence[AnyContext]) -> Portable:
    """Return the contexts in the form in which they are stored."""
    writer = _Writer()
    order = tuple(writer.context(context) for context in contexts)
    return Portable(
        cells=tuple(cell for _, cell in writer.cells.values()),
        writes=tuple(write for _, write in writer.writes.values()),
        contexts=tuple(named for _, named in writer.contexts.values()),
        order=order,
    )


def from_portable(portable: Portable) -> list[AnyContext]:
    """Return the contexts that were stored, in the same order."""
    writes: list[Write] = []
    for each in portable.writes:
        before = tuple(writes[place] for place in each.before)
        value, cover = (None if one is None else one.data for one in (each.value, each.cover))
        writes.append(Write(each.number, value, before, cast(Cover | None, cover)))
    cells: list[Cell | Layered] = []
    for cell in portable.cells:
        if cell.versions is not None:
            cells.append(Cell(cell.value.data, cell.versions))
        else:
            cells.append(Layered(cell.value.data, tuple(writes[place] for place in cell.heads)))
    made = [
        cast(AnyContext, immutables.Map({name: cells[place] for name, place in named.items()}))
        for named in portable.contexts
    ]
    return [made[place] for place in portable.order]
