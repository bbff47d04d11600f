"""Contexts without the history that no later merge can see (decision 24).

The contexts that are trimmed together are all those that may still meet. Every later context is made of them, so it is
enough that each merge of theirs gives the same values as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import immutables

from dalsegno.workflow.contexts.context import Cell
from dalsegno.workflow.contexts.histories import Histories, shown
from dalsegno.workflow.contexts.layers import Layered
from dalsegno.workflow.contexts.portable import AnyContext


def trimmed(contexts: Sequence[AnyContext], base: AnyContext | None) -> tuple[list[AnyContext], AnyContext | None]:
    """Return the same contexts with as little history as possible. Contexts that are one object stay one.

    `base` is only ever the left one of a merge: nobody asks what it alone has. A variable that is missing in one of the
    `contexts` may still be published there, so all contexts that may publish are needed, empty ones too.
    """
    every: list[AnyContext] = [*contexts] if base is None else [*contexts, base]
    different = [*{id(context): context for context in contexts}.values()]
    cells: dict[int, Cell | Layered] = {}
    for name in dict.fromkeys(name for context in every for name in context):
        mine = [context.get(name) for context in different]
        own = None if base is None else base.get(name)
        some = next(cell for cell in (*mine, own) if cell is not None)
        if isinstance(some, Layered):
            cells |= _less_written(cast(Sequence[Layered | None], mine), cast(Layered | None, own))
        else:
            cells |= _less_counted(cast(Sequence[Cell | None], mine), cast(Cell | None, own))
    found = with_cells(every, cells)
    return (found, None) if base is None else (found[:-1], found[-1])


def with_cells(contexts: Iterable[AnyContext], cells: dict[int, Cell | Layered]) -> list[AnyContext]:
    """Return the contexts with other cells in place of those with these ids."""
    made: dict[int, AnyContext] = {}
    found: list[AnyContext] = []
    for context in contexts:
        if id(context) not in made:
            named = {name: cells.get(id(cell), cell) for name, cell in context.items()}
            made[id(context)] = cast(AnyContext, immutables.Map(named))
        found.append(made[id(context)])
    return found


def _less_counted(cells: Sequence[Cell | None], base: Cell | None) -> dict[int, Cell | Layered]:
    """Subtract from all counts what they have in common: only differences decide (context.py)."""
    every = [cell for cell in (*cells, base) if cell is not None]
    if None in cells:
        return {}  # it would be counted from 0 there
    first, *others = every
    common = {
        path: min([count, *(cell.versions.get(path, 0) for cell in others)]) for path, count in first.versions.items()
    }
    return {
        id(cell): Cell(
            cell.value,
            {path: left for path, count in cell.versions.items() if (left := count - common.get(path, 0))},
        )
        for cell in every
    }


def _less_written(cells: Sequence[Layered | None], base: Layered | None) -> dict[int, Cell | Layered]:
    """Have one write stand for all that every context has, another one for all that only `base` has, and one for those
    that always follow each other."""
    mine = [cell for cell in cells if cell is not None]
    every = mine if base is None else [*mine, base]
    histories = Histories(every)
    known = [histories.known(cell) for cell in every]
    if None not in cells:
        histories.collapse(set.intersection(*known))
    if base is not None:
        histories.collapse(histories.known(base).difference(*(histories.known(cell) for cell in mine)))
    histories.shorten()
    return {**histories.made({key: cell.value for key, cell in histories.cells.items()})}


def rebased(contexts: Sequence[AnyContext], initial: Callable[[str], object]) -> list[AnyContext]:
    """Return the contexts as they are when variables have other values at the start. `initial` raises KeyError for one
    that has none. Contexts that do not remember the start stay as they are."""
    cells: dict[int, Cell | Layered] = {}
    for name in dict.fromkeys(name for context in contexts for name in context):
        named = (context.get(name) for context in contexts)
        histories = Histories(cell for cell in named if isinstance(cell, Layered))
        covers = {key: histories.cover(cell) for key, cell in histories.cells.items()}
        start: object = None
        try:
            start = initial(name)
        except KeyError:
            histories.begin_with(None, exists=False)
        else:
            histories.begin_with(start, exists=True)
        cells |= histories.made({key: shown(cell.value, covers[key], start) for key, cell in histories.cells.items()})
    return with_cells(contexts, cells)
