"""Random workflows in random weather: whatever happens in whatever order, certain things are always true.

A script of random numbers decides what happens next: messages, hand-outs, results, repetitions, losses, requests, time.
After it the weather clears and everything must come to rest. More of it: DALSEGNO_SIMULATION_STEPS=5000 (examples).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.simulation.invariants import check_execution, check_quiet, ended_attempts
from tests.simulation.random_workflows import documents
from tests.world import HOLD, World

from dalsegno.workflow import machine
from dalsegno.workflow.changes import Restored
from dalsegno.workflow.events import (
    CancelRequested,
    ChildMoved,
    DeliveryLost,
    Event,
    HandedOut,
    PauseRequested,
    ResumeRequested,
    StartRequested,
    TaskDone,
    TaskOutcome,
    TimerFired,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.states import COMPLETED_ATTEMPT, QUIET_EXECUTION, AttemptState, ExecutionState
from dalsegno.workflow.value import Value

EXAMPLES = int(os.environ.get("DALSEGNO_SIMULATION_STEPS", "0"))
"""0: as many as take a quarter of a minute, always the same ones; else so many, never the same."""

OUTCOMES = ["succeeded", "succeeded", "failed", "cancelled", "delegated", "paused", "running"]
ONCE = (StartRequested, TaskDone, TimerFired, ChildMoved, HandedOut, DeliveryLost)
"""Events with an identity of their own: the same one never counts twice."""


@dataclass
class Watched(World):
    """A world that checks everything after every event, and tells every event twice."""

    gone_back: set[str] = field(default_factory=set)
    """The executions that have gone back to an entry of a checkpoint."""

    def tell(self, execution_id: str, event: Event) -> machine.StepResult:
        execution = self.executions.get(execution_id)
        before = execution.state if execution is not None else ExecutionState.IDLE
        ended = ended_attempts(execution) if execution is not None else {}
        latest_s = execution.latest_s if execution is not None else 0.0
        outcome = super().tell(execution_id, event)
        execution = self.executions[execution_id]
        check_quiet(before, outcome.changes)
        workflow = self.compiled[execution.created.definition_id]
        self.gone_back.update(execution_id for change in outcome.changes if isinstance(change, Restored))
        check_execution(execution, workflow, has_gone_back=execution_id in self.gone_back)
        now_ended = ended_attempts(execution)
        assert ended.items() <= now_ended.items(), "an attempt that had ended has changed (R9)"
        assert execution.latest_s >= latest_s, "time has gone back"
        if before is not ExecutionState.PAUSED and execution.state is ExecutionState.PAUSED:
            assert not execution.active_count, "PAUSED with somebody at work (O3)"
        if before is ExecutionState.CANCELLING and execution.state is ExecutionState.CANCELLED:
            assert not execution.active_count, "CANCELLED with somebody at work (O15)"
        if isinstance(event, ONCE):
            again = super().tell(execution_id, event)
            assert (again.changes, again.commands) == ([], []), f"stepped twice: {event}"
        return outcome


class Weather:
    """Makes things happen to a world."""

    def __init__(self, text: str, params: dict[str, Any]) -> None:
        self.world = self.make_world()
        self.define(text)
        self.told: list[tuple[str, Event]] = []
        self.root = self.world.start("wf", params=params)
        self._happenings: list[Callable[[int], None]] = [
            *[self.deliver] * 6,
            *[self.hand_out] * 6,
            *[self.report] * 8,
            *[self.wait] * 2,
            *[self.wake] * 3,
            *[self.lose] * 2,
            *[self.repeat] * 2,
            self.report_stale,
            self.pause,
            *[self.resume] * 2,
            self.cancel,
        ]

    def define(self, text: str) -> None:
        """Store the workflow `wf`."""
        self.world.define(text)

    def make_world(self) -> World:
        """A world in which nothing answers by itself."""
        return Watched(player=lambda execution, attempt: HOLD)

    def happen(self, kind: int, choice: int) -> None:
        """One thing, chosen by two numbers; nothing when it cannot happen now."""
        happening = self._happenings[kind % len(self._happenings)]
        note(f"{happening.__name__} {choice}")
        happening(choice)

    def tell(self, execution_id: str, event: Event) -> None:
        """A refusal is an answer like any other: the world has seen to it that it changes nothing."""
        self.told.append((execution_id, event))
        try:
            outcome = self.world.tell(execution_id, event)
        except Refusal as refusal:
            note(f"  {event} refused: {refusal}")
        else:
            note(f"  {event} {outcome.verdict}: {outcome.changes}")

    def deliver(self, choice: int) -> None:
        """A message arrives; those to one execution in the order in which they were written."""
        mail = self.world._mail
        recipients = list(dict.fromkeys(to for to, _ in mail))
        if recipients:
            chosen = recipients[choice % len(recipients)]
            first = next(index for index, (to, _) in enumerate(mail) if to == chosen)
            _, event = mail[first]
            del mail[first]
            self.tell(chosen, self._now(event))

    def _now(self, event: Event) -> Event:
        return msgspec.structs.replace(event, at_s=self.world.now_s)

    def _executions(self) -> list[Execution]:
        return list(self.world.executions.values())

    def _attempts(self, *states: AttemptState) -> list[tuple[Execution, Attempt]]:
        return [
            (execution, attempt)
            for execution in self._executions()
            for attempt in execution.attempts.values()
            if attempt.state in states and not attempt.child_id
        ]

    def hand_out(self, choice: int) -> None:
        """An executor gets an attempt."""
        ready = [each for each in self._attempts(AttemptState.READY) if each[0].state not in QUIET_EXECUTION]
        if ready:
            execution, attempt = ready[choice % len(ready)]
            event = HandedOut(at_s=self.world.now_s, key=attempt.key, session_id="s", executor_id="x")
            self.tell(execution.id, event)

    def report(self, choice: int) -> None:
        """Whoever has an attempt says what became of it."""
        held = self._attempts(AttemptState.RUNNING, AttemptState.PAUSED)
        if held:
            execution, attempt = held[choice % len(held)]
            self.tell(execution.id, self._done(attempt, OUTCOMES[choice // 7 % len(OUTCOMES)]))

    def _done(self, attempt: Attempt, outcome: str, *, by_id: bool = False) -> TaskDone:
        return TaskDone(
            at_s=self.world.now_s,
            key=attempt.key,
            outcome=TaskOutcome(outcome),
            delivery=None if by_id else attempt.delivery,
            result=Value(data=attempt.key[2]) if outcome == "succeeded" else None,
            error="broken" if outcome == "failed" else "",
        )

    def report_stale(self, choice: int) -> None:
        """Somebody reports without or with another delivery on any attempt, ended or not handed out as well."""
        every = self._attempts(*AttemptState)
        if every:
            execution, attempt = every[choice % len(every)]
            self.tell(execution.id, self._done(attempt, OUTCOMES[choice // 7 % len(OUTCOMES)], by_id=True))

    def lose(self, choice: int) -> None:
        """An executor is gone with all that it had."""
        held = self._attempts(AttemptState.RUNNING, AttemptState.PAUSED)
        if held:
            execution, attempt = held[choice % len(held)]
            event = DeliveryLost(
                at_s=self.world.now_s,
                key=attempt.key,
                delivery=attempt.delivery,
                executor_id="x",
                received=choice // 7 % 3 > 0,
            )
            self.tell(execution.id, event)

    def wait(self, choice: int) -> None:
        """Time passes; timers are late."""
        self.world.now_s += choice % 4

    def wake(self, choice: int) -> None:
        """The next timer fires, in time or late."""
        if self.world._later:
            due_s, _, to, event = heapq.heappop(self.world._later)
            self.world.now_s = max(self.world.now_s, due_s)
            self.tell(to, self._now(event))

    def repeat(self, choice: int) -> None:
        """Something that was told long ago is told again."""
        once = [each for each in self.told if isinstance(each[1], ONCE) and not _is_progress(each[1])]
        if once:
            execution_id, event = once[choice % len(once)]
            execution = self.world.executions[execution_id]
            if _may_count_now(execution, event):
                return
            before = execution.revision
            self.tell(execution_id, event)
            assert execution.revision == before, f"it has counted twice: {event}"

    def pause(self, choice: int) -> None:
        """Somebody asks any execution for quiet."""
        self.tell(self._any(choice).id, PauseRequested(at_s=self.world.now_s))

    def resume(self, choice: int) -> None:
        """Somebody asks any execution to continue."""
        self.tell(self._any(choice).id, ResumeRequested(at_s=self.world.now_s))

    def cancel(self, choice: int) -> None:
        """Somebody asks any execution for an end."""
        if choice % 3 == 0:
            self.tell(self._any(choice // 3).id, CancelRequested(at_s=self.world.now_s))

    def _any(self, choice: int) -> Execution:
        executions = self._executions()
        return executions[choice % len(executions)]

    # The weather clears.

    def clear(self) -> None:
        """Everybody answers, all messages arrive, all timers fire; who is paused continues, or is cancelled."""
        for _ in range(5_000):
            if not self._bring_to_end():
                return
        raise AssertionError("it does not come to rest")

    def _bring_to_end(self) -> bool:
        if self.world._mail:
            self.deliver(0)
        elif any(each[0].state not in QUIET_EXECUTION for each in self._attempts(AttemptState.READY)):
            self.hand_out(0)
        elif held := self._attempts(AttemptState.RUNNING, AttemptState.PAUSED):
            self.tell(held[0][0].id, self._done(held[0][1], "succeeded"))
        elif self.world._later:
            self.wake(0)
        elif paused := [each for each in self._executions() if each.state is ExecutionState.PAUSED]:
            self.tell(paused[0].id, ResumeRequested(at_s=self.world.now_s))
            if paused[0].state is ExecutionState.PAUSED:
                self.tell(paused[0].id, CancelRequested(at_s=self.world.now_s))
        else:
            return False
        return True

    def check_rest(self) -> None:
        """Everything has ended, nothing was forgotten, and the journals tell the same."""
        for execution in self._executions():
            assert execution.is_completed, f"{execution.created.workflow} is {execution.state}"
            assert execution.is_at_rest
            assert all(attempt.state in COMPLETED_ATTEMPT for attempt in execution.attempts.values())
        self.world.check_journals()


def _is_progress(event: Event) -> bool:
    return isinstance(event, TaskDone) and event.outcome in ("delegated", "paused", "running")


def _may_count_now(execution: Execution, event: Event) -> bool:
    """Whether telling it again is not a repetition: what had no effect when it was told first may have one now."""
    if isinstance(event, TaskDone | HandedOut):
        attempt = execution.attempts[event.key]
        if isinstance(event, HandedOut):
            return attempt.state is AttemptState.READY  # the dispatcher decides on each hand-out
        return attempt.state not in COMPLETED_ATTEMPT and event.delivery in (None, attempt.delivery)
    if isinstance(event, ChildMoved):
        return event.state in (ExecutionState.PAUSED, ExecutionState.RUNNING)  # a message is applied once
    if isinstance(event, TimerFired):
        task = execution.tasks.get(event.task)
        return task is not None and event.due_s in (task.timing.due_s, task.timing.timeout_due_s)
    return False


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(documents(), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=60))
def test_what_is_always_true(document: tuple[str, dict[str, Any]], script: list[tuple[int, int]]) -> None:
    """P24, O3, O4, O14, O15, S7, S8, S12, R9: no order of events breaks an execution, and each comes to rest."""
    text, params = document
    note(text)
    weather = Weather(text, params)
    for kind, choice in script:
        weather.happen(kind, choice)
    weather.world.check_journals()
    weather.clear()
    weather.check_rest()
