"""What of an Orquesta case is compared, and how its words map to ours: for the core and for the services alike.

A view is what came, as plain data: `state`, `info`, `output`, `errors` (the names of tasks), `tasks` (name, route,
state, published, began) and `executions` (task, route, item, state, input, delegated).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.conformance.comparing import agrees

View = dict[str, Any]

EXECUTION_STATES = {
    "succeeded": {"SUCCESS"},
    "failed": {"ERROR"},
    "canceled": {"CANCELLED"},
    "paused": {"PAUSED"},
    "running": {"RUNNING"},
    "resuming": {"RUNNING"},
    "pausing": {"PAUSING"},
    "canceling": {"CANCELLING"},
}
TASK_STATES = {
    "succeeded": {"SUCCESS", "SKIPPED"},
    "failed": {"ERROR"},
    "timeout": {"ERROR"},
    "abandoned": {"ERROR"},
    "canceled": {"CANCELLED"},
    "paused": {"PAUSED", "RUNNING"},
    "pending": {"RUNNING"},
}
ACTIVE_TASK = {"RUNNING", "RUNNING_DELAYED", "PAUSED"}
"""What a task is that Orquesta shows as running, pausing, canceling, resuming, delayed ..."""
ATTEMPT_STATES = {
    "succeeded": {"SUCCESS"},
    "failed": {"ERROR"},
    "timeout": {"ERROR"},
    "abandoned": {"ERROR"},
    "canceled": {"CANCELLED"},
    "paused": {"PAUSED"},
    "pending": {"RUNNING"},
}
ACTIVE_ATTEMPT = {"READY", "RUNNING"}
NOT_BEGUN = {"IDLE", "WAITING"}
"""Selected, but not started: Orquesta has no entry for such a task."""


def run_differences(expect: dict[str, Any], view: View, case: dict[str, Any]) -> list[str]:
    """How the end of a run differs from what was recorded."""
    loose = case.get("order_sensitive", ())
    told = []
    if "status" not in loose:
        told += state_differences(expect["status"], view)
    if "output" not in loose:
        told += output_differences(expect["output"], view)
    if "errors" not in loose:
        told += error_differences(expect["errors"], view, suppressed(expect["executions"]))
    if "tasks" not in loose:
        told += task_differences(expect["tasks"], view["tasks"])
        told += execution_differences(expect["executions"], view["executions"], "inputs_not_compared" not in case)
    return told


def state_differences(status: str, view: View) -> list[str]:
    """The final, or present, state of the execution."""
    if view["state"] in EXECUTION_STATES[status]:
        return []
    return [f"expected status {status}, came {view['state']}: {view['info']}"]


def output_differences(wanted: object, view: View) -> list[str]:
    """The output; null and nothing at all are the same."""
    output = view["output"]
    return [] if agrees(wanted or {}, output or {}) else [f"expected output {wanted}, came {output}"]


def suppressed(executions: list[dict[str, Any]]) -> set[str]:
    """The tasks of which an action was timed out or abandoned: Orquesta tells no error of those."""
    return {each["task"] for each in executions if each["status"] in ("timeout", "abandoned")}


def error_differences(wanted: list[dict[str, Any]], view: View, unsure: set[str]) -> list[str]:
    """Which tasks the errors name, as a multiset."""
    expected = Counter(error.get("task_id") or "" for error in wanted)
    came = Counter(name for name in view["errors"])
    for name in unsure:
        expected.pop(name, None)
        came.pop(name, None)
    return [] if expected == came else [f"expected errors of {dict(expected)}, came {dict(came)}"]


def task_differences(wanted: list[dict[str, Any]], came: list[dict[str, Any]]) -> list[str]:
    """Tasks as a multiset of name, route, state and what they published."""
    left = [task for task in came if task["state"] not in NOT_BEGUN]
    told = []
    for one in wanted:
        match = next((task for task in left if _is_task(one, task)), None)
        if match is None:
            told.append(
                f"expected task {one['id']} on route {one['route']} {one['status']} published {one.get('published')}"
            )
        else:
            left.remove(match)
    return told + [
        _shown(task) for task in left if told or task["began"] or task["state"] not in ("ERROR", "CANCELLED")
    ]


def _shown(task: dict[str, Any]) -> str:
    where = f"{task['name']} on route {task['route']}"
    return f"came task {where} {task['state']} published {task['published']}: {task['info']}"


def _is_task(wanted: dict[str, Any], task: dict[str, Any]) -> bool:
    if (wanted["id"], wanted["route"]) != (task["name"], task["route"]):
        return False
    if task["state"] not in TASK_STATES.get(wanted["status"], ACTIVE_TASK):
        return False
    return "published" not in wanted or agrees(wanted["published"], task["published"])


def execution_differences(
    wanted: list[dict[str, Any]], came: list[dict[str, Any]], compares_input: bool = True
) -> list[str]:
    """The runs of actions and sub-workflows, as a multiset of task, route, item, state and input."""
    left = list(came)
    told = []
    for one in wanted:
        match = next((each for each in left if _is_execution(one, each, compares_input)), None)
        if match is None:
            told.append(f"expected action of {_place(one)} {one['status']} input {one.get('input')}")
        else:
            left.remove(match)
    return told + [f"came action of {_place(each)} {each['state']} input {each['input']}" for each in left]


def _is_execution(wanted: dict[str, Any], came: dict[str, Any], compares_input: bool) -> bool:
    if _place(wanted) != _place(came):
        return False
    if came["state"] not in ATTEMPT_STATES.get(wanted["status"], ACTIVE_ATTEMPT):
        return bool(came.get("is_child") and wanted["status"] == "paused" and came["state"] == "RUNNING")
    if wanted["status"] == "pending" and not came["delegated"]:
        return False
    return not compares_input or "input" not in wanted or _is_input(wanted["input"], came)


def _is_input(wanted: dict[str, Any], came: dict[str, Any]) -> bool:
    given = came["input"]
    if came["is_filled"] and isinstance(given, dict):
        given = {name: value for name, value in given.items() if name in wanted}
    return agrees(wanted, given)


def _place(each: dict[str, Any]) -> str:
    item = each.get("item")
    return f"{each['task']}~{each['route']}" + ("" if item is None else f"[{item}]")


def active_differences(wanted: list[dict[str, Any]], view: View) -> list[str]:
    """What is being worked on or waited for now; what is delayed counts although it has no action yet, unless its
    execution is PAUSED (decision 8)."""
    delayed = [
        {
            "task": task["name"],
            "route": task["route"],
            "item": item,
            "state": "RUNNING",
            "input": None,
            "is_filled": False,
        }
        for task in view["tasks"]
        if task["state"] == "RUNNING_DELAYED" and view["state"] != "PAUSED"
        for item in _delayed_items(task, wanted)
    ]
    active = [each for each in view["executions"] if each["state"] in ("READY", "RUNNING", "PAUSED")]
    return execution_differences(wanted, active + delayed, compares_input=False)


def _delayed_items(task: dict[str, Any], wanted: list[dict[str, Any]]) -> list[int | None]:
    """Which of a delayed task's items are delayed: there each is by itself, here the task is, and of its items may not
    know yet how many there are and how many of them begin at once."""
    places = [each["item"] for each in wanted if _is_delayed_item(each, task)]
    return [place for place in places if task["items"] is None or place < task["items"]] or [None]


def _is_delayed_item(each: dict[str, Any], task: dict[str, Any]) -> bool:
    is_of_task = (each["task"], each["route"]) == (task["name"], task["route"])
    return is_of_task and each["status"] == "delayed" and each.get("item") is not None
