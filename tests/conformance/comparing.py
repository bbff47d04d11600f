"""What of a recorded case is compared with what came."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

MARKS = re.compile("<message>|<id>|<time>")
"""Each stands for any text."""

RECORDED = re.compile(
    r"\b[0-9a-f]{24}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|https?://(?:127\.0\.0\.1|localhost|0\.0\.0\.0)\b[^\s'\"]*"
)
"""StackStorm's ids, and the addresses of its services."""

RECORDED_KEYS = {"api_url", "action_execution_id", "workflow_execution_id", "task_execution_id", "execution_id"}
"""Of a context's `st2` and `parent`: what stands there is an id or an address."""

STATES = {"DELAYED": "RUNNING_DELAYED"}


def agrees(expected: object, actual: object) -> bool:
    """Whether a value is as expected. A mark within a text matches any text, what stands around it only itself."""
    if isinstance(expected, str) and isinstance(actual, str):
        return expected == actual or (bool(MARKS.search(expected)) and _fits(expected, actual))
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(agrees(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(agrees, expected, actual))
    return expected == actual and (type(expected) is type(actual) or (_is_number(expected) and _is_number(actual)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(expected: str, actual: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in MARKS.split(expected))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


def masked(recorded: Any) -> Any:
    """What StackStorm was recorded to give, with marks for its ids and addresses: here they are others."""
    if isinstance(recorded, str):
        return RECORDED.sub("<id>", recorded)
    if isinstance(recorded, list):
        return [masked(each) for each in recorded]
    if isinstance(recorded, dict):
        return {
            key: "<id>" if key in RECORDED_KEYS and isinstance(value, str) else masked(value)
            for key, value in recorded.items()
        }
    return recorded


def has_same_shape(expected: object, actual: object, names: Iterable[str]) -> bool:
    """Whether a text that tells why something ended names the same of these tasks; how it is said does not count."""
    if not isinstance(expected, str) or not isinstance(actual, str):
        return agrees(expected, actual)
    return bool(MARKS.fullmatch(expected)) or all(_names(name, expected) == _names(name, actual) for name in names)


def _names(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def task_differences(
    expected: list[dict[str, Any]], actual: list[dict[str, Any]], unrecorded: Collection[str] = ()
) -> list[str]:
    """Tasks are compared as a multiset of name, state and what they published. Tasks in a state that is `unrecorded`
    may be there beside those that are expected."""
    left = list(actual)
    told = []
    for one in expected:
        wanted = {**one, "state": STATES.get(one["state"], one["state"])}
        match = next((other for other in left if _same_task(wanted, other)), None)
        if match is None:
            told.append(f"expected task {_shown(wanted)}")
        else:
            left.remove(match)
    return told + [f"came task {_shown(other)}" for other in left if other["state"] not in unrecorded]


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
