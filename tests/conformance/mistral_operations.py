"""Mistral's recorded operations, put through the front-end and the core in virtual time, step by step.

An action begins when the step before has been done, and its result comes while the next `await` or `sleep` lets time
pass: as in the recordings, an operation that follows a start at once meets running actions.
"""

from __future__ import annotations

import heapq
from typing import Any

from tests.conformance import mistral
from tests.conformance.cases import STATES
from tests.world import World

from dalsegno.workflow.events import (
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    TaskChoice,
    TaskDone,
)
from dalsegno.workflow.execution import Attempt, Execution, TaskExecution
from dalsegno.workflow.refusals import NotFound, Refusal
from dalsegno.workflow.states import ExecutionState
from dalsegno.workflow.value import NULL, Value

PATIENCE_S = 60.0
"""How long an `await` lets time pass, in virtual seconds."""

QUIET = {"PAUSING": "PAUSED", "CANCELLING": "CANCELLED"}
"""Mistral has one word for what is on its way to rest and what is at rest."""


class Stepwise(World):
    """A world that is moved by one thing at a time."""

    def advance(self, end_s: float) -> bool:
        """The next thing that happens by itself, at most until then; whether anything did."""
        if self._mail:
            self._tell_quietly(*self._mail.popleft())
        elif not self._hand_out():
            if not self._later or self._later[0][0] > end_s:
                return False
            due_s, _, to, event = heapq.heappop(self._later)
            self.now_s = max(self.now_s, due_s)
            self._tell_quietly(to, event)
        return True

    def begin(self) -> None:
        """What executions have to tell each other arrives, and what is ready begins; no action comes to an end."""
        while messages := [each for each in self._mail if not isinstance(each[1], TaskDone)]:
            for message in messages:
                self._mail.remove(message)
                self._tell_quietly(*message)
        if self._hand_out():
            self.begin()


