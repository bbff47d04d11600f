"""Print results: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import Message
from rich.text import Text

from dalsegno.cli.clean import one_line, visible
from dalsegno.cli.ids import mark_ids
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.screen import console
from dalsegno.cli.table import lay_out
from dalsegno.cli.values import document, pick, plain, pretty, raw, steps_of

STYLES = {
    "SUCCESS": "green",
    "ERROR": "bold red",
    "CANCELLED": "yellow",
    "CANCELLING": "yellow",
    "PAUSED": "magenta",
    "PAUSING": "magenta",
    "RUNNING": "cyan",
    "RUNNING_DELAYED": "blue",
    "WAITING": "dim",
    "IDLE": "dim",
    "READY": "dim",
    "SKIPPED": "yellow",
    "REVERTING": "yellow",
    "REVERTED": "yellow",
    "REVERT_ERROR": "bold red",
}
_WIDE_CELL = 60


def state_text(state: str) -> Text:
    """Return the name of a state in its colour."""
    return Text(state, style=STYLES.get(state, ""))


def short(value: object, width: int = _WIDE_CELL) -> str:
    """Return a value on one line of at most `width` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = one_line(" ".join(text.split()))
    return text if len(text) <= width else text[: width - 1] + "…"


def reason(info: str, width: int = _WIDE_CELL) -> str:
    """Return the reason of a state on one line: the innermost failure, if others caused it.

    >>> reason("Failure caused by error in tasks: lift\\n  lift: no crane")
    'lift: no crane'
    >>> reason("One or more actions had failed:\\n  2 of 9 failed: 3, 5: no crane\\n  1 of 9 failed: 7: no hook")
    '2 of 9 failed: 3, 5: no crane; 1 of 9 failed: 7: no hook'
    """
    lines = info.splitlines()
    found = causes(info)
    if found:
        return short("; ".join(found), width)
    if len(lines) > 1 and lines[0].startswith("Failure caused by"):
        lines = lines[-1:]
    return short(" ".join(lines), width)


def causes(info: str) -> list[str]:
    """Return the causes of failed items, a line each; none if it describes something else."""
    lines = info.splitlines()
    first = next((number for number, line in enumerate(lines) if line.endswith(_ITEMS_FAILED)), len(lines))
    return [line.strip() for line in lines[first + 1 :]]


_ITEMS_FAILED = "One or more actions had failed:"


def print_rows(
    form: Format, messages: Iterable[Message], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Print a list: a table of `rows` for people, the messages for programs; with `-k` this field of each."""
    if PRINTING.key:
        _print_picked(form, [_picked(message) for message in messages])
    elif form is not Format.TABLE:
        _write(document(form, [plain(message) for message in messages]))
    else:
        out = console()
        cells = [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
        for number, column in enumerate(columns):
            if column == "EXECUTION":
                for row, marked in zip(cells, mark_ids([row[number].plain for row in cells]), strict=True):
                    row[number] = marked
        for line in lay_out(columns, cells, out.fold_width) if cells else ():
            out.put(line)
        if not cells:
            console(error=True).print("none", style="dim")


def print_limit(found: Sequence[object], limit: int) -> None:
    """Print that there may be more than the limit (0: none)."""
    if limit and len(found) >= limit:
        print_note(f"only the first {limit} (--limit); --limit 0 prints all")


def _cell(column: str, value: object) -> Text:
    text = "" if value is None else one_line(str(value))
    return state_text(text) if column == "STATE" else Text(text)


def print_message(form: Format, message: Message) -> None:
    """Print a message with all its fields, or with `-k` this field."""
    if PRINTING.key:
        _print_picked(form, _picked(message))
    elif form is not Format.TABLE:
        _write(document(form, plain(message)))
    else:
        print_fields(plain(message))


def print_fields(data: Mapping[str, object]) -> None:
    """Print names and values: a short value beside its name, a value that is long or has lines below it."""
    out = console()
    width = max((len(name) for name in data), default=0)
    for name, value in data.items():
        label = Text(f"{name:{width}}  ", style="bold")
        if is_block(value):
            out.print_line(Text(name, style="bold"))
            out.print_block(pretty(value))
        else:
            shown = one_line(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            style = STYLES.get(shown, "not bold") if name == "state" else "not bold"
            out.print_line(label.append(shown, style=style), indent=width + 2)


def is_block(value: object) -> bool:
    """Return whether a value is printed on separate lines: it is long, or a text in it has many lines."""
    if isinstance(value, str):
        return "\n" in value
    if not isinstance(value, dict | list) or not value:
        return False
    text = json.dumps(value, ensure_ascii=False)
    return len(text) > _WIDE_CELL or "\\n" in text


def print_value(form: Format, value: object, *, exact: bool = False) -> None:
    """Print one value: raw for people and shells; `exact`: with its control characters."""
    if form is not Format.TABLE:
        _write(document(form, value))
        return
    text = raw(value)
    _write((text if exact else visible(text)) + ("" if exact or text.endswith("\n") else "\n"))


def _picked(message: Message) -> object:
    """Return the field of `-k`; None if it is empty in this message."""
    data, path = plain(message), PRINTING.key
    first = steps_of(path)[0]
    if first not in data and first in message.DESCRIPTOR.fields_by_name:
        return None
    return pick(data, path)


def _print_picked(form: Format, found: object) -> None:
    if form is not Format.TABLE:
        _write(document(form, found))
        return
    for value in found if isinstance(found, list) else [found]:
        text = "" if value is None else raw(value) if not isinstance(value, dict | list) else short(value, 2**31)
        _write(visible(text) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)


def print_note(text: str) -> None:
    """Print a note to standard error, so that a pipe gets the result only.

    It is not folded: users copy commands from it.
    """
    console(error=True).put(Text(one_line(text), style="dim"))
