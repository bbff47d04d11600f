"""Random workflows and random operations on them, in random weather: nothing that people ask for breaks an execution.

Beside what happens by itself (test_properties.py) people pause, resume, skip, rerun, cancel, terminate and edit, in
any order, sensibly or not. More of it: DALSEGNO_SIMULATION_STEPS=5000 (examples).
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, note, settings
from hypothesis import strategies as st
from tests.simulation.invariants import check_execution, check_quiet, ended_attempts
from tests.simulation.random_orquesta import orquesta_documents
from tests.simulation.random_workflows import documents
from tests.unit.workflow.test_properties import ONCE, Weather
from tests.world import HOLD, World

from dalsegno.definitions.document import read
from dalsegno.workflow import machine
from dalsegno.workflow.changes import AttemptAdded, AttemptsBegun
from dalsegno.workflow.events import (
    CancelRequested,
    ChildChoice,
    ChildMoved,
    Choice,
    ContextUpdated,
    Event,
    ForcedEnd,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
    TaskChoice,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.states import AttemptState, ExecutionState
from dalsegno.workflow.value import NULL, Value

EXAMPLES = int(os.environ.get("DALSEGNO_SIMULATION_STEPS", "0"))
"""0: as many as take a quarter of a minute, always the same ones; else so many, never the same."""

ENDS = [ForcedEnd.CANCELLED, ForcedEnd.SUCCESS, ForcedEnd.ERROR]


class Operated(World):
    """A world that checks everything after every event, operations included."""

    def tell(self, execution_id: str, event: Event) -> machine.StepResult:
        execution = self.executions.get(execution_id)
        before = execution.state if execution is not None else ExecutionState.IDLE
        ended = ended_attempts(execution) if execution is not None else {}
        kept = _kept(execution) if execution is not None else {}
        outcome = super().tell(execution_id, event)
        execution = self.executions[execution_id]
        if not (isinstance(event, ChildMoved) and event.again):  # a child that runs again was asked to
            check_quiet(before, outcome.changes)
        check_execution(execution, self.compiled[execution.created.definition_id])
        assert ended.items() <= ended_attempts(execution).items(), "an attempt that had ended has changed (R9, O36)"
        _check_kept(execution, kept, outcome)
        _check_joins(execution, self.compiled[execution.created.definition_id])
        if before is not ExecutionState.PAUSED and execution.state is ExecutionState.PAUSED:
            assert not execution.active_count, "PAUSED with somebody at work (O3)"
        if before is ExecutionState.CANCELLING and execution.state is ExecutionState.CANCELLED:
            assert not execution.active_count, "CANCELLED with somebody at work (O15)"
        if isinstance(event, ONCE):
            again = super().tell(execution_id, event)
            assert (again.changes, again.commands) == ([], []), f"stepped twice: {event}"
        return outcome


def _kept(execution: Execution) -> dict[tuple[int, int], AttemptKey]:
    """The items of all tasks that have a result that counts, with the attempts that gave it."""
    return {
        key[:2]: key
        for key, attempt in execution.attempts.items()
        if attempt.accepted and attempt.state is AttemptState.SUCCESS
    }


def _check_kept(execution: Execution, kept: dict[tuple[int, int], AttemptKey], outcome: machine.StepResult) -> None:
    """Where only some items run again, no other item that has its result does (O25, R13)."""
    began = {change.task: change for change in outcome.changes if isinstance(change, AttemptsBegun)}
    for change in outcome.changes:
        if isinstance(change, AttemptAdded):
            task = execution.tasks[change.key[0]]
            begun = began.get(task.number)
            only = (
                begun.only if begun is not None else None if task.progress.round is None else task.progress.round.only
            )
            if only and execution.is_current(change.key) and change.key[1] not in only:
                assert change.key[:2] not in kept, f"item {change.key[1]} of {task.name} had its result"


def _check_joins(execution: Execution, workflow: Any) -> None:
    """A join starts once per generation (O29, O32), unless it lies in a cycle."""
    begun = [
        (task.name, task.route, task.generation)
        for task in execution.tasks.values()
        if workflow.tasks[task.name].has_join and not workflow.tasks[task.name].is_in_cycle and task.progress.attempt
    ]
    assert len(set(begun)) == len(begun), f"a join has started twice: {begun}"


def _has_children(execution: Execution, task: TaskExecution) -> bool:
    return any(attempt.child_id for attempt in execution.current_attempts(task))


class Operators(Weather):
    """Weather, and people who ask for things."""

    def __init__(self, text: str, params: dict[str, Any]) -> None:
        super().__init__(text, params)
        self._happenings += [
            *[self.resume_tasks] * 6,
            *[self.rerun] * 4,
            *[self.skip] * 3,
            self.terminate,
            self.pause_and_wait,
            self.cancel_and_wait,
            *[self.edit] * 2,
            *[self.settle] * 4,
        ]

    def make_world(self) -> World:
        """A world in which nothing answers by itself."""
        return Operated(player=lambda execution, attempt: HOLD)

    def _choice(self, execution: Execution, choice: int, wanted: Choice = Choice.RUN) -> TaskChoice:
        """Something to do with some task, possible or not."""
        names = [*execution.by_name] * 10 + ["nothing"]
        failed = [execution.tasks[number] for number in (*execution.unhandled, *execution.cancelled)]
        name, number = names[choice % len(names)], 0
        if failed and choice % 3:
            task = failed[choice // 3 % len(failed)]
            name, number = task.name, task.number
        items: dict[int, Value | None] = {}
        found = execution.latest(name)
        if found is not None and found.progress.item_count and choice % 4 == 0:
            items = {choice % found.progress.item_count: Value(data={"output": choice}) if choice % 8 == 0 else None}
        return TaskChoice(
            task=name,
            number=number,
            choice=wanted,
            items={} if wanted is Choice.SKIP else items,
            reset=[None, True, False][choice % 3] if not items else None,
            output=[NULL, Value(data=choice)][choice % 2] if wanted is Choice.SKIP else None,
            child=ChildChoice.RERUN_FAILED
            if choice % 5 == 0 and wanted is Choice.RUN and found is not None and _has_children(execution, found)
            else ChildChoice.FRESH,
        )

    def settle(self, choice: int) -> None:
        """Much happens until everything has come to rest, a good deal of it failures."""
        chance = random.Random(choice)
        for _ in range(300):
            held = self._attempts(AttemptState.RUNNING)
            if held and not self.world._mail:
                execution, attempt = held[0]
                outcome = chance.choices(["succeeded", "failed", "cancelled"], [70, 26, 4])[0]
                self.tell(execution.id, self._done(attempt, outcome))
            elif self._is_at_rest() or not self._bring_to_end():
                return

    def _is_at_rest(self) -> bool:
        """Whether nothing comes any more but what somebody decides about what is paused."""
        return not self.world._mail and any(each.state is ExecutionState.PAUSED for each in self._executions())

    def resume_tasks(self, choice: int) -> None:
        """Failed tasks are resumed, one or two of them."""
        execution = self._any(choice)
        choices = [self._choice(execution, choice)]
        if choice % 2:
            choices.append(self._choice(execution, choice * 7 + 1))
        self.tell(execution.id, ResumeRequested(at_s=self.world.now_s, choices=tuple(choices)))

    def skip(self, choice: int) -> None:
        """A failed task is skipped."""
        execution = self._any(choice)
        event = ResumeRequested(at_s=self.world.now_s, choices=(self._choice(execution, choice, Choice.SKIP),))
        self.tell(execution.id, event)

    def rerun(self, choice: int) -> None:
        """Tasks are rerun, up to three of them, or all that failed."""
        execution = self._any(choice)
        choices = tuple(self._choice(execution, choice * 5 + each) for each in range(choice % 4))
        environment = Value(data={"v": choice}) if choice % 7 == 0 else None
        self.tell(execution.id, RerunRequested(at_s=self.world.now_s, choices=choices, environment=environment))

    def terminate(self, choice: int) -> None:
        """Somebody terminates an execution."""
        end = ENDS[choice % 3]
        self.tell(self._any(choice).id, CancelRequested(at_s=self.world.now_s, terminate=end))

    def pause_and_wait(self, choice: int) -> None:
        """Somebody asks for quiet, delegates included."""
        self.tell(self._any(choice).id, PauseRequested(at_s=self.world.now_s, waits_for_delegates=True))

    def cancel_and_wait(self, choice: int) -> None:
        """Somebody asks for an end, once the delegates have answered."""
        if choice % 3 == 0:
            event = CancelRequested(at_s=self.world.now_s, waits_for_delegates=True)
            self.tell(self._any(choice // 3).id, event)

    def edit(self, choice: int) -> None:
        """Somebody edits what a task published, or the whole execution's variables."""
        execution = self._any(choice)
        names = ["", *execution.by_name]
        event = ContextUpdated(
            at_s=self.world.now_s,
            task=names[choice % len(names)],
            values={"v0": Value(data={"a": choice})} if choice % 3 else {},
            removed=("v1",) if choice % 3 == 0 else (),
        )
        self.tell(execution.id, event)


