"""Read one task of a Mistral workflow, before task-defaults and links are applied."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dalsegno.definitions.calls import Callee
from dalsegno.definitions.checkpoints import WrittenCheckpoint, read_checkpoint
from dalsegno.definitions.mistral.calls import read_call, read_input
from dalsegno.definitions.mistral.clauses import NO_CLAUSE, ReadClause, read_clause
from dalsegno.definitions.mistral.policies import POLICY_KEYS, read_policies
from dalsegno.definitions.mistral.reverts import read_revert
from dalsegno.definitions.mistral.syntax import Reader, is_deep
from dalsegno.definitions.problems import SEMANTIC, Path, shown
from dalsegno.definitions.secrets import SECRET, read_secret
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
    SECRET,
    "checkpoint",
    "revert",
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
    target = reader.target(data["target"], (*path, "target")) if "target" in data else None
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
        secret=read_secret(reader, data, path),
        checkpoint=None if checkpoint is None else _compile_checkpoint(reader, checkpoint, call, path),
        revert=read_revert(reader, data["revert"], (*path, "revert")) if "revert" in data else None,
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
    path = (*path, "checkpoint")
    data = ((name, reader.template(value, (*path, "data", name))) for name, value in written.data.items())
    delay_s = None if written.delay is None else reader.integer(written.delay, (*path, "delay"))
    return Checkpoint(written.name, written.place or default, tuple(data), written.retry, delay_s, written.keep)


def _read_call(reader: Reader, data: Mapping[str, Any], path: Path) -> _Call:
    if "action" in data and "workflow" in data:
        reader.fault((*path, "workflow"), "a task has either `action` or `workflow`, not both", "make it two tasks")
    if "action" in data:
        name, given = read_call(reader, Callee.ACTION, data["action"], (*path, "action"), data, path)
        return _Call(action=name, input=given)
    if "workflow" in data:
        name, given = read_call(reader, Callee.WORKFLOW, data["workflow"], (*path, "workflow"), data, path)
        return _Call(workflow=name, input=given)
    return _Call(input=read_input(reader, data, path))


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
