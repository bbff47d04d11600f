"""Tables for any width: values that do not fit into their columns are printed on lines below the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

GAP = 2
_INDENT = 2
_CELL_MAX = 32
"""The maximum width of a name in a terminal."""
_LINES_MAX = 6
"""The number of lines of a long text that are shown below its row at most."""
_PIPED_MAX = 2_000
READ_COLUMNS = {"COMMENT", "INFO", "INPUT", "LABELS", "DETAIL", "DESCRIPTION", "WHAT IT SHOWS", "QUESTION"}
"""Columns that users read but do not copy: they are shortened first."""
_REASONS = ("INFO", "DETAIL")
_REASONS_MIN = 12
_WHOLE = {"EXECUTION", "ID", "DEFINITION", "NUMBER", "TASK.ITEM.ATTEMPT", "STATE"}

Row = Sequence[Text]


def lay_out(columns: Sequence[str], rows: Sequence[Row], width: int | None) -> Iterator[Text]:
    """Yield the lines of a table, its header first. `width` in cells; None: nothing is folded, a row is a line."""
    used = [number for number in range(len(columns)) if any(row[number].plain for row in rows)]
    if width is None:
        yield from _table(columns, [[_cut(each, _PIPED_MAX) for each in row] for row in rows], used)
        return
    shown = [[each if _is_whole(columns, n) else _cut(each, _CELL_MAX) for n, each in enumerate(row)] for row in rows]
    beside = _beside(columns, shown, used, width)
    flexible = _flexible(columns, shown, [number for number in used if number not in beside], beside, width)
    below = [number for number in used if number not in {*beside, flexible}]
    room = width - _needed(columns, shown, beside) - GAP
    if flexible is not None:  # a value that is too long for this column is printed below its row
        beside.append(flexible)
        for row in shown:
            row[flexible] = row[flexible] if row[flexible].cell_len <= room else Text()
    for number, line in enumerate(_table(columns, shown, beside)):
        yield line
        if number:
            told = rows[number - 1]
            long = [flexible] if flexible is not None and told[flexible].cell_len > room else []
            yield from _lines_below(columns, told, [*long, *below], width)


def _flexible(
    columns: Sequence[str], rows: Sequence[Row], hidden: Sequence[int], beside: Sequence[int], width: int
) -> int | None:
    """Return the column of reasons, if there is room for it although some reasons do not fit; else None."""
    found = [number for number in hidden if columns[number] in _REASONS]
    room = width - _needed(columns, rows, beside) - GAP
    if not found or room < max(_REASONS_MIN, len(columns[found[0]])):
        return None
    fitting = sum(0 < row[found[0]].cell_len <= room for row in rows)
    return found[0] if fitting else None


def _needed(columns: Sequence[str], rows: Sequence[Row], beside: Sequence[int]) -> int:
    return sum(_width(columns, rows, each) for each in beside) + GAP * (len(beside) - 1)


def _beside(columns: Sequence[str], rows: Sequence[Row], used: list[int], width: int) -> list[int]:
    """Return the columns that fit on one line: first omit columns of long texts, then the last columns."""
    beside = list(used)
    give_way = [number for number in reversed(used) if columns[number] in READ_COLUMNS]
    give_way += [number for number in reversed(used[1:]) if columns[number] not in {*READ_COLUMNS, "STATE"}]
    give_way += [number for number in used[1:] if columns[number] == "STATE"]
    for number in give_way:
        if _needed(columns, rows, beside) <= width:
            break
        beside.remove(number)
    return beside


def _is_whole(columns: Sequence[str], number: int) -> bool:
    return number == 0 or columns[number] in _WHOLE or columns[number] in READ_COLUMNS


def _table(columns: Sequence[str], rows: Sequence[Row], chosen: Sequence[int]) -> Iterator[Text]:
    widths = {number: _width(columns, rows, number) for number in chosen}
    yield _line([Text(columns[number], style="bold") for number in chosen], list(widths.values()))
    for row in rows:
        yield _line([row[number] for number in chosen], list(widths.values()))


def _width(columns: Sequence[str], rows: Sequence[Row], number: int) -> int:
    return max([cell_len(columns[number]), *(row[number].cell_len for row in rows)])


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        line.append_text(cell)
        if any(each.plain for each in cells[number + 1 :]):
            line.append(" " * (width - cell.cell_len + GAP))
    return line


def _lines_below(columns: Sequence[str], row: Row, below: Sequence[int], width: int) -> Iterator[Text]:
    """Yield the values of a row that do not fit: long texts alone, other values with their column's name."""
    for number in below:
        if not row[number].plain:
            continue
        told = row[number].copy()
        if columns[number] not in READ_COLUMNS - {"COMMENT", "LABELS"}:
            told = Text(f"{columns[number].lower()} ", style="dim").append_text(told)
        yield from fold(told, width, _INDENT, _LINES_MAX)


def fold(text: Text, width: int | None, indent: int = 0, most: int | None = None) -> Iterator[Text]:
    """Yield a text as lines of at most `width` cells (None: one line), indented; after `most` lines, `…`."""
    room = None if width is None else max(10, width - indent)
    lines = [text] if room is None or text.cell_len <= room else list(text.wrap(_RULER, room, tab_size=4))
    for number, line in enumerate(lines[:most]):
        if len(lines) > 1:
            line.rstrip()
        if room is not None and number + 1 == most and len(lines) > most:
            line = _cut(Text(f"{line.plain} …", style=text.style), room)
        told = Text(" " * indent, no_wrap=True, overflow="ignore")
        yield told.append_text(line)


_RULER = Console(width=80)


def _cut(text: Text, width: int) -> Text:
    """Return the text in at most `width` cells; it ends with an ellipsis if it does not fit."""
    if text.cell_len <= width:
        return text
    return Text(set_cell_size(text.plain, width - 1).rstrip().removesuffix("…") + "…", style=text.style)
