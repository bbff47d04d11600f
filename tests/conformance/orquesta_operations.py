"""Orquesta's recorded operations, step by step: one runner for the core alone and for the real services. After each
step is compared what stands there."""

from __future__ import annotations

from typing import Any

from tests.conformance.orquesta import define, told_by, view_of
from tests.conformance.orquesta_snapshots import Snapshots, result_by_rule, shown
from tests.conformance.orquesta_views import View
from tests.conformance.stage import (
    OPEN_ATTEMPT,
    Refused,
    SeenAttempt,
    SeenExecution,
    Stage,
    children,
    find,
    finish,
    path_of,
)

from dalsegno.workflow.events import CancelRequested, Event, PauseRequested, RerunRequested, ResumeRequested, TaskChoice

NOW_S = 0.0
"""Of a request: the stage says when it comes."""


class Missing(Exception):
    """There is nothing that the step could be about."""


class Replay:
    """One case while it is being replayed."""

    def __init__(self, stage: Stage, case: dict[str, Any]) -> None:
        self.stage = stage
        self.case = case
        self.root_id = ""

    async def differences(self) -> list[str]:
        """What came otherwise, after each of the steps."""
        snapshots = Snapshots(self.case)
        name = await define(self.stage, self.case)
        told: list[str] = []
        for number, step in enumerate(self.case["steps"]):
            if step["op"] == "start":
                self.root_id = await self.stage.start(name, self.case["input"])
            else:
                refusal = await self._refusal(step, snapshots.is_refused(number))
                told += [f"step {number} {shown(step)} {each}" for each in refusal]
            await self.stage.settle()
            snapshots.note(number)
            told += snapshots.differences(number, self._views())
        return told

    def _views(self) -> dict[str, View]:
        """What stands there now, by the path; the newest child of a task represents it."""
        return {path_of(self.stage, each): view_of(each) for each in self.stage.executions}

    async def _refusal(self, step: dict[str, Any], is_expected: bool) -> list[str]:
        """Do the step; what is wrong with whether it was refused."""
        before = find(self.stage, self.root_id).revision
        try:
            await self._do(step)
        except Missing as missing:
            return [f"cannot be done: {missing}"]
        except Refused as refused:
            await self.stage.settle()
            told = [] if is_expected else [f"was refused: {refused}"]
            is_changed = find(self.stage, self.root_id).revision != before
            return told + (["was refused, and has changed something"] if is_changed else [])
        return ["was expected to be refused"] if is_expected else []

    async def _do(self, step: dict[str, Any]) -> None:
        if step["op"] == "run":
            await self._run()
        elif step["op"] in ("complete", "update", "respond"):
            await self._report(step)
        else:
            await self.stage.ask(self._at(step.get("path")).id, _request(step))

    async def _run(self) -> None:
        """Everything that runs ends by the rule, and what comes of it too."""
        await finish(self.stage)
        while held := self.stage.held:
            played = told_by(*result_by_rule(self.case, held[0].action, held[0].input))
            await self.stage.report(held[0].id, played)
            await finish(self.stage)

    async def _report(self, step: dict[str, Any]) -> None:
        attempt = self._attempt(step)
        if attempt is None:  # it may have to wait for its time
            await finish(self.stage)
            attempt = self._attempt(step)
        if attempt is None:
            raise Missing("no such action is running")
        if step["op"] == "respond":
            await self.stage.respond(attempt.id, step["response"])
        else:
            await self.stage.report(attempt.id, told_by(step["status"], step.get("result")))

    def _at(self, path: str | None) -> SeenExecution:
        """The execution that the path leads to: the newest child of each task."""
        execution = find(self.stage, self.root_id)
        for name in (path or "").split("/") if path else ():
            found = [each for each in children(self.stage, execution) if execution.tasks[each.parent_task].name == name]
            if not found:
                raise Missing(f"{name} runs no sub-workflow")
            execution = found[-1]
        return execution

    def _attempt(self, step: dict[str, Any]) -> SeenAttempt | None:
        execution = self._at(step.get("path"))
        found = None
        for attempt in execution.attempts:
            task = execution.tasks[attempt.task]
            is_task = task.name == step["task"] and step.get("route") in (None, task.route)
            if is_task and step.get("item") in (None, attempt.item) and attempt.state in OPEN_ATTEMPT:
                found = attempt
        return found


def _request(step: dict[str, Any]) -> Event:
    if step["op"] == "pause":
        return PauseRequested(at_s=NOW_S)
    if step["op"] == "resume":
        return ResumeRequested(at_s=NOW_S)
    if step["op"] == "cancel":
        return CancelRequested(at_s=NOW_S)
    assert step["op"] == "rerun", step
    choices = [TaskChoice(task=one["name"], reset=one.get("reset", False)) for one in step.get("tasks") or ()]
    return RerunRequested(at_s=NOW_S, choices=tuple(choices))


async def differences(stage: Stage, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    return await Replay(stage, case).differences()
