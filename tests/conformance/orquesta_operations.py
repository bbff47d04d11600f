"""Orquesta's recorded operations, step by step through the core in virtual time: after each step what stands there."""

from __future__ import annotations

from typing import Any

from tests.conformance import orquesta_views as views
from tests.conformance.orquesta import open_attempts, report, view_of, world_of

from dalsegno.workflow.events import (
    CancelRequested,
    Event,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
    TaskChoice,
    TaskDone,
)
from dalsegno.workflow.execution import Attempt, Execution
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.value import Value


class Missing(Exception):
    """There is nothing that the step could be about."""


class Replay:
    """One case while it is being replayed."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.world, self.name = world_of(case)
        self.root: Execution | None = None
        self.replaced: set[int] = set()
        """The places, in the original's list of tasks, of those that a rerun ran again: we have one record for both."""
        self.unsure: set[str] = set()
        """Tasks of which an action was timed out or abandoned."""
        self.is_cancelled = False
        """Whether a cancel was asked for or reported."""
        self.is_announced = False
        """Whether an action only said that it is going to be cancelled, which is no report to us: it still runs."""
        self.before: list[dict[str, Any]] = []
        """The tasks of the snapshot before."""

    def differences(self) -> list[str]:
        """What came otherwise after some step; the steps after it are not looked at."""
        snapshots = self.case.get("expect_if_item_results_kept") or self.case["expect"]
        for number, (step, snapshot) in enumerate(zip(self.case["steps"], snapshots, strict=True)):
            told = self._refusal(step, "op_error" in snapshot)
            assert self.root is not None
            self._note_replaced(step, snapshot["tasks"])
            is_announcing = step.get("status") == "canceling"
            self.is_announced |= is_announcing and (number == 0 or snapshots[number - 1]["status"] != "canceling")
            told += self._compare(self.root, snapshot, self.replaced)
            if told:
                return [f"step {number} {_shown(step)}: {each}" for each in told]
        self.world.check_journals()
        return []

    def _refusal(self, step: dict[str, Any], is_expected: bool) -> list[str]:
        """Do the step; what is wrong with whether it was refused."""
        before = self.root.revision if self.root is not None else 0
        try:
            self._do(step)
        except Missing as missing:
            return [str(missing)]
        except Refusal as refusal:
            told = [] if is_expected else [f"refused: {refusal}"]
            return told + self._changed(before)
        return ["expected to be refused"] if is_expected else []

    def _changed(self, before: int) -> list[str]:
        is_changed = self.root is not None and self.root.revision != before
        return ["the refusal has changed something"] if is_changed else []

    def _do(self, step: dict[str, Any]) -> None:
        world = self.world
        if step["op"] == "start":
            self.root = world.start(self.name, self.case["input"])
        elif step["op"] == "run":
            self._run()
        elif step["op"] in ("complete", "update", "respond"):
            self._report(step)
        else:
            world.tell(self._at(step.get("path")).id, self._request(step))
            self.is_cancelled |= step["op"] == "cancel"
        world.run(until_s=0)

    def _run(self) -> None:
        """Everything that runs ends by the rule, and what comes of it too."""
        world = self.world
        world.run()
        while world.held:
            (execution_id, _), attempt = next(iter(world.held.items()))
            status, result = self._rule(attempt)
            report(world, world.executions[execution_id], attempt, status, result)
            world.run()

    def _rule(self, attempt: Attempt) -> tuple[str, object]:
        if (self.case.get("action_results") or {}).get("rule") != "st2":
            return "succeeded", None
        if attempt.action == "core.ask":
            return "pending", None
        result: dict[str, object] = {"failed": False, "succeeded": True, "return_code": 0}
        if attempt.action == "core.echo":
            given = attempt.input.data
            assert isinstance(given, dict)
            result |= {"stdout": str(given.get("message")), "stderr": ""}
        return "succeeded", result

    def _report(self, step: dict[str, Any]) -> None:
        execution = self._at(step.get("path"))
        attempt = self._attempt(execution, step)
        if attempt is None:  # it may have to wait for its time
            self.world.run()
            attempt = self._attempt(execution, step)
        if attempt is None:
            raise Missing("no such action is running")
        if step["op"] == "respond":
            value = Value(data={"response": step["response"]})
            event = TaskDone(at_s=self.world.now_s, key=attempt.key, outcome="succeeded", result=value)
            self.world.tell(execution.id, event)
            return
        if step["status"] in ("timeout", "abandoned"):
            self.unsure.add(step["task"])
        self.is_cancelled |= step["status"] == "canceled"
        report(self.world, execution, attempt, step["status"], step.get("result"))

    def _at(self, path: str | None) -> Execution:
        """The execution that the path leads to: the newest child of each task."""
        assert self.root is not None
        execution = self.root
        for name in (path or "").split("/") if path else ():
            child = self._child(execution, name)
            if child is None:
                raise Missing(f"{name} runs no sub-workflow")
            execution = child
        return execution

    def _child(self, execution: Execution, name: str) -> Execution | None:
        children = [
            child
            for child in self.world.children(execution)
            if child.created.parent and execution.tasks[child.created.parent.key[0]].name == name
        ]
        return children[-1] if children else None

    def _attempt(self, execution: Execution, step: dict[str, Any]) -> Attempt | None:
        found = None
        for attempt in open_attempts(execution):
            task = execution.tasks[attempt.key[0]]
            is_task = task.name == step["task"] and step.get("route") in (None, task.route)
            if is_task and step.get("item") in (None, attempt.key[1]):
                found = attempt
        return found

    def _request(self, step: dict[str, Any]) -> Event:
        at_s = self.world.now_s
        if step["op"] == "pause":
            return PauseRequested(at_s=at_s)
        if step["op"] == "resume":
            return ResumeRequested(at_s=at_s)
        if step["op"] == "cancel":
            return CancelRequested(at_s=at_s)
        assert step["op"] == "rerun", step
        choices = [TaskChoice(task=one["name"], reset=one.get("reset", False)) for one in step.get("tasks") or ()]
        return RerunRequested(at_s=at_s, choices=tuple(choices))

    def _note_replaced(self, step: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
        """A rerun of ours is another attempt of the same task; Orquesta's is another entry after the old one."""
        if step["op"] == "rerun":
            named = {one["name"] for one in step.get("tasks") or ()}
            for entry in tasks[len(self.before) :]:
                old = [
                    place
                    for place, one in enumerate(self.before)
                    if (one["id"], one["route"]) == (entry["id"], entry["route"]) and place not in self.replaced
                ]
                if old and (entry["id"] in named or (not named and self.before[old[-1]]["status"] == "failed")):
                    self.replaced.add(old[-1])
        self.before = tasks

    def _compare(self, execution: Execution, snapshot: dict[str, Any], replaced: set[int]) -> list[str]:
        view = view_of(self.world, execution)
        told = []
        is_only_announced = self.is_announced and snapshot["status"] == "canceling"
        if not is_only_announced or view["state"] not in ("RUNNING", "PAUSING"):
            told += views.state_differences(snapshot["status"], view)
        tasks = [one for place, one in enumerate(snapshot["tasks"]) if place not in replaced]
        told += views.task_differences(tasks, view["tasks"])
        told += views.active_differences(self._expected_active(snapshot), view)
        if "output" in snapshot:
            told += views.output_differences(snapshot["output"], view)
            told += views.error_differences(snapshot["errors"], view, self.unsure)
        for name, sub in (snapshot.get("sub") or {}).items():
            child = self._child(execution, name)
            found = ["is missing"] if child is None else self._compare(child, sub, set())
            told += [f"sub-workflow of {name}: {each}" for each in found]
        return told

    def _expected_active(self, snapshot: dict[str, Any]) -> list[dict[str, Any]]:
        """A cancel of ours cancels what is only waited for (BEHAVIOURS decision 6); there it is left as it was."""
        active: list[dict[str, Any]] = snapshot["active"]
        is_cancelled = snapshot["status"] in ("canceling", "canceled") and self.is_cancelled
        return [one for one in active if not is_cancelled or one["status"] not in ("pending", "paused")]


def _shown(step: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" if name != "op" else str(value) for name, value in step.items())


def differences(case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    return Replay(case).differences()
