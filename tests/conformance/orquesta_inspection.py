"""What Orquesta found wrong with a definition, and whether the same is found here: one way for core and services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.conformance.stage import Stage

from dalsegno.definitions.calls import Signature
from dalsegno.definitions.problems import CONTENT, CONTEXT

Place = tuple[str, str, str]
"""Category, the task or the top-level key, and what it is about: the variable; or the action, and its input if any."""

ECHO = "core.echo"
"""The action of StackStorm whose input matters to the recordings: all others take any."""

_UNREGISTERED = re.compile(r'The action "([^"]+)" is not registered')
_QUOTED = re.compile(r'["`]([^"`]+)["`]')


class RecordedActions(Mapping[str, Signature]):
    """The registry that a recording was made with: all actions that have a pack, but for those that the case itself
    says were not registered."""

    def __init__(self, case: dict[str, Any]) -> None:
        messages = " ".join(error["message"] for error in case["expect"]["errors"] or ())
        self._missing = set(_UNREGISTERED.findall(messages))
        self._described = {
            name: frozenset(parameter for parameter, about in action.get("parameters", {}).items() if _is_needed(about))
            for name, action in (case.get("actions") or {}).items()
        }

    def __getitem__(self, reference: str) -> Signature:
        """KeyError for what was not registered. What its runner takes is not recorded: any other input."""
        if reference == ECHO:
            return Signature(frozenset({"message"}))
        if reference in self._described:
            return Signature(self._described[reference], is_open=True)
        pack, _, name = reference.partition(".")
        if not pack or not name or reference in self._missing:
            raise KeyError(reference)
        return Signature(is_open=True)

    def __iter__(self) -> Iterator[str]:
        """What may be hinted at."""
        return iter((ECHO, *self._described))

    def __len__(self) -> int:
        return 1 + len(self._described)


def _is_needed(parameter: dict[str, Any]) -> bool:
    return bool(parameter.get("required")) and parameter.get("default") is None


def actions_of(case: dict[str, Any]) -> RecordedActions | None:
    """The registry of a case that StackStorm looked at; the conductor alone knows of none."""
    return RecordedActions(case) if case.get("st2") or case.get("ref") else None


def expected_places(case: dict[str, Any]) -> set[Place]:
    """What the original found, also for cases that were to be run and that it would not start."""
    return {
        _place(error["type"], error["spec_path"] or "", error["message"])
        for error in case["expect"]["errors"] or ()
        if "spec_path" in error
    }


def _place(category: str, path: str, message: str) -> Place:
    part = re.match(r"tasks\.\w+|\w*", path)
    names = _QUOTED.findall(message) if category in (CONTEXT, CONTENT) else []
    return category, part.group() if part else "", " ".join(names)


async def inspection_differences(stage: Stage, case: dict[str, Any]) -> list[str]:
    """How the problems that are found differ from those that the original found."""
    actions, expected = actions_of(case), expected_places(case)
    problems = await stage.validate(case["definition"], "case", actions=actions, given=case.get("app_ctx") or ())
    places = {_place(problem.category, problem.path, problem.message): problem for problem in problems}
    came = {place for place in places if place in expected or not _is_only_missing_here(place, actions)}
    if came == expected:
        return []
    told = [f"{each.path}: {each.message}" for place, each in places.items() if place in came - expected]
    return [f"expected problems {sorted(expected)}, came {sorted(came)}", *told]


def _is_only_missing_here(place: Place, actions: RecordedActions | None) -> bool:
    """Whether an action was registered where the recording was made that nobody offers here."""
    category, _, name = place
    return category == CONTENT and actions is not None and " " not in name and name in actions
