"""Checkpoints as their author writes them: a name, its place, its data, how often to go back to it, and what to keep.

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
from dalsegno.workflow.model import LAST, START, CheckpointPlace, Keep

_KEYS = dict.fromkeys(("name", "when", "data", "keep", "retry", "delay"))
COUNT_MAX = 1_000
"""The most times that a failure goes back to an entry, and the most entries that are kept (decisions 22 and 24)."""

_KEEP_KEYS = dict.fromkeys(("count", "age"))
AGE_MAX_S = 36_500 * 86_400
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"(?:[0-9]{1,10}[smhdw])+")
_AGE_PART = re.compile(r"([0-9]+)([smhdw])")

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
    keep: Keep | None = None


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
        read_count(forms, value["retry"], (*path, "retry")) if "retry" in value else 0,
        value.get("delay"),
        _read_keep(forms, value["keep"], (*path, "keep")) if "keep" in value else None,
    )


def read_count(forms: Forms, value: object, path: Path) -> int:
    """Read how often a failure goes back to an entry, or how many entries are kept; 1 if it is invalid."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= COUNT_MAX:
        return value
    hint = "remove the quotes" if isinstance(value, str) and value.isdigit() else ""
    forms.fault(path, f"must be a whole number from 1 to {COUNT_MAX:,}, not {shown(value)}", hint)
    return 1


def _read_keep(forms: Forms, value: object, path: Path) -> Keep | None:
    """Read how much history is kept. None: it is invalid."""
    if not isinstance(value, dict) or not value:
        forms.fault(path, f"must be a mapping with `count`, `age` or both, not {shown(value)}", "keep: {count: 5}")
        return None
    forms.known_keys(value, _KEEP_KEYS, path, "keep")
    return Keep(
        read_count(forms, value["count"], (*path, "count")) if "count" in value else 0,
        _read_age(forms, value["age"], (*path, "age")) if "age" in value else None,
    )


def _read_age(forms: Forms, value: object, path: Path) -> float:
    """Read an age: a number of seconds, or a text such as 3d or 1d12h. Return it in seconds; 0 if it is invalid."""
    age_s: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        age_s = value
    elif isinstance(value, str) and _AGE.fullmatch(value):
        age_s = sum(int(count) * _UNITS_S[unit] for count, unit in _AGE_PART.findall(value))
    if age_s is not None and 0 < age_s <= AGE_MAX_S:
        return float(age_s)
    hint = "an age is fixed: seconds, or a number with s, m, h, d or w behind it, as in 3d or 1d12h"
    forms.fault(path, f"must be an age of more than 0 and at most 36,500 days, not {shown(value)}", hint)
    return 0.0


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
