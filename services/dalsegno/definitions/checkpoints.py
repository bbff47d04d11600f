"""Checkpoints as their author writes them: a name, its place, its data, and how often to go back to it.

Neither language has checkpoints, so both get the same keys, which are read here. The expressions in them differ: each
language compiles its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dalsegno.definitions.forms import NAME_LENGTH_MAX, Forms
from dalsegno.definitions.problems import SEMANTIC, Path, shown
from dalsegno.workflow.model import LAST, START, CheckpointPlace

_KEYS = dict.fromkeys(("name", "when", "data", "retry", "delay"))
TIMES_MAX = 1_000
"""The most times that a failure goes back to an entry (decision 22)."""

_PLACES = {place.value: place for place in (CheckpointPlace.BEFORE, CheckpointPlace.AFTER)}
_UNFIT = re.compile(r"<%|\{\{|\{%|[\x00-\x1f\x7f-\x9f]")
"""Expressions, which are not evaluated here, and control characters."""


@dataclass(frozen=True, slots=True)
class WrittenCheckpoint:
    """A checkpoint whose expressions are not compiled."""

    name: str
    """Empty if it is invalid."""
    path: Path
    """The place of the name."""
    place: CheckpointPlace | None = None
    """None: not written."""
    data: Mapping[str, Any] = field(default_factory=dict)
    retry: int = 0
    delay: Any = None


def read_checkpoint(forms: Forms, task: Mapping[str, Any], task_path: Path) -> WrittenCheckpoint | None:
    """Read the checkpoint of a task: its name, or a mapping with its keys. None: it has none, or no valid one."""
    if "checkpoint" not in task:
        return None
    value, path = task["checkpoint"], (*task_path, "checkpoint")
    if isinstance(value, str):
        return WrittenCheckpoint(_read_name(forms, value, path), path)
    if not isinstance(value, dict) or not value:
        hint = "put it in quotes" if isinstance(value, bool | int | float) else "checkpoint: installed"
        forms.fault(path, f"must be a name or a mapping with a name, not {shown(value)}", hint)
        return None
    forms.known_keys(value, _KEYS, path, "checkpoint")
    name = ""
    if "name" not in value:
        forms.fault(path, "`name` is missing", "name: installed")
    else:
        name = _read_name(forms, value["name"], (*path, "name"))
    if "delay" in value and "retry" not in value:
        message = "`delay` is the time before going on again, so it needs a `retry`"
        forms.fault((*path, "delay"), message, "retry: 1", SEMANTIC)
    return WrittenCheckpoint(
        name,
        (*path, "name"),
        forms.word(value["when"], _PLACES, (*path, "when")) if "when" in value else None,
        (forms.mapping(value["data"], (*path, "data")) or {}) if "data" in value else {},
        read_times(forms, value["retry"], (*path, "retry")) if "retry" in value else 0,
        value.get("delay"),
    )


def read_times(forms: Forms, value: object, path: Path) -> int:
    """Read how often a failure goes back to an entry; 1 if it is invalid."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= TIMES_MAX:
        return value
    hint = "remove the quotes" if isinstance(value, str) and value.isdigit() else ""
    forms.fault(path, f"must be a whole number from 1 to {TIMES_MAX:,}, not {shown(value)}", hint)
    return 1


def check_retry(forms: Forms, checkpoint: WrittenCheckpoint | None, retry_path: Path | None, message: str = "") -> None:
    """Add a problem for a task that has a policy `retry`, whose place is given, beside a checkpoint with `retry`."""
    if checkpoint is not None and checkpoint.retry and retry_path is not None:
        hint = "keep one: `retry` runs the task again, that of a checkpoint goes back to it and on from there"
        forms.fault(retry_path, message or "a task has no `retry` beside a checkpoint with `retry`", hint, SEMANTIC)


def _read_name(forms: Forms, value: object, path: Path) -> str:
    name = forms.text(value, path) or ""
    if name in (START, LAST):
        meant = "the beginning of an execution" if name == START else "the newest checkpoint that was reached"
        forms.fault(path, f"`{name}` is reserved: it means {meant}", "choose another name", SEMANTIC)
    elif len(name) > NAME_LENGTH_MAX:
        forms.fault(path, f"a name has 1 to {NAME_LENGTH_MAX} characters", category=SEMANTIC)
    elif _UNFIT.search(name):
        message = "the name of a checkpoint is fixed: it has no expressions and no control characters"
        forms.fault(path, message, "put what differs into `data`", SEMANTIC)
    return name


def check_names(forms: Forms, checkpoints: Iterable[tuple[str, WrittenCheckpoint | None]]) -> None:
    """Add a problem for every checkpoint that has the name of another one of its workflow; each is given with the name
    of its task."""
    tasks: dict[str, str] = {}
    for task, checkpoint in checkpoints:
        if checkpoint is not None and checkpoint.name and tasks.setdefault(checkpoint.name, task) != task:
            message = f"the task `{tasks[checkpoint.name][:255]}` has a checkpoint `{checkpoint.name[:255]}` too"
            forms.fault(checkpoint.path, message, "each checkpoint of a workflow has a name of its own", SEMANTIC)
