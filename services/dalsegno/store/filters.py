"""The filter of every list: terms separated by spaces, all of which must hold.

    state=RUNNING,ERROR workflow=pack.* label.team!="red, blue" created>=-1h30m

A term is a field, an operator and values separated by commas: `=` means any of the values, `!=` none of them.
Times also have `<`, `<=`, `>` and `>=`, with one value. protos/README.md has the grammar.
A filter is data here; listing.py makes SQL of it and snapshot.py applies it to each row.
"""

from __future__ import annotations

import json
import operator as operators
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal, get_args

from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import text_fault


class InvalidFilter(InvalidRequest):
    """A filter that cannot be read. The message says which term, where it begins (the first character is 1) and what is
    wrong."""

    def __init__(self, term: str, position: int, reason: str) -> None:
        super().__init__([Violation("filter", f"{term!r} at character {position}: {reason}")])
        self.term = term
        self.position = position


@dataclass(frozen=True, slots=True)
class Prefix:
    """Any text that begins with this one."""

    text: str


@dataclass(frozen=True, slots=True)
class Suffix:
    """Any text that ends with this one."""

    text: str


Wanted = str | int | float | bool | Prefix | Suffix
"""A value in a term."""


Operator = Literal["=", "!=", "<", "<=", ">", ">="]
_OPERATORS: Mapping[str, Operator] = {each: each for each in get_args(Operator)}


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on a column, or on a label or tag."""

    column: str
    operator: Operator
    values: tuple[Wanted, ...]
    label: str = ""
    """The label's key, when the column is `label`."""
    moment: str = field(default="", compare=False)
    """A time relative to now, as written. Terms with the same text are equal whenever they are read."""

    def admits(self, cells: Iterable[object]) -> bool:
        """Return whether a row fulfils the term. `cells`: its values in the column: one, none if it has no value, many
        for tags."""
        if self.operator in _ORDERS:
            compare = _ORDERS[self.operator]
            return any(compare(cell, value) for cell in cells for value in self.values)
        found = any(_equals(cell, value) for cell in cells for value in self.values)
        return found == (self.operator == "=")

    @property
    def identity(self) -> str:
        """Equal for terms with the same meaning."""
        return repr((self.column, self.operator, self.moment or self.values, self.label))


