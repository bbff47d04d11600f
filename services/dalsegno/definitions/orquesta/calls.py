"""A call: the name of an action or a workflow, and its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dalsegno.definitions.orquesta.expressions import has_expression
from dalsegno.definitions.orquesta.parts import ActionCall, Reference
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Path
from dalsegno.expressions.marks import find_marked


def read_call(
    reader: Reader, data: Mapping[str, Any], path: Path, action_path: Path
) -> tuple[ActionCall, tuple[Reference, ...]]:
    """Read the action with its input. Parameters after the action replace `input`."""
    input_path = (*path, "input")
    given = _read_input(reader, data["input"], input_path) if "input" in data else None
    references = reader.references(given, input_path) if given is not None else ()
    text = reader.text(data["action"], action_path) if "action" in data else None
    if text is None:
        return ActionCall(input=given, action_path=action_path, input_path=input_path), references
    name, rest = _split_name(text)
    inline = reader.inline(rest, action_path)
    parameters = dict(inline.parameters)
    if "=" in rest:  # otherwise all of the text is the action's name
        reader.warn_of_unparsed(inline.unparsed, action_path)
    if not parameters:
        if not has_expression(name) and reader.inline(name, action_path).parameters:
            reader.fault(action_path, "parameters follow the action after a space", 'core.echo message="Hello"')
        named = reader.references(text, action_path)
        return ActionCall(text, given, action_path, input_path), (*named, *references)
    named = reader.references(name, action_path)
    for value in parameters.values():
        found = reader.references(value, action_path)
        named += tuple(Reference(reference.variable, action_path) for reference in found)
    return ActionCall(name, parameters, action_path, action_path, is_inline=True), named


def _split_name(text: str) -> tuple[str, str]:
    """Split a text into the name of an action and the rest, at the first space outside of the name's expressions."""
    start = 0
    for begin, end in sorted((*find_marked(text, "<%", "%>"), *find_marked(text, "{{", "}}"))):
        if any(character.isspace() for character in text[start:begin]):
            break
        start = max(start, end)
    space = next((place for place in range(start, len(text)) if text[place].isspace()), len(text))
    return text[:space], text[space:]


def _read_input(reader: Reader, value: object, path: Path) -> dict[str, Any] | str | None:
    if isinstance(value, str):
        return reader.text(value, path)
    read = reader.mapping(value, path)
    if read is None and isinstance(value, list):
        reader.references(value, path)
    return read
