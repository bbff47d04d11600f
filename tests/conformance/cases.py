"""The recorded cases: where they are and what of them is compared (see the README beside them)."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

ANY = {"<message>", "<id>", "<time>"}
STATES = {"DELAYED": "RUNNING_DELAYED"}


def folder() -> Path:
    """DALSEGNO_CONFORMANCE, or ../shared/conformance beside the checkout."""
    default = Path(__file__).resolve().parents[3] / "shared" / "conformance"
    return Path(os.environ.get("DALSEGNO_CONFORMANCE") or default)


def load(name: str) -> list[dict[str, Any]]:
    """The cases of one file, those with a quirk left out; none when the folder is absent."""
    path = folder() / name
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines if line.strip()]
    return [case for case in cases if "quirk" not in case]


def agrees(expected: object, actual: object) -> bool:
    """Whether a value is as expected; placeholders match any text."""
    if isinstance(expected, str) and any(mark in expected for mark in ANY):
        return True
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(agrees(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(agrees, expected, actual))
    return (type(expected) is type(actual) and expected == actual) or (
        isinstance(expected, int | float) and isinstance(actual, int | float) and expected == actual
    )


def task_differences(expected: list[dict[str, Any]], actual: list[dict[str, Any]]) -> list[str]:
    """Tasks are compared as a multiset of name, state and what they published."""
    left = list(actual)
    told = []
    for one in expected:
        wanted = {**one, "state": STATES.get(one["state"], one["state"])}
        match = next((other for other in left if _same_task(wanted, other)), None)
        if match is None:
            told.append(f"expected task {_shown(wanted)}")
        else:
            left.remove(match)
    return told + [f"came task {_shown(other)}" for other in left]


def _same_task(expected: dict[str, Any], actual: dict[str, Any]) -> bool:
    if (expected["name"], expected["state"]) != (actual["name"], actual["state"]):
        return False
    if not agrees(expected.get("published") or {}, actual["published"]):
        return False
    accepted = Counter(action["state"] for action in expected.get("actions", ()) if action["accepted"])
    return "accepted" not in actual or accepted == Counter(actual["accepted"])


def _shown(task: dict[str, Any]) -> str:
    actions = [action["state"] for action in task.get("actions", ()) if action["accepted"]]
    return f"{task['name']} {task['state']} published {task.get('published')} accepted {task.get('accepted', actions)}"
