"""Orquesta's recorded operations, step by step through the core in virtual time: after each step what stands there."""

from __future__ import annotations

from typing import Any

from tests.conformance.orquesta import open_attempts, path_of, report, view_of, world_of
from tests.conformance.orquesta_snapshots import Snapshots, result_by_rule, shown
from tests.conformance.orquesta_views import View

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

    def differences(self) -> list[str]:
        """What came otherwise after some step; the steps after it are not looked at."""
        snapshots = Snapshots(self.case)
        for number, step in enumerate(self.case["steps"]):
            told = self._refusal(step, snapshots.is_refused(number))
            snapshots.note(number)
            told += snapshots.differences(number, self._views())
            if told:
                return told
        self.world.check_journals()
        return []

    def _views(self) -> dict[str, View]:
        """What stands there now, by the path; the newest child of a task speaks for it."""
        return {path_of(self.world, each): view_of(self.world, each) for each in self.world.executions.values()}

    def _refusal(self, step: dict[str, Any], is_expected: bool) -> list[str]:
        """Do the step; what is wrong with whether it was refused."""
        before = self.root.revision if self.root is not None else 0
        try:
            self._do(step)
        except Missing as missing:
            return [f"{shown(step)}: {missing}"]
        except Refusal as refusal:
            told = [] if is_expected else [f"{shown(step)} was refused: {refusal}"]
            return told + self._changed(before)
        return [f"{shown(step)} was expected to be refused"] if is_expected else []

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
        world.run(until_s=0)

    def _run(self) -> None:
        """Everything that runs ends by the rule, and what comes of it too."""
        world = self.world
        world.run()
        while world.held:
            (execution_id, _), attempt = next(iter(world.held.items()))
            given = attempt.input.data
            assert isinstance(given, dict)
            status, result = result_by_rule(self.case, attempt.action, given)
            report(world, world.executions[execution_id], attempt, status, result)
            world.run()

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


def differences(case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    return Replay(case).differences()