_ORDERS: dict[Operator, Callable[[Any, Any], bool]] = {
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def _equals(cell: object, value: Wanted) -> bool:
    match value:
        case Prefix(text=text):
            return isinstance(cell, str) and cell.startswith(text)
        case Suffix(text=text):
            return isinstance(cell, str) and cell.endswith(text)
    return cell == value


@dataclass(frozen=True, slots=True)
class Filter:
    """All terms must hold. Without terms it selects everything."""

    terms: tuple[Term, ...] = ()

    @property
    def identity(self) -> str:
        """Equal for filters with the same meaning. A page token is valid for one identity."""
        return "\n".join(term.identity for term in self.terms)

    @property
    def recurs(self) -> bool:
        """Whether it is one of the few that are used again and again: for one or two states, and for a flag."""
        return len(self.terms) <= _RECURRING_TERMS and all(
            each.column in _RECURRING and len(each.values) <= _RECURRING_VALUES for each in self.terms
        )


_RECURRING = frozenset({"state", "delegated", "revert"})
_RECURRING_TERMS = _RECURRING_VALUES = 2

EVERYTHING = Filter()


class Shape(Enum):
    """The form of the values of a field."""

    TEXT = "text"
    ID = "id"
    TIME = "time"
    NUMBER = "number"
    FLAG = "flag"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Field:
    """A field by which a list can be filtered."""

    column: str
    shape: Shape = Shape.TEXT
    words: tuple[str, ...] = ()
    """The only valid values, in any case. Empty: any value."""
    prefix: str = ""
    """The prefix of the words in the contract. It may be omitted."""


Fields = Mapping[str, Field]

LABEL = Field("label", Shape.LABEL)

EXECUTION_FIELDS: Fields = {
    "id": Field("id", Shape.ID),
    "state": Field("state", words=tuple(ExecutionState), prefix="EXECUTION_STATE_"),
    "workflow": Field("workflow"),
    "namespace": Field("namespace"),
    "label": LABEL,
    "root": Field("root_id", Shape.ID),
    "parent": Field("parent_id", Shape.ID),
    "created": Field("created_s", Shape.TIME),
    "ended": Field("ended_s", Shape.TIME),
    "paused_at": Field("paused_at"),
    "checkpoint": Field("checkpoint"),
    "forked_from": Field("forked_from", Shape.ID),
    "forks": Field("forks", Shape.ID),
}
TASK_FIELDS: Fields = {
    "state": Field("state", words=tuple(TaskState), prefix="TASK_STATE_"),
    "name": Field("name"),
    "superseded": Field("superseded", Shape.FLAG),
}
ATTEMPT_FIELDS: Fields = {
    "state": Field("state", words=tuple(AttemptState), prefix="ACTION_STATE_"),
    "action": Field("action"),
    "item": Field("item", Shape.NUMBER),
    "attempt": Field("attempt", Shape.NUMBER),
    "accepted": Field("accepted", Shape.FLAG),
    "delegated": Field("delegated", Shape.FLAG),
    "revert": Field("revert", Shape.FLAG),
    "alias": Field("alias"),
    "executor": Field("executor_id"),
}
STANDALONE_FIELDS: Fields = {**ATTEMPT_FIELDS, "namespace": Field("namespace"), "label": LABEL}
"""The fields of standalone attempts."""
DEFINITION_FIELDS: Fields = {
    "namespace": Field("namespace"),
    "name": Field("name"),
    "language": Field("language", words=("mistral", "orquesta"), prefix="LANGUAGE_"),
    "tag": Field("tag"),
    "created": Field("created_s", Shape.TIME),
}
ENVIRONMENT_FIELDS: Fields = {"namespace": Field("namespace"), "name": Field("name")}

_TERM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"])+')
_PARTS = re.compile(r"([a-z_]+)(?:\.([^=!<>\s]+))?(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_VALUE = re.compile(rf'{_QUOTED}\*?|[^,"]*')
_PAST = re.compile(r"-(?:[0-9]{1,9}[smhdw])+")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_END_OF_ID = re.compile(r"[0-9a-f-]{4,36}")


def check_closed(text: str) -> None:
    """Raise InvalidFilter if a quotation mark of a filter is not closed, so that it would go on in what follows."""
    for _ in _words(text):
        pass


def _words(text: str) -> Iterator[tuple[str, int]]:
    """Yield the terms of a filter, unread, with their positions. Raises InvalidFilter."""
    position = 0
    while True:
        position += len(text[position:]) - len(text[position:].lstrip())
        if position == len(text):
            return
        match = _TERM.match(text, position)
        end = match.end() if match is not None else position
        if match is None or text[end : end + 1] == '"':
            raise InvalidFilter(text[position:], position + 1, "a quotation mark is not closed")
        yield match.group(), position + 1
        position = end


def parse_filter(text: str, fields: Fields, now_s: float | None = None) -> Filter:
    """Read a filter. It may use these fields. Raises InvalidFilter.

    `now_s`: the time from which times like `-1h` count, in seconds since 1970; None: this machine's time.
    """
    now_s = time.time() if now_s is None else now_s
    return Filter(tuple(_parse_term(word, position, fields, now_s) for word, position in _words(text)))


def _parse_term(text: str, position: int, fields: Fields, now_s: float) -> Term:
    match = _PARTS.fullmatch(text)
    if match is None:
        raise InvalidFilter(text, position, "not of the form field=value")
    name, label, sign, written = match.groups()
    operator = _OPERATORS[sign]
    field = fields.get(name)
    if field is None or (label is not None) != (field.shape is Shape.LABEL):
        known = ", ".join("label.<key>" if each == "label" else each for each in fields)
        raise InvalidFilter(text, position, f"no such field; there are {known}")
    if operator in _ORDERS and field.shape is not Shape.TIME:
        raise InvalidFilter(text, position, f"{operator} is for times only")
    try:
        parts = _split(written)
        values = tuple(_value(each, field, now_s) for each in parts)
    except ValueError as error:
        raise InvalidFilter(text, position, str(error)) from None
    if operator in _ORDERS and len(values) > 1:
        raise InvalidFilter(text, position, f"{operator} takes one value")
    moment = written if any(isinstance(part, str) and _PAST.fullmatch(part) for part in parts) else ""
    return Term(field.column, operator, values, label or "", moment)


def _split(written: str) -> list[str | Prefix | Suffix]:
    """Split the values of a term. A `*` outside of quotation marks matches any characters."""
    values: list[str | Prefix | Suffix] = []
    position = 0
    while True:
        match = _VALUE.match(written, position)
        assert match is not None
        values.append(_read_value(match.group()))
        if match.end() == len(written):
            return values
        if written[match.end()] != ",":
            raise ValueError("a comma is missing between two values")
        position = match.end() + 1


def _read_value(text: str) -> str | Prefix | Suffix:
    quoted = text.startswith('"')
    begins = text.endswith("*") and not text.endswith('"')
    bare = text[:-1] if begins else text
    if quoted:
        bare = json.loads(bare)
    elif bare.startswith("*") and not begins:
        return Suffix(bare[1:])
    elif "*" in bare:
        raise ValueError("* is allowed at the end of a value only; put a value that contains it in quotation marks")
    return Prefix(bare) if begins else bare


def _value(value: str | Prefix | Suffix, field: Field, now_s: float) -> Wanted:
    if isinstance(value, Suffix):
        if field.shape is not Shape.ID:
            raise ValueError("* is allowed at the end of a value, and at its beginning only for ids")
        if not _END_OF_ID.fullmatch(value.text):
            raise ValueError(f"{value.text!r} is not the end of an id: 4 or more of 0-9, a-f and -")
        return value
    if isinstance(value, Prefix):
        if field.words or field.shape not in (Shape.TEXT, Shape.LABEL):
            raise ValueError("* is for texts only")
        if fault := text_fault(value.text):
            raise ValueError(fault)
        return value
    return _whole_value(value, field, now_s)


def _whole_value(text: str, field: Field, now_s: float) -> Wanted:
    if field.words:
        return _word(text, field)
    match field.shape:
        case Shape.TIME:
            return _time(text, now_s)
        case Shape.ID:
            return _id(text)
        case Shape.NUMBER:
            if not re.fullmatch(r"[0-9]{1,9}", text):
                raise ValueError(f"{text!r} is not a number")
            return int(text)
        case Shape.FLAG:
            if text not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text == "true"
    if fault := text_fault(text):
        raise ValueError(fault)
    return text


def _word(text: str, field: Field) -> str:
    bare = text.upper().removeprefix(field.prefix)
    for word in field.words:
        if word.upper() == bare:
            return str(word)
    raise ValueError(f"{text!r} is none of {', '.join(field.words).upper()}")


def _id(text: str) -> str:
    """Return an id. Empty: there is no parent."""
    try:
        usual = str(uuid.UUID(text)) if text else ""
    except ValueError:
        usual = ""
    if usual != text.lower():
        raise ValueError(f"{text[:64]!r} is not an id in the form 01890a5d-ac96-774b-bcce-b302099a8057")
    return usual


def _time(text: str, now_s: float) -> float:
    if _PAST.fullmatch(text):
        parts = re.findall(r"([0-9]+)([smhdw])", text)
        return now_s - float(sum(int(count) * _UNITS_S[unit] for count, unit in parts))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time like 2026-01-01T00:00:00Z, nor a past time like -1h30m") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
