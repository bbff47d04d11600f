"""Ad-hoc actions: an action that calls another one, with some input set and its output transformed."""

from __future__ import annotations

from dalsegno.definitions.calls import Callee
from dalsegno.definitions.mistral.calls import note_call, read_callee
from dalsegno.definitions.mistral.compile import read_description, read_parameters, read_tags
from dalsegno.definitions.mistral.syntax import Reader
from dalsegno.definitions.problems import Path, shown
from dalsegno.workflow.model import AdHocAction
from dalsegno.workflow.scope import Constant

_KEYS = dict.fromkeys(("base", "base-input", "input", "output", "description", "tags", "name", "version"))


def compile_action(
    reader: Reader, name: str, data: object, path: Path, *, stored_name: str | None = None, workbook: str | None = None
) -> AdHocAction:
    """Compile an ad-hoc action; with problems, it is incomplete."""
    full_name = stored_name or name
    if not isinstance(data, dict) or not data:
        reader.fault(path, f"an action must be a mapping that is not empty, not {shown(data)}", "base: std.noop")
        return AdHocAction(full_name, Constant(""))
    reader.known_keys(data, _KEYS, path, "ad-hoc action")
    inline = None
    if "base" not in data:
        reader.fault(path, "`base` is missing", reader.guess("base", data.keys() - _KEYS.keys()))
    else:
        text = reader.text(data["base"], (*path, "base"))
        inline = read_callee(reader, text, (*path, "base")) if text else None
    given = reader.mapping(data["base-input"], (*path, "base-input")) if "base-input" in data else None
    parameters = inline.parameters if inline else {}
    for parameter in parameters:
        reader.redirect((*path, "base-input", parameter), (*path, "base"))
    merged = {**(given or {}), **parameters}
    if inline is not None:
        note_call(reader, Callee.ACTION, inline, (*path, "base"), merged, (*path, "base-input"))
    output = data.get("output")
    return AdHocAction(
        name=full_name,
        base=reader.template(inline.name if inline else "", (*path, "base")),
        base_input=reader.template(merged, (*path, "base-input")) if merged else None,
        input=read_parameters(reader, data["input"], (*path, "input")) if "input" in data else (),
        output=None if output is None else reader.template(output, (*path, "output")),
        description=read_description(reader, data, path),
        tags=read_tags(reader, data, path),
        workbook=workbook,
    )
