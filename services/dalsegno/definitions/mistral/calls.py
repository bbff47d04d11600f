"""A call: the name of an action or a workflow, and its input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dalsegno.definitions.calls import Callee
from dalsegno.definitions.mistral.inline import INLINE_LENGTH_MAX, Inline, read_inline
from dalsegno.definitions.mistral.syntax import Reader
from dalsegno.definitions.problems import Path, shown
from dalsegno.workflow.scope import Template

_EXPRESSION = re.compile(r"<%|\{\{|\{%")


def read_call(
    reader: Reader, callee: Callee, value: object, name_path: Path, data: Mapping[str, Any], path: Path
) -> tuple[Template | None, Template | None]:
    """Read what is called: a name, with the parameters after it, at `name_path`, and `input` of the mapping at `path`.

    Return the templates of the name and of the whole input.
    """
    text = reader.text(value, name_path)
    inline = None if text is None else read_callee(reader, text, name_path)
    given = _read_given(reader, data["input"], (*path, "input")) if "input" in data else None
    parameters = inline.parameters if inline else {}
    if isinstance(given, str) and parameters:
        reader.fault(
            (*path, "input"), f"one text cannot be joined with the parameters written behind `{name_path[-1]}`"
        )
        given = None
    merged: object = {**given, **parameters} if isinstance(given, dict) else given or parameters
    for parameter in parameters:
        reader.redirect((*path, "input", parameter), name_path)
    if inline is not None:
        note_call(reader, callee, inline, name_path, merged, (*path, "input"))
    return (
        reader.template(inline.name, name_path) if inline else None,
        reader.template(merged, (*path, "input")) if merged else None,
    )


def read_input(reader: Reader, data: Mapping[str, Any], path: Path) -> Template | None:
    """Read `input` of a mapping that calls nothing."""
    given = _read_given(reader, data["input"], (*path, "input")) if "input" in data else None
    return reader.template(given, (*path, "input")) if given else None


def _read_given(reader: Reader, value: object, path: Path) -> dict[str, Any] | str | None:
    return reader.text(value, path) if isinstance(value, str) else reader.mapping(value, path)


def note_call(reader: Reader, callee: Callee, inline: Inline, path: Path, given: object, input_path: Path) -> None:
    """Record a call whose name is not an expression. `given` is the input with the parameters of `inline`; a text is an
    expression for the whole input."""
    if _EXPRESSION.search(inline.name):
        return
    inputs = None
    if isinstance(given, dict):
        inputs = {name: path if name in inline.parameters else (*input_path, name) for name in given}
    is_apart = isinstance(given, dict) and bool(given.keys() - inline.parameters.keys())
    reader.note_call(inline.name, callee, path, inputs, input_path if is_apart else path)


def read_callee(reader: Reader, text: str, path: Path) -> Inline | None:
    """Read the name of an action or a workflow, and the parameters after it."""
    if len(text) > INLINE_LENGTH_MAX:
        reader.fault(path, f"longer than {INLINE_LENGTH_MAX:,} characters", "give the parameters in `input`")
        return None
    inline = read_inline(text)
    if inline is None:
        reader.fault(path, f"{shown(text)} does not begin with a name or an expression")
    else:
        reader.warn_of_unparsed(inline.unparsed, path)
    return inline
