"""Mistral's recorded operations, step by step: one runner for the core alone and for the real services.

An action begins when the step before has been done, and its result comes while the next `await` or `sleep` lets time
pass: as in the recordings, an operation that follows a start at once meets running actions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from tests.conformance import mistral
from tests.conformance.comparing import STATES
from tests.conformance.stage import Refused, SeenAttempt, SeenExecution, SeenTask, Stage, find
from tests.world import Played

from dalsegno.workflow.events import CancelRequested, Choice, ForcedEnd, PauseRequested, ResumeRequested, TaskChoice
from dalsegno.workflow.value import NULL, Value

PATIENCE_S = 60.0
"""How long an `await` lets time pass."""

QUIET = {"PAUSING": "PAUSED", "CANCELLING": "CANCELLED"}
"""Mistral has one word for what is on its way to rest and what is at rest."""

NOW_S = 0.0
"""Of a request: the stage says when it comes."""


class Play:
    """One case in the making."""

    def __init__(self, stage: Stage, case: dict[str, Any]) -> None:
        self.stage = stage
        self.case = case
        self.told: list[str] = []
        self.root_id = ""

    async def perform(self) -> list[str]:
        """Do all steps and compare how it stands then."""
        await mistral.define(self.stage, self.case)
        for step in self.case["steps"]:
            await self._take(step)
            await self.stage.settle()
        await self._catch_up()
        if not self.root_id:
            return self.told
        root = find(self.stage, self.root_id)
        return self.told + mistral.compare(self.stage, root, self.case["expect"], states=QUIET)

    async def _take(self, step: dict[str, Any]) -> None:
        """Do a step; note when it was refused and should not have been, or the other way round. A step about what is
        not there is refused too."""
        try:
            await getattr(self, f"_{step['op']}")(step)
        except (Refused, LookupError) as refusal:
            if not step.get("raises"):
                self.told.append(f"{step} was refused: {refusal}")
        else:
            if step.get("raises"):
                self.told.append(f"{step}: expected to be refused")

    async def _catch_up(self) -> None:
        """Let all answers come that are due."""
        while await self.stage.advance(self.stage.now_s):
            pass

    # What a step speaks of.

    def _execution(self, on: dict[str, Any]) -> SeenExecution:
        return self._executions(on)[0]

    def _executions(self, on: dict[str, Any]) -> list[SeenExecution]:
        found = [each for each in self.stage.executions if each.workflow == on.get("workflow")]
        if "parent" in on:
            parents = {each.id: self._task(each, on["parent"]).number for each in self._parents(on["parent"])}
            found = [each for each in found if parents.get(each.parent_id) == each.parent_task]
            found = found[on.get("index", 0) :]
        if not found:
            raise LookupError(f"no execution {on}")
        return found

    def _parents(self, on: dict[str, Any]) -> list[SeenExecution]:
        return [each for each in self._executions(on) if each.tasks_of(on["task"])]

    def _task(self, execution: SeenExecution, on: dict[str, Any]) -> SeenTask:
        nth: int = on.get("nth", 0)
        return execution.tasks_of(on["task"])[nth]

    def _attempt(self, on: dict[str, Any]) -> SeenAttempt:
        for execution in self._executions(on):
            if not execution.tasks_of(on["task"]):
                continue
            number = self._task(execution, on).number
            every = [attempt for attempt in execution.attempts if attempt.task == number]
            of_item = [attempt for attempt in every if attempt.item == on.get("index", 0)]
            nth: int = on.get("nth_action", len(every))
            if nth < len(every) and every[nth].item == on.get("index", 0):
                return every[nth]
            if of_item:
                return of_item[-1]
        raise LookupError(f"no action {on}")

    # The steps.

    async def _start(self, step: dict[str, Any]) -> None:
        namespace = step.get("namespace") or ""
        started = await self.stage.start(step["workflow"], step["input"], params=step["params"], namespace=namespace)
        self.root_id = self.root_id or started

    async def _await(self, step: dict[str, Any]) -> None:
        wanted = STATES.get(step["state"], step["state"])
        end_s = self.stage.now_s + PATIENCE_S
        while not self._stands(step, wanted):
            if not await self.stage.advance(end_s):
                break
        if step.get("reached") is False and self._stands(step, wanted):
            self.told.append(f"{step}: it was reached")

    def _stands(self, step: dict[str, Any], wanted: str) -> bool:
        with suppress(LookupError):
            state = self._awaited(step).state
            return QUIET.get(state, state) == wanted
        return False

    def _awaited(self, step: dict[str, Any]) -> SeenExecution | SeenTask | SeenAttempt:
        if step["what"] == "workflow":
            return self._execution(step["on"])
        if step["what"] == "action":
            return self._attempt(step["on"])
        for execution in self._parents(step["on"]):
            return self._task(execution, step["on"])
        raise LookupError("no task")

    async def _pause(self, step: dict[str, Any]) -> None:
        await self.stage.ask(self._execution(step["on"]).id, PauseRequested(at_s=NOW_S))

    async def _resume(self, step: dict[str, Any]) -> None:
        event = ResumeRequested(at_s=NOW_S, environment=_environment(step))
        await self.stage.ask(self._execution(step["on"]).id, event)

    async def _stop(self, step: dict[str, Any]) -> None:
        event = CancelRequested(at_s=NOW_S, terminate=ForcedEnd(step["state"]), comment=step.get("message") or "")
        await self.stage.ask(self._execution(step["on"]).id, event)

    async def _rerun(self, step: dict[str, Any]) -> None:
        execution = self._parents(step["on"])[0]
        task = self._task(execution, step["on"])
        choice = TaskChoice(task=task.name, number=task.number, reset=step.get("reset"))
        if step.get("skip"):
            choice = TaskChoice(task=task.name, number=task.number, choice=Choice.SKIP, output=NULL)
        event = ResumeRequested(at_s=NOW_S, choices=(choice,), environment=_environment(step))
        await self.stage.ask(execution.id, event)

    async def _result(self, step: dict[str, Any]) -> None:
        await self._catch_up()
        await self.stage.report(self._attempt(step["on"]).id, mistral.played(step["result"]))

    async def _action_update(self, step: dict[str, Any]) -> None:
        await self._catch_up()
        await self.stage.report(self._attempt(step["on"]).id, Played(step["state"].lower()))

    async def _sleep(self, step: dict[str, Any]) -> None:
        await self.stage.pass_time(step["seconds"])


def _environment(step: dict[str, Any]) -> Value | None:
    return None if step.get("env") is None else Value(data=step["env"])


async def differences(stage: Stage, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    return await Play(stage, case).perform()