class OrquestaOperators(Operators):
    """The same for workflows of the other language."""

    def __init__(self, child: str, text: str) -> None:
        self._child = child
        super().__init__(text, {})

    def define(self, text: str) -> None:
        self.world.define(self._child, name="child")
        self.world.define(text, name="wf")


SETTINGS = settings(
    max_examples=EXAMPLES or 120,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@SETTINGS
@given(orquesta_documents(), st.integers(0, 60), st.integers(0, 1_000_000))
def test_operations_never_break_an_orquesta_execution(texts: tuple[str, str], length: int, seed: int) -> None:
    """R4, R9, O3, O4, O14, O15, O29, O31, O36: the same with routes, branches and contexts in layers."""
    note(f"{texts[0]}---\n{texts[1]}")
    assume(not any(read(text, name="wf").problems for text in texts))
    _play(OrquestaOperators(*texts), length, seed)


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@SETTINGS
@given(documents(), st.integers(0, 60), st.integers(0, 1_000_000))
def test_operations_never_break_an_execution(document: tuple[str, dict[str, Any]], length: int, seed: int) -> None:
    """R4, R9, R13, O3, O4, O14, O15, O25, O29, O31, O36: whatever is asked in whatever order, certain things hold.

    Nothing starts while it is to be quiet, a join starts once per generation, kept results are never computed again,
    what is refused changes nothing, everything comes to rest, and every journal gives the execution that wrote it.
    """
    text, params = document
    note(text)
    _play(Operators(text, params), length, seed)


def _play(weather: Operators, length: int, seed: int) -> None:
    """Let so many things happen, and then everything come to rest."""
    chance = random.Random(seed)
    for _ in range(length):
        weather.happen(chance.randrange(1000), chance.randrange(1000))
    weather.world.check_journals()
    weather.clear()
    weather.check_rest()
