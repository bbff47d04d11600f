"""Compile a Mistral workflow: link its tasks and apply task-defaults."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dalsegno.definitions.checkpoints import check_names, check_retry
from dalsegno.definitions.mistral.clauses import NO_CLAUSE, ReadClause, read_clause
from dalsegno.definitions.mistral.policies import NO_POLICIES, POLICY_KEYS, merge_policies, read_policies
from dalsegno.definitions.mistral.reverts import compile_strategy, read_revert
from dalsegno.definitions.mistral.syntax import REQUIRED, Reader
from dalsegno.definitions.mistral.tasks import CLAUSE_KEYS, ReadTask, read_task
from dalsegno.definitions.problems import SEMANTIC, Path, shown
from dalsegno.definitions.reverts import read_on_failure
from dalsegno.definitions.secrets import REVEAL, SECRETS, read_reveal, read_secrets
from dalsegno.workflow.model import JOIN_ALL, Clause, Command, Parameter, Policies, Revert, Task, Workflow
from dalsegno.workflow.scope import Constant, Template

TRANSITIONS_MAX = 1_000_000
"""A limit, because task-defaults multiply their targets by the tasks: a small text could make a huge graph."""

_KEYS = dict.fromkeys(
    (
        "type",
        "input",
        "output",
        "output-on-error",
        "on-failure",
        SECRETS,
        REVEAL,
        "vars",
        "task-defaults",
        "tasks",
        "description",
        "tags",
        "name",
        "version",
    )
)
_DEFAULTS_KEYS = dict.fromkeys(
    (*POLICY_KEYS, *CLAUSE_KEYS, "safe-rerun", "revert", "requires", "description", "tags", "name", "version")
)
_COMMANDS = frozenset(command.value for command in Command)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """The task-defaults of every task."""

    clauses: tuple[ReadClause, ...] = (NO_CLAUSE,) * len(CLAUSE_KEYS)
    policies: Policies = NO_POLICIES
    safe_rerun: Template | None = None
    revert: Revert | None = None
    requires: tuple[str, ...] = ()


_NO_DEFAULTS = _Defaults()


def compile_workflow(
    reader: Reader, name: str, data: object, path: Path, *, stored_name: str | None = None, workbook: str | None = None
) -> Workflow:
    """Compile a workflow; with problems, it is incomplete."""
    full_name = stored_name or name
    reader.workflow_name(name, path)
    if not isinstance(data, dict) or not data:
        reader.fault(path, f"a workflow must be a mapping that is not empty, not {shown(data)}")
        return Workflow(full_name, {})
    reader.known_keys(data, _KEYS, path, "workflow")
    reverse = data.get("type") == "reverse"
    if data.get("type", "direct") not in ("direct", "reverse"):
        reader.fault((*path, "type"), f"must be direct or reverse, not {shown(data['type'])}")

    def template(key: str) -> Template | None:
        return reader.mapping_template(data[key], (*path, key)) if key in data else None

    defaults = (
        _read_defaults(reader, data["task-defaults"], (*path, "task-defaults")) if "task-defaults" in data else None
    )
    read = _read_tasks(reader, data, path, reverse=reverse)
    check_names(reader, ((item.task.name, item.checkpoint) for item in read))
    _check_retries(reader, read, defaults or _NO_DEFAULTS)
    checkpoints = [item.checkpoint for item in read if item.checkpoint is not None]
    on_failure = read_on_failure(reader, data, path, checkpoints)
    link = _link_reverse if reverse else _link_direct
    tasks = link(reader, read, defaults or _NO_DEFAULTS)
    starts = () if reverse else _find_starts(reader, tasks, path)
    return Workflow(
        name=full_name,
        tasks=tasks,
        starts=starts,
        reverse=reverse,
        input=read_parameters(reader, data["input"], (*path, "input")) if "input" in data else (),
        vars=template("vars"),
        output=template("output"),
        output_on_error=template("output-on-error"),
        pauses_on_failure=on_failure.pauses,
        strategy=compile_strategy(reader, on_failure),
        secrets=read_secrets(reader, data, path),
        reveal=read_reveal(reader, data, path),
        description=read_description(reader, data, path),
        tags=read_tags(reader, data, path),
        workbook=workbook,
        spec=_spec(data, full_name, tasks),
    )


def read_parameters(reader: Reader, value: object, path: Path) -> tuple[Parameter, ...]:
    """Read declared inputs. Defaults are plain values: expressions in them are text."""
    return tuple(
        Parameter(name) if default is REQUIRED else Parameter(name, required=False, default=Constant(default))
        for name, default in reader.parameters(value, path).items()
    )


def read_description(reader: Reader, data: Mapping[str, Any], path: Path) -> str:
    if "description" not in data:
        return ""
    return reader.text(data["description"], (*path, "description")) or ""


def read_tags(reader: Reader, data: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    return reader.texts(data["tags"], (*path, "tags")) if "tags" in data else ()


def _spec(data: Mapping[str, Any], name: str, tasks: Mapping[str, Task]) -> dict[str, object]:
    return {**data, "name": name, "version": "2.0", "tasks": {key: task.spec for key, task in tasks.items()}}


def _read_tasks(reader: Reader, data: Mapping[str, Any], path: Path, *, reverse: bool) -> list[ReadTask]:
    if "tasks" not in data:
        reader.fault(path, "`tasks` is missing", reader.guess("tasks", data.keys() - _KEYS.keys()))
        return []
    tasks = reader.mapping(data["tasks"], (*path, "tasks"))
    if tasks is None:
        return []
    return [read_task(reader, name, body, (*path, "tasks", name), reverse=reverse) for name, body in tasks.items()]


def _read_defaults(reader: Reader, value: object, path: Path) -> _Defaults:
    data = reader.mapping(value, path)
    if data is None:
        return _NO_DEFAULTS
    reader.known_keys(data, _DEFAULTS_KEYS, path, "task-defaults")
    read_description(reader, data, path)
    read_tags(reader, data, path)
    return _Defaults(
        clauses=tuple(
            read_clause(reader, data[key], (*path, key)) if key in data else NO_CLAUSE for key in CLAUSE_KEYS
        ),
        policies=read_policies(reader, data, path),
        safe_rerun=reader.boolean(data["safe-rerun"], (*path, "safe-rerun")) if "safe-rerun" in data else None,
        revert=read_revert(reader, data["revert"], (*path, "revert")) if "revert" in data else None,
        requires=reader.text_or_texts(data["requires"], (*path, "requires")) if "requires" in data else (),
    )


def _link_direct(reader: Reader, read: list[ReadTask], defaults: _Defaults) -> dict[str, Task]:
    """Apply task-defaults, check all targets and joins, and set the inbound tasks of each task."""
    names = {item.task.name for item in read}
    if len(read) * sum(len(default.clause.next) for default in defaults.clauses) > TRANSITIONS_MAX:
        place = (*read[0].path[:-2], "task-defaults")
        reader.fault(place, f"more than {TRANSITIONS_MAX:,} transitions", category=SEMANTIC)
        defaults = _NO_DEFAULTS
    for item in read:
        _check_targets(reader, item.clauses, names)
    _check_targets(reader, defaults.clauses, names)
    inbound: dict[str, dict[str, None]] = {name: {} for name in names}
    clauses: dict[str, list[Clause]] = {}
    for item in read:
        name = item.task.name
        clauses[name] = [
            _clause_of(own.clause, default.clause, name)
            for own, default in zip(item.clauses, defaults.clauses, strict=True)
        ]
        for clause in clauses[name]:
            for transition in clause.next:
                if transition.target in inbound:
                    inbound[transition.target][name] = None
    tasks = {}
    for item in read:
        leading = tuple(inbound[item.task.name])
        _check_join(reader, item, len(leading))
        on_success, on_error, on_complete, on_skip = clauses[item.task.name]
        tasks[item.task.name] = replace(
            _with_defaults(item, defaults),
            inbound=leading,
            on_success=on_success,
            on_error=on_error,
            on_complete=on_complete,
            on_skip=on_skip,
        )
    return tasks


def _link_reverse(reader: Reader, read: list[ReadTask], defaults: _Defaults) -> dict[str, Task]:
    names = {item.task.name for item in read}
    tasks = {}
    for item in read:
        name = item.task.name
        requires = dict.fromkeys((*item.task.requires, *defaults.requires))
        requires.pop(name, None)
        for required in requires:
            if required not in names:
                place = (
                    (*item.path, "requires") if required in item.task.requires else (*item.path[:-2], "task-defaults")
                )
                hint = reader.guess(required, names)
                reader.fault(place, f"requires `{required}`, which is no task of this workflow", hint, SEMANTIC)
        tasks[name] = replace(_with_defaults(item, defaults), requires=tuple(requires))
    return tasks


def _check_retries(reader: Reader, read: Iterable[ReadTask], defaults: _Defaults) -> None:
    for item in read:
        if item.policies.retry is not None:
            check_retry(reader, item.checkpoint, (*item.path, "retry"))
        elif defaults.policies.retry is not None:
            message = "task-defaults give this task a `retry`, which no task has beside a checkpoint with `retry`"
            check_retry(reader, item.checkpoint, (*item.path, "checkpoint", "retry"), message)


def _with_defaults(item: ReadTask, defaults: _Defaults) -> Task:
    return replace(
        item.task,
        policies=merge_policies(item.policies, defaults.policies),
        safe_rerun=item.task.safe_rerun or defaults.safe_rerun,
        revert=item.task.revert or defaults.revert,
    )


def _clause_of(own: Clause, default: Clause, name: str) -> Clause:
    """Return the task's clause; if it has no target, with the targets of task-defaults except the task itself."""
    if own.next or not default.next:
        return own
    if any(transition.target == name for transition in default.next):
        following = tuple(transition for transition in default.next if transition.target != name)
        return Clause(own.branch, own.globals, following)
    return Clause(own.branch, own.globals, default.next)