class Play:
    """One case in the making."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.world = Stepwise(player=mistral.Script(case.get("action_results")))
        self.told: list[str] = []
        for problem in mistral.define(self.world, case):
            self.told.append(f"definition: {problem}")
        self.root: Execution | None = None

    def perform(self) -> list[str]:
        """Do all steps and compare how it stands then."""
        for step in self.case["steps"]:
            try:
                getattr(self, f"_{step['op']}")(step)
            except (Refusal, LookupError):
                pass  # what must not have been refused shows in what is compared at the end
            else:
                if step.get("raises"):
                    self.told.append(f"{step}: expected to be refused")
            if step["op"] != "await":
                self.world.begin()
        self.world.run(until_s=0)
        self.world.check_journals()
        assert self.root is not None
        return self.told + mistral.compare(self.world, self.root, self.case["expect"], states=QUIET)

    # What a step speaks of.

    def _execution(self, on: dict[str, Any]) -> Execution:
        return self._executions(on)[0]

    def _executions(self, on: dict[str, Any]) -> list[Execution]:
        found = [each for each in self.world.executions.values() if each.created.workflow == on.get("workflow")]
        if "parent" in on:
            parents = {execution.id: self._task(execution, on["parent"]) for execution in self._parents(on["parent"])}
            found = [
                each
                for each in found
                if each.created.parent is not None
                and each.created.parent.execution_id in parents
                and each.created.parent.key[0] == parents[each.created.parent.execution_id].number
            ]
            found = found[on.get("index", 0) :]
        if not found:
            raise LookupError(f"no execution {on}")
        return found

    def _parents(self, on: dict[str, Any]) -> list[Execution]:
        return [each for each in self._executions(on) if on["task"] in each.by_name]

    def _task(self, execution: Execution, on: dict[str, Any]) -> TaskExecution:
        return execution.tasks[execution.by_name[on["task"]][on.get("nth", 0)]]

    def _attempt(self, on: dict[str, Any]) -> tuple[Execution, Attempt]:
        for execution in self._executions(on):
            if on["task"] not in execution.by_name:
                continue
            number = self._task(execution, on).number
            every = [attempt for key, attempt in execution.attempts.items() if key[0] == number]
            of_item = [attempt for attempt in every if attempt.key[1] == on.get("index", 0)]
            nth = on.get("nth_action", len(every))
            if nth < len(every) and every[nth].key[1] == on.get("index", 0):
                return execution, every[nth]
            if of_item:
                return execution, of_item[-1]
        raise LookupError(f"no action {on}")

    def _tell(self, execution: Execution, event: Event) -> None:
        self.world.tell(execution.id, event)

    # The steps.

    def _start(self, step: dict[str, Any]) -> None:
        params = dict(step["params"])
        environment = params.pop("env", None)
        if isinstance(environment, str):
            stored = self.case.get("environments") or {}
            if environment not in stored:
                raise NotFound("environment", environment)
            environment = stored[environment]
        started = self.world.start(
            step["workflow"],
            step["input"],
            params=params,
            environment=environment,
            namespace=step.get("namespace") or "",
        )
        self.root = self.root or started

    def _await(self, step: dict[str, Any]) -> None:
        wanted = STATES.get(step["state"], step["state"])
        end_s = self.world.now_s + PATIENCE_S
        while not self._stands(step, wanted):
            if not self.world.advance(end_s):
                break
        if step.get("reached") is False and self._stands(step, wanted):
            self.told.append(f"{step}: it was reached")

    def _stands(self, step: dict[str, Any], wanted: str) -> bool:
        try:
            state = str(self._awaited(step).state)
        except LookupError:
            return False
        return QUIET.get(state, state) == wanted

    def _awaited(self, step: dict[str, Any]) -> Execution | TaskExecution | Attempt:
        if step["what"] == "workflow":
            return self._execution(step["on"])
        if step["what"] == "action":
            return self._attempt(step["on"])[1]
        for execution in self._executions(step["on"]):
            if step["on"]["task"] in execution.by_name:
                return self._task(execution, step["on"])
        raise LookupError("no task")

    def _pause(self, step: dict[str, Any]) -> None:
        self._tell(self._execution(step["on"]), PauseRequested(at_s=self.world.now_s))

    def _resume(self, step: dict[str, Any]) -> None:
        execution = self._execution(step["on"])
        self._let_rest(execution)
        self._tell(execution, ResumeRequested(at_s=self.world.now_s))

    def _let_rest(self, execution: Execution) -> None:
        """A pause is PAUSED at once in Mistral; here it is when what runs has come to its end."""
        end_s = self.world.now_s + PATIENCE_S
        while execution.state is ExecutionState.PAUSING and self.world.advance(end_s):
            pass

    def _stop(self, step: dict[str, Any]) -> None:
        event = CancelRequested(at_s=self.world.now_s, terminate=step["state"], comment=step.get("message") or "")
        self._tell(self._execution(step["on"]), event)

    def _rerun(self, step: dict[str, Any]) -> None:
        on = step["on"]
        execution = next(each for each in self._executions(on) if on["task"] in each.by_name)
        task = self._task(execution, on)
        choice = TaskChoice(task=task.name, number=task.number, reset=step.get("reset"))
        if step.get("skip"):
            choice = TaskChoice(task=task.name, number=task.number, way="skip", output=NULL)
        environment = step.get("env")
        event = ResumeRequested(
            at_s=self.world.now_s,
            choices=(choice,),
            environment=None if environment is None else Value(data=environment),
        )
        self._tell(execution, event)

    def _result(self, step: dict[str, Any]) -> None:
        self.world.run(until_s=0)
        execution, attempt = self._attempt(step["on"])
        given = step["result"]
        outcome = "cancelled" if given.get("cancel") else "failed" if "error" in given else "succeeded"
        data = given.get("error") if outcome == "failed" else given.get("data")
        event = TaskDone(
            at_s=self.world.now_s,
            key=attempt.key,
            outcome=outcome,
            result=None if data is None else Value(data=data),
            error=data if outcome == "failed" and isinstance(data, str) else "",
        )
        done = self.world.tell(execution.id, event)
        if done.verdict != "accepted" and step.get("raises"):
            raise NotFound("running action", attempt.action)

    def _action_update(self, step: dict[str, Any]) -> None:
        self.world.run(until_s=0)
        execution, attempt = self._attempt(step["on"])
        outcome = step["state"].lower()
        event = TaskDone(at_s=self.world.now_s, key=attempt.key, outcome=outcome)
        done = self.world.tell(execution.id, event)
        if done.verdict != "accepted" and step.get("raises"):
            raise NotFound("running action", attempt.action)

    def _sleep(self, step: dict[str, Any]) -> None:
        self.world.run(until_s=step["seconds"])
        self.world.now_s += step["seconds"]


def differences(case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    return Play(case).perform()
