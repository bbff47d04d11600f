"""Read one task of a Mistral workflow, before task-defaults and links are applied."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dalsegno.definitions.calls import Callee
from dalsegno.definitions.checkpoints import WrittenCheckpoint, read_checkpoint
from dalsegno.definitions.mistral.clauses import NO_CLAUSE, ReadClause, read_clause
from dalsegno.definitions.mistral.inline import INLINE_LENGTH_MAX, Inline, read_inline
from dalsegno.definitions.mistral.policies import POLICY_KEYS, read_policies
from dalsegno.definitions.mistral.syntax import Reader, is_deep
from dalsegno.definitions.problems import SEMANTIC, Path, shown
from dalsegno.workflow.model import JOIN_ALL, Checkpoint, CheckpointPlace, Items, Policies, Task
from dalsegno.workflow.scope import Constant, Template

CLAUSE_KEYS = ("on-success", "on-error", "on-complete", "on-skip")
PUBLISH_KEYS = ("publish", "publish-on-error", "publish-on-skip")

_COMMON_KEYS = (
    "action",
    "workflow",
    "input",
    "with-items",
    *PUBLISH_KEYS,
    *POLICY_KEYS,
    "target",
    "keep-result",
    "safe-rerun",
    "checkpoint",
    "description",
    "tags",
    "name",
    "version",
    "type",
)
_KEYS = {
    False: dict.fromkeys((*_COMMON_KEYS, "join", *CLAUSE_KEYS)),
    True: dict.fromkeys((*_COMMON_KEYS, "requires")),
}
"""By whether the workflow is a reverse one. The last three common keys are ignored, as in Mistral."""

NAME_LENGTH_MAX = 255
JOIN_NAME_LENGTH_MAX = 208

_EXPRESSION = re.compile(r"<%|\{\{|\{%")
_WITH_ITEMS = re.compile(r"\s*([\w\-]+)\s*in\s*(\[.+\]|\{\{.*\}\}|<%.*?%>)")


@dataclass(frozen=True, slots=True)
class ReadTask:
    """A task, its clauses in the order of CLAUSE_KEYS, and its place."""

    task: Task
    path: Path
    clauses: tuple[ReadClause, ReadClause, ReadClause, ReadClause]
    policies: Policies
    checkpoint: WrittenCheckpoint | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """What a task runs, and its input."""

    action: Template | None = None
    workflow: Template | None = None
    input: Template | None = None


def read_task(reader: Reader, name: str, data: object, path: Path, *, reverse: bool) -> ReadTask:
    """Read one task; with problems, it is incomplete."""
    if not isinstance(data, dict) or not data:
        reader.fault(path, f"a task must be a mapping that is not empty, not {shown(data)}", "action: std.noop")
        return ReadTask(Task(name), path, (NO_CLAUSE,) * 4, Policies())
    known = _KEYS[reverse]
    if not data.keys() <= known.keys():
        reader.known_keys(data, known, path, "task of a reverse workflow" if reverse else "task")
    _check_name(reader, name, data, path)
    clauses = [
        read_clause(reader, data[key], (*path, key)) if key in data and not reverse else NO_CLAUSE
        for key in CLAUSE_KEYS
    ]
    publish = [reader.mapping_template(data[key], (*path, key)) if key in data else None for key in PUBLISH_KEYS]
    call = _read_call(reader, data, path)
    checkpoint = read_checkpoint(reader, data, path)
    keep_result = reader.boolean(data["keep-result"], (*path, "keep-result")) if "keep-result" in data else None
    target = reader.text(data["target"], (*path, "target")) if "target" in data else None
    task = Task(
        name=name,
        action=call.action,
        workflow=call.workflow,
        input=call.input,
        items=_read_items(reader, data["with-items"], (*path, "with-items")) if "with-items" in data else (),
        join=_read_join(reader, data["join"], (*path, "join")) if "join" in data and not reverse else None,
        requires=reader.text_or_texts(data["requires"], (*path, "requires")) if reverse and "requires" in data else (),
        publish=publish[0],
        publish_on_error=publish[1],
        publish_on_skip=publish[2],
        keep_result=keep_result.value is not False if isinstance(keep_result, Constant) else True,
        keep_result_when=None if isinstance(keep_result, Constant) else keep_result,
        safe_rerun=reader.boolean(data["safe-rerun"], (*path, "safe-rerun")) if "safe-rerun" in data else None,
        target=None if target is None else reader.template(target, (*path, "target")),
        checkpoint=None if checkpoint is None else _compile_checkpoint(reader, checkpoint, call, path),
        description=(reader.text(data["description"], (*path, "description")) or "") if "description" in data else "",
        tags=reader.texts(data["tags"], (*path, "tags")) if "tags" in data else (),
        spec={**data, "name": name, "version": "2.0", "type": "reverse" if reverse else "direct"},
    )
    own_clauses = (clauses[0], clauses[1], clauses[2], clauses[3])
    return ReadTask(task, path, own_clauses, read_policies(reader, data, path), checkpoint)


def _check_name(reader: Reader, name: str, data: Mapping[str, Any], path: Path) -> None:
    if not name:
        reader.fault(path, "a task needs a name")
    limit = JOIN_NAME_LENGTH_MAX if data.get("join") else NAME_LENGTH_MAX
    if len(name) > limit:
        what = "a task with `join`" if data.get("join") else "a task"
        reader.fault(path, f"the name of {what} may have at most {limit} characters", category=SEMANTIC)


def _compile_checkpoint(reader: Reader, written: WrittenCheckpoint, call: _Call, path: Path) -> Checkpoint:
    """Compile a checkpoint. Without `when` it stands before a sub-workflow and after anything else (decision 16)."""
    default = CheckpointPlace.AFTER if call.workflow is None else CheckpointPlace.BEFORE
    data = ((name, reader.template(value, (*path, "checkpoint", "data", name))) for name, value in written.data.items())
    return Checkpoint(written.name, written.place or default, tuple(data))


def _read_call(reader: Reader, data: Mapping[str, Any], path: Path) -> _Call:
    if "action" in data and "workflow" in data:
        reader.fault((*path, "workflow"), "a task has either `action` or `workflow`, not both", "make it two tasks")
    key = "action" if "action" in data else "workflow"
    inline = _read_callee(reader, data[key], (*path, key)) if key in data else None
    given = _read_input(reader, data["input"], (*path, "input")) if "input" in data else None
    parameters = inline.parameters if inline else {}
    if isinstance(given, str) and parameters:
        reader.fault((*path, "input"), f"one text cannot be joined with the parameters written behind `{key}`")
        given = None
    merged: object = {**given, **parameters} if isinstance(given, dict) else given or parameters
    for parameter in parameters:
        reader.redirect((*path, "input", parameter), (*path, key))
    if inline is not None:
        callee = Callee.ACTION if key == "action" else Callee.WORKFLOW
        note_call(reader, callee, inline, (*path, key), merged, (*path, "input"))
    return _Call(
        action=reader.template(inline.name, (*path, key)) if inline and key == "action" else None,
        workflow=reader.template(inline.name, (*path, key)) if inline and key == "workflow" else None,
        input=reader.template(merged, (*path, "input")) if merged else None,
    )


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


def _read_callee(reader: Reader, value: object, path: Path) -> Inline | None:
    text = reader.text(value, path)
    return None if text is None else read_callee(reader, text, path)


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


def _read_input(reader: Reader, value: object, path: Path) -> dict[str, Any] | str | None:
    if isinstance(value, str):
        return reader.text(value, path)
    return reader.mapping(value, path)


def _read_join(reader: Reader, value: object, path: Path) -> int | None:
    if value == "all":
        return JOIN_ALL
    if value == "one":
        return 1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    reader.fault(path, f"must be all, one or a whole number, not {shown(value)}")
    return None


def _read_items(reader: Reader, value: object, path: Path) -> tuple[Items, ...]:
    """Read `name in list` or a list of such texts, iterated together. A repeated name replaces the first one."""
    read: dict[str, Items] = {}
    if isinstance(value, str):
        texts = [(value, path)]
    elif isinstance(value, list):
        reader.texts(value, path)
        texts = [(item, (*path, index)) for index, item in enumerate(value) if isinstance(item, str) and item]
    else:
        reader.fault(path, f"must be `name in <% ... %>` or a list of such texts, not {shown(value)}")
        return ()
    for text, place in texts:
        items = _read_item(reader, text, place)
        if items is not None:
            read[items.names[0]] = items
    return tuple(read.values())


def _read_item(reader: Reader, text: str, path: Path) -> Items | None:
    match = _WITH_ITEMS.match(text)
    if match is None:
        reader.fault(path, f"{shown(text)} is not of the form `name in <% ... %>` or `name in [1, 2]`")
        return None
    name, source = match.groups()
    unparsed = text[match.end() :].strip()
    if unparsed:
        reader.warn(path, f"{shown(unparsed)} after the list is ignored", "put all of it into one expression")
    values: object = source
    if source.startswith("["):
        try:
            values = json.loads(source, parse_constant=_refuse)
        except (ValueError, RecursionError):
            values = None
        if values is None or is_deep(values):
            reader.fault(path, f"{shown(source)} is no JSON list", "put texts in double quotes")
            return None
    return Items((name,), reader.template(values, path))


def _refuse(word: str) -> object:
    raise ValueError(f"{word} is not JSON")