def _check_targets(reader: Reader, clauses: tuple[ReadClause, ...], names: set[str]) -> None:
    for read in clauses:
        for transition, place in zip(read.clause.next, read.places, strict=True):
            if transition.target not in names and transition.command is None:
                hint = reader.guess(transition.target, itertools.chain(names, _COMMANDS))
                reader.fault(place, f"there is no task `{transition.target[:255]}`", hint, SEMANTIC)


def _check_join(reader: Reader, item: ReadTask, inbound: int) -> None:
    join = item.task.join
    if join == JOIN_ALL and inbound == 0:
        reader.fault((*item.path, "join"), "nothing leads to this task, so there is nothing to join", category=SEMANTIC)
    elif join is not None and join > inbound:
        message = f"waits for {join} tasks, but {inbound} lead{'s' if inbound == 1 else ''} to it"
        reader.fault((*item.path, "join"), message, category=SEMANTIC)


def _find_starts(reader: Reader, tasks: Mapping[str, Task], path: Path) -> tuple[str, ...]:
    starts = tuple(name for name, task in tasks.items() if not task.inbound)
    if tasks and not starts:
        hint = "let one task have nothing that leads to it"
        reader.fault((*path, "tasks"), "no task to start with: something leads to every task", hint, SEMANTIC)
    return starts
