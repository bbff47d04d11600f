"""The on-* clauses: what an ended task publishes, and which tasks follow."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dalsegno.definitions.mistral.inline import INLINE_LENGTH_MAX, read_inline
from dalsegno.definitions.mistral.syntax import Reader
from dalsegno.definitions.problems import Path, shown
from dalsegno.workflow.model import Clause, Command, Transition

_COMMANDS = {command.value: command for command in Command}

_PLAIN = re.compile(r"^\S+$")
_SPACED = re.compile(r"^\w+ \w+=(.*)$")
_CALL = re.compile(r"^\w+\(\w+=(.*)\)$")

_SCOPES = ("branch", "global", "atomic")


@dataclass(frozen=True, slots=True)
class ReadClause:
    """A clause, and the place of each of its targets."""

    clause: Clause
    places: tuple[Path, ...] = ()


NO_CLAUSE = ReadClause(Clause())


def read_clause(reader: Reader, value: object, path: Path) -> ReadClause:
    """Read a clause in any of its forms: a target, a condition, a list of them, or `{publish: ..., next: ...}`."""
    if not isinstance(value, dict) or not (value.keys() <= {"publish", "next"}):
        transitions = _read_next(reader, value, path)
        return ReadClause(Clause(next=tuple(item for item, _ in transitions)), tuple(place for _, place in transitions))
    if not value:
        reader.fault(path, "the clause is empty", "name a task, or leave the clause away")
        return NO_CLAUSE
    branch = everywhere = None
    if "publish" in value:
        branch, everywhere = _read_publish(reader, value["publish"], (*path, "publish"))
    transitions = _read_next(reader, value["next"], (*path, "next")) if "next" in value else []
    clause = Clause(branch, everywhere, tuple(item for item, _ in transitions))
    return ReadClause(clause, tuple(place for _, place in transitions))


def _read_publish(reader: Reader, value: object, path: Path) -> tuple[Any, Any]:
    """Return the templates of `branch` and `global`. `atomic` is checked, but has no effect."""
    if not isinstance(value, dict):
        reader.fault(path, f"must be a mapping of {', '.join(_SCOPES)}, not {shown(value)}")
        return None, None
    hint_needed = not any(scope in value for scope in _SCOPES)
    if hint_needed:
        hint = "put the variables under `branch:`" if value else ""
        reader.fault(path, "has neither `branch` nor `global`", hint)
        return None, None
    reader.known_keys(value, _SCOPES, path, "publish")
    read = {scope: reader.mapping_template(value[scope], (*path, scope)) for scope in _SCOPES if scope in value}
    return read.get("branch"), read.get("global")


def _read_next(reader: Reader, value: object, path: Path) -> list[tuple[Transition, Path]]:
    if not isinstance(value, list):
        return _read_transition(reader, value, path)
    if not value:
        reader.fault(path, "the list is empty", "name a task, or leave the clause away")
    transitions: list[tuple[Transition, Path]] = []
    seen: set[str] = set()
    for index, item in enumerate(value):
        place = (*path, index)
        identity = json.dumps(item, sort_keys=True)
        if identity in seen:
            reader.fault(place, f"{shown(item)} is twice in the list")
        else:
            seen.add(identity)
            transitions += _read_transition(reader, item, place)
    return transitions


def _read_transition(reader: Reader, value: object, path: Path) -> list[tuple[Transition, Path]]:
    """Return one target, with its condition if it has one, in a list; an empty list if it is invalid."""
    if isinstance(value, dict):
        return _read_conditional(reader, value, path)
    if not isinstance(value, str) or not value:
        reader.fault(path, f"must name a task or an engine command, not {shown(value)}")
        return []
    if _PLAIN.search(value) and _CALL.search(value):
        hint = f"write `{value.replace('(', ' ', 1)[:-1]}`" if len(value) < 80 else ""
        reader.fault(path, f"{shown(value)} can be read as a task's name or as a call", hint)
        return []
    return _read_target(reader, value, path, None)


def _read_conditional(reader: Reader, value: dict[str, Any], path: Path) -> list[tuple[Transition, Path]]:
    if len(value) != 1:
        hint = "begin each target with `- ` in a line of its own" if value else ""
        reader.fault(path, f"a target with a condition has exactly one key, not {len(value)}", hint)
        return []
    ((target, condition),) = value.items()
    place = (*path, target)
    when = reader.expression(condition, place)
    return _read_target(reader, target, place, when)


def _read_target(reader: Reader, text: str, path: Path, when: Any) -> list[tuple[Transition, Path]]:
    if not (_PLAIN.search(text) or _SPACED.search(text) or _CALL.search(text)):
        reader.fault(path, f"{shown(text)} is no target: a task's name here may not hold white space")
        return []
    if len(text) > INLINE_LENGTH_MAX:
        reader.fault(path, f"longer than {INLINE_LENGTH_MAX:,} characters")
        return []
    inline = read_inline(text)
    if inline is None:
        reader.fault(path, f"{shown(text)} does not begin with a name")
        return []
    reader.warn_of_unparsed(inline.unparsed, path)
    message = None
    if "msg" in inline.parameters:
        message = reader.template(inline.parameters["msg"], path)
    command = _COMMANDS.get(inline.name)
    return [(Transition(inline.name, when, command, message if command else None), path)]
