"""Inspect a whole Orquesta definition for all its problems."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dalsegno.definitions.calls import Callee
from dalsegno.definitions.checkpoints import check_names, check_retry
from dalsegno.definitions.orquesta.context import APPLICATION_NAMES, check_context
from dalsegno.definitions.orquesta.expressions import has_expression
from dalsegno.definitions.orquesta.graph import Graph, check_graph
from dalsegno.definitions.orquesta.parts import Assignment, ReadTask, ReadWorkflow
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.orquesta.tasks import read_task
from dalsegno.definitions.problems import shown
from dalsegno.definitions.reverts import read_on_failure
from dalsegno.definitions.secrets import REVEAL, SECRETS, read_reveal, read_secrets

_KEYS = dict.fromkeys(
    ("version", "name", "description", "tags", "input", "vars", "output", "tasks", "on-failure", SECRETS, REVEAL)
)


def inspect_workflow(
    reader: Reader,
    data: dict[str, Any],
    *,
    application_names: Collection[str] = APPLICATION_NAMES,
) -> tuple[ReadWorkflow, Graph]:
    """Add every problem of a definition, and return what could be read of it, with its graph.

    `application_names` are variables that exist before the input.
    """
    _check_head(reader, data)

    def assignments(key: str) -> tuple[Assignment, ...]:
        return reader.assignments(data[key], (key,), names_alone=key == "input") if key in data else ()

    tasks = _read_tasks(reader, data)
    on_failure = read_on_failure(reader, data, (), [each.checkpoint for each in tasks.values() if each.checkpoint])
    workflow = ReadWorkflow(
        tasks,
        assignments("input"),
        assignments("vars"),
        assignments("output"),
        on_failure,
        () if on_failure.delay is None else reader.number(on_failure.delay, ("on-failure", "delay")),
        read_secrets(reader, data, ()),
        read_reveal(reader, data, ()),
    )
    check_names(reader, ((task.name, task.checkpoint) for task in tasks.values()))
    for task in tasks.values():
        check_retry(reader, task.checkpoint, task.retry_path)
    graph = Graph(tasks)
    check_graph(reader, graph, ("tasks",))
    check_context(reader, workflow, graph, application_names)
    _note_calls(reader, workflow.tasks.values())
    return workflow, graph


def _note_calls(reader: Reader, tasks: Collection[ReadTask]) -> None:
    calls = [(task.call, Callee.EITHER) for task in tasks]
    calls += [(task.revert.call, Callee.REVERT) for task in tasks if task.revert is not None]
    for call, callee in calls:
        if not call.action or has_expression(call.action):
            continue
        given = None
        if not isinstance(call.input, str):
            given = {
                name: call.action_path if call.is_inline else (*call.input_path, name) for name in call.input or {}
            }
        reader.note_call(call.action, callee, call.action_path, given, call.input_path if given else call.action_path)


def is_version_1(version: object) -> bool:
    """Return whether this is the version of Orquesta's language: 1.0, as a number or as text."""
    return version == "1.0" or (version == 1 and not isinstance(version, bool))


def _check_head(reader: Reader, data: dict[str, Any]) -> None:
    reader.known_keys(data, _KEYS, (), "workflow")
    if "version" in data and not is_version_1(data["version"]):
        reader.fault(("version",), f"the version {shown(data['version'])} is not known", "write `version: 1.0`")
    for key in ("name", "description"):
        if key in data:
            reader.text(data[key], (key,))
    if "tags" in data:
        reader.texts(data["tags"], ("tags",))


def _read_tasks(reader: Reader, data: dict[str, Any]) -> dict[str, ReadTask]:
    if "tasks" not in data:
        reader.fault((), "`tasks` is missing", reader.guess("tasks", data.keys() - _KEYS.keys()))
        return {}
    tasks = reader.mapping(data["tasks"], ("tasks",))
    return {name: read_task(reader, name, body, ("tasks", name)) for name, body in (tasks or {}).items()}
