"""What undoes a task, and what a failure sets off, as their author writes them.

Neither language has these keys, so both get the same ones. The expressions in them differ: each language compiles its
own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dalsegno.definitions.checkpoints import WrittenCheckpoint, read_count
from dalsegno.definitions.forms import Forms
from dalsegno.definitions.problems import SEMANTIC, Path, shown
from dalsegno.workflow.model import LAST, START, RevertWhen, Then

_REVERT_KEYS = dict.fromkeys(
    ("action", "input", "when", "retry", "timeout", "safe-rerun", "target", "publish", "concurrency")
)
_WHENS = {each.value: each for each in RevertWhen}
_STRATEGY_KEYS = dict.fromkeys(("revert", "then", "count", "delay"))
_THENS = {each.value: each for each in Then}


@dataclass(frozen=True, slots=True)
class WrittenRevert:
    """A revert whose expressions are not compiled."""

    keys: Mapping[str, Any]
    """The keys as written; at least `action`."""
    path: Path
    action_path: Path
    when: RevertWhen = RevertWhen.SUCCESS


def read_revert(forms: Forms, value: object, path: Path) -> WrittenRevert | None:
    """Read what undoes a task: the action with its parameters in one line, or a mapping with the keys of a revert."""
    if isinstance(value, str):
        return WrittenRevert({"action": value}, path, path)
    if not isinstance(value, dict) or not value:
        forms.fault(path, f"must be an action or a mapping with an action, not {shown(value)}", "revert: std.noop")
        return None
    keys = {key: part for key, part in value.items() if key != "workflow"}
    if "workflow" in value:
        hint = "name an action; the tasks of a sub-workflow have reverts of their own"
        forms.fault((*path, "workflow"), "a revert runs an action, never a workflow", hint, SEMANTIC)
    forms.known_keys(keys, _REVERT_KEYS, path, "revert")
    if keys.get("concurrency") == 0:
        forms.fault((*path, "concurrency"), "must be at least 1", "without it, one item is reverted after the other")
    when = RevertWhen.SUCCESS
    if "when" in keys:
        when = forms.word(keys["when"], _WHENS, (*path, "when")) or when
    if "action" not in keys:
        if "workflow" not in value:
            forms.fault(path, "`action` is missing", "action: std.noop")
        return None
    return WrittenRevert(keys, path, (*path, "action"), when)


@dataclass(frozen=True, slots=True)
class OnFailure:
    """What a failure that nothing handles sets off."""

    pauses: bool = False
    to: str = ""
    """The checkpoint that is gone back to, START or LAST; empty: the execution is not reverted."""
    then: Then = Then.STOP
    count: int = 1
    delay: Any = None
    path: Path = ()


FAILS = OnFailure()
"""What a failure sets off without the key."""


def read_on_failure(
    forms: Forms, workflow: Mapping[str, Any], path: Path, checkpoints: Collection[WrittenCheckpoint]
) -> OnFailure:
    """Read `on-failure` of a workflow with these checkpoints: fail, pause, revert, or a mapping.

    Without it a failure has the language's effect (decisions 13 and 22).
    """
    value, place = workflow.get("on-failure", "fail"), (*path, "on-failure")
    if not isinstance(value, dict):
        if value not in ("fail", "pause", "revert"):
            forms.fault(place, f"must be fail, pause, revert or a mapping with `revert`, not {shown(value)}")
        if value == "revert":
            _check_history(forms, place, checkpoints)
        return OnFailure(pauses=value == "pause", to=START if value == "revert" else "")
    forms.known_keys(value, _STRATEGY_KEYS, place, "strategy")
    then = forms.word(value["then"], _THENS, (*place, "then")) if "then" in value else Then.STOP
    if then is not None and then is not Then.RETRY:
        for key in (key for key in ("count", "delay") if key in value):
            forms.fault((*place, key), f"`{key}` is for `then: retry`, not for `then: {then.value}`", category=SEMANTIC)
    return OnFailure(
        to=_read_target(forms, value, place, checkpoints),
        then=then or Then.STOP,
        count=read_count(forms, value["count"], (*place, "count")) if "count" in value else 1,
        delay=value.get("delay"),
        path=place,
    )


def _read_target(forms: Forms, value: Mapping[str, Any], path: Path, checkpoints: Collection[WrittenCheckpoint]) -> str:
    if "revert" not in value:
        forms.fault(path, "`revert` is missing", f"revert: {START}")
        return START
    place = (*path, "revert")
    name = forms.text(value["revert"], place)
    known = (START, LAST, *(each.name for each in checkpoints))
    if name is not None and name not in known:
        hint = forms.guess(name, known) or "name a checkpoint of this workflow, start or last"
        forms.fault(place, f"there is no checkpoint `{name[:255]}` in this workflow", hint, SEMANTIC)
    elif name == START:
        _check_history(forms, place, checkpoints)
    return name or START


def _check_history(forms: Forms, path: Path, checkpoints: Collection[WrittenCheckpoint]) -> None:
    """Add a problem for a strategy that reverts to the beginning, which a checkpoint with `keep` discards."""
    for each in checkpoints:
        if each.keep is not None:
            message = f"the beginning cannot be gone back to: `keep` of the checkpoint `{each.name[:255]}` discards it"
            forms.fault(path, message, f"revert: {LAST}, or the name of a checkpoint; or remove `keep`", SEMANTIC)
            return
