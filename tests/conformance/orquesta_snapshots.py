"""What stands after each step of a recorded Orquesta operation, and where ours may look otherwise and be the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance import orquesta_views as views
from tests.conformance.comparing import masked
from tests.conformance.orquesta_views import View


class Snapshots:
    """The snapshots of one case, and what the steps so far mean for how they are read."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.steps: list[dict[str, Any]] = case["steps"]
        self.snapshots: list[dict[str, Any]] = masked(case.get("expect_if_item_results_kept") or case["expect"])
        self._replaced: set[int] = set()
        """The places, in the original's list of tasks, of those that a rerun ran again: we have one record for both."""
        self._unsure: set[str] = set()
        """Tasks of which an action was timed out or abandoned: Orquesta tells no error of those."""
        self._is_cancelled = False
        """Whether a cancel was asked for or reported."""
        self._is_announced = False
        """Whether an action only said that it is going to be cancelled, which is no report to us: it still runs."""

    def is_refused(self, number: int) -> bool:
        """Whether this step was refused."""
        return "op_error" in self.snapshots[number]

    def note(self, number: int) -> None:
        """This step has been made."""
        step, status = self.steps[number], self.steps[number].get("status")
        if status in ("timeout", "abandoned"):
            self._unsure.add(step["task"])
        self._is_cancelled |= step["op"] == "cancel" or status == "canceled"
        self._is_announced |= status == "canceling" and self.snapshots[number - 1]["status"] != "canceling"
        if step["op"] == "rerun":
            self._note_replaced(step, self.snapshots[number - 1]["tasks"], self.snapshots[number]["tasks"])

    def _note_replaced(self, step: dict[str, Any], before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
        """A rerun of ours is another attempt of the same task; Orquesta's is another entry after the old one."""
        named = {one["name"] for one in step.get("tasks") or ()}
        for entry in after[len(before) :]:
            old = [
                place
                for place, one in enumerate(before)
                if (one["id"], one["route"]) == (entry["id"], entry["route"]) and place not in self._replaced
            ]
            if old and (entry["id"] in named or (not named and before[old[-1]]["status"] == "failed")):
                self._replaced.add(old[-1])

    def differences(self, number: int, came: Mapping[str, View]) -> list[str]:
        """How what came after a step, by the path to each sub-workflow, differs; what is wrong comes with the step."""
        tasks = [one for place, one in enumerate(self.snapshots[number]["tasks"]) if place not in self._replaced]
        told = self._compare({**self.snapshots[number], "tasks": tasks}, came, "")
        return [f"step {number} {shown(self.steps[number])}: {each}" for each in told]

    def _compare(self, snapshot: dict[str, Any], came: Mapping[str, View], path: str) -> list[str]:
        view = came.get(path)
        if view is None:
            return ["is missing"]
        told = []
        is_only_announced = self._is_announced and snapshot["status"] == "canceling"
        if not is_only_announced or view["state"] not in ("RUNNING", "PAUSING"):
            told += views.state_differences(snapshot["status"], view)
        told += views.task_differences(snapshot["tasks"], view["tasks"])
        told += views.active_differences(self._expected_active(snapshot), view)
        if "output" in snapshot:
            told += views.output_differences(snapshot["output"], view)
            told += views.error_differences(snapshot["errors"], view, self._unsure)
        for name, sub in (snapshot.get("sub") or {}).items():
            found = self._compare(sub, came, f"{path}/{name}".lstrip("/"))
            told += [f"sub-workflow of {name}: {each}" for each in found]
        return told

    def _expected_active(self, snapshot: dict[str, Any]) -> list[dict[str, Any]]:
        """A cancel of ours cancels what is only waited for (decision 6); there it is left as it was."""
        active: list[dict[str, Any]] = snapshot["active"]
        is_cancelled = snapshot["status"] in ("canceling", "canceled") and self._is_cancelled
        return [one for one in active if not is_cancelled or one["status"] not in ("pending", "paused")]


def shown(step: dict[str, Any]) -> str:
    """A step on one line."""
    return " ".join(f"{name}={value}" if name != "op" else str(value) for name, value in step.items())


def result_by_rule(case: dict[str, Any], action: str, given: dict[str, Any]) -> tuple[str, object]:
    """How an action ends of which the case says nothing: with null, or as StackStorm's own would."""
    if (case.get("action_results") or {}).get("rule") != "st2":
        return "succeeded", None
    if action == "core.ask":
        return "pending", None
    result: dict[str, object] = {"failed": False, "succeeded": True, "return_code": 0}
    if action == "core.echo":
        result |= {"stdout": str(given.get("message")), "stderr": ""}
    return "succeeded", result
