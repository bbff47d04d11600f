"""The filter of every list: terms separated by spaces, all of which must hold.

    state=RUNNING,ERROR workflow=pack.name label.team="red, blue" created>=2026-01-01T00:00:00Z

A term is a field, an operator and values separated by commas, any of which will do. Times also have `<`, `<=`, `>` and
`>=`, with one value. A value that holds a space, a comma or a quotation mark stands in quotation marks, as in JSON.
A filter is data here; queries.py makes SQL of it and memory.py asks it about each row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import text_fault


class InvalidFilter(InvalidRequest):
    """A filter that cannot be read. Says which term, where it begins (the first character is 1) and what is wrong."""

    def __init__(self, term: str, position: int, reason: str) -> None:
        super().__init__([Violation("filter", f"{term!r} at character {position}: {reason}")])
        self.term = term
        self.position = position


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on a column, or on a label or tag."""

    column: str
    operator: str
    """=, <, <=, > or >=."""
    values: tuple[str | int | float | bool, ...]
    label: str = ""
    """The label's key, when the column is `label`."""


@dataclass(frozen=True, slots=True)
class Filter:
    """All terms must hold; none: everything."""

    terms: tuple[Term, ...] = ()


class Shape(Enum):
    """What the values of a field look like."""

    TEXT = "text"
    TIME = "time"
    NUMBER = "number"
    FLAG = "flag"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a list can be filtered by."""

    column: str
    shape: Shape = Shape.TEXT
    words: tuple[str, ...] = ()
    """The only values that make sense, whatever their case; none: any."""


Fields = Mapping[str, Field]

_LABEL = Field("label", Shape.LABEL)

EXECUTION_FIELDS: Fields = {
    "state": Field("state", words=tuple(ExecutionState)),
    "workflow": Field("workflow"),
    "namespace": Field("namespace"),
    "label": _LABEL,
    "root": Field("root_id"),
    "parent": Field("parent_id"),
    "created": Field("created_s", Shape.TIME),
    "ended": Field("ended_s", Shape.TIME),
}
TASK_FIELDS: Fields = {
    "state": Field("state", words=tuple(TaskState)),
    "name": Field("name"),
    "superseded": Field("superseded", Shape.FLAG),
}
ATTEMPT_FIELDS: Fields = {
    "state": Field("state", words=tuple(AttemptState)),
    "action": Field("action"),
    "item": Field("item", Shape.NUMBER),
    "attempt": Field("attempt", Shape.NUMBER),
    "accepted": Field("accepted", Shape.FLAG),
    "delegated": Field("delegated", Shape.FLAG),
    "alias": Field("alias"),
    "executor": Field("executor_id"),
}
STANDALONE_FIELDS: Fields = {**ATTEMPT_FIELDS, "namespace": Field("namespace"), "label": _LABEL}
"""Those of attempts that no workflow asked for."""
DEFINITION_FIELDS: Fields = {
    "namespace": Field("namespace"),
    "name": Field("name"),
    "language": Field("language", words=("mistral", "orquesta")),
    "tag": Field("tag"),
    "created": Field("created_s", Shape.TIME),
}
ENVIRONMENT_FIELDS: Fields = {"namespace": Field("namespace"), "name": Field("name")}

_TERM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"])+')
_PARTS = re.compile(r"([a-z_]+)(?:\.([^=<>\s]+))?(<=|>=|=|<|>)(.*)", re.DOTALL)
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|[^,"]*')


def parse_filter(text: str, fields: Fields) -> Filter:
    """The filter of the text, which may name these fields. Raises InvalidFilter."""
    terms: list[Term] = []
    position = 0
    while True:
        position += len(text[position:]) - len(text[position:].lstrip())
        if position == len(text):
            return Filter(tuple(terms))
        match = _TERM.match(text, position)
        end = match.end() if match is not None else position
        if match is None or text[end : end + 1] == '"':
            raise InvalidFilter(text[position:], position + 1, "a quotation mark is not closed")
        terms.append(_parse_term(match.group(), position + 1, fields))
        position = end


def _parse_term(text: str, position: int, fields: Fields) -> Term:
    match = _PARTS.fullmatch(text)
    if match is None:
        raise InvalidFilter(text, position, "not of the form field=value")
    name, label, operator, written = match.groups()
    field = fields.get(name)
    if field is None or (label is not None) != (field.shape is Shape.LABEL):
        known = ", ".join("label.<key>" if each == "label" else each for each in fields)
        raise InvalidFilter(text, position, f"no such field; there are {known}")
    if operator != "=" and field.shape is not Shape.TIME:
        raise InvalidFilter(text, position, f"{operator} is for times only")
    try:
        values = tuple(_value(each, field) for each in _split(written))
    except ValueError as error:
        raise InvalidFilter(text, position, str(error)) from None
    if operator != "=" and len(values) > 1:
        raise InvalidFilter(text, position, f"{operator} takes one value")
    return Term(field.column, operator, values, label or "")


def _split(written: str) -> list[str]:
    values = []
    position = 0
    while True:
        match = _VALUE.match(written, position)
        assert match is not None
        values.append(json.loads(match.group()) if match.group().startswith('"') else match.group())
        if match.end() == len(written):
            return values
        if written[match.end()] != ",":
            raise ValueError("a comma is missing between two values")
        position = match.end() + 1


def _value(text: str, field: Field) -> str | int | float | bool:
    if field.words:
        for word in field.words:
            if word.lower() == text.lower():
                return str(word)
        raise ValueError(f"{text!r} is none of {', '.join(field.words).upper()}")
    if field.shape is Shape.TIME:
        return _time(text)
    if field.shape is Shape.NUMBER:
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise ValueError(f"{text!r} is not a number")
        return int(text)
    if field.shape is Shape.FLAG:
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text == "true"
    if fault := text_fault(text):
        raise ValueError(fault)
    return text


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time like 2026-01-01T00:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
