"""Random workflows with checkpoints in random weather: whatever happens, going back restores the state of the entry.

C5, C6, C9-C16, C26, C28-C30: decisions 16 to 23. More of it: DALSEGNO_SIMULATION_STEPS=5000 (examples).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, note, settings
from hypothesis import strategies as st
from tests.simulation.going_back import check_restored
from tests.simulation.random_checkpoints import marked_mistral, marked_orquesta
from tests.unit.workflow.test_properties import EXAMPLES, Watched, Weather
from tests.world import HOLD, World

from dalsegno.definitions.document import read
from dalsegno.workflow import machine
from dalsegno.workflow.changes import Restored
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import (
    CancelRequested,
    Choice,
    ContextUpdated,
    Event,
    GoToRequested,
    RerunRequested,
    ResumeRequested,
    TaskChoice,
)
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState
from dalsegno.workflow.value import Value


class Back(Watched):
    """A world that checks each arrival at an entry."""

    def tell(self, execution_id: str, event: Event) -> machine.StepResult:
        outcome = super().tell(execution_id, event)
        if any(isinstance(change, Restored) for change in outcome.changes):
            workflow = self.compiled[outcome.execution.created.definition_id]
            changes = [change for change in self.journal(execution_id) if not isinstance(change, Consolidated)]
            for index in range(len(changes) - len(outcome.changes), len(changes)):
                if isinstance(changes[index], Restored):
                    check_restored(changes, index, workflow)
        return outcome


class Wind(Weather):
    """Weather in which people go to checkpoints."""

    def __init__(self, texts: list[str], params: dict[str, Any]) -> None:
        self.texts = texts
        super().__init__("", params)
        self._happenings += [*[self.go_to] * 8, *[self.choose] * 2, self.edit, self.rerun, self.resume_failed]

    def define(self, text: str) -> None:
        for each in self.texts:
            assume(not read(each).problems)  # joins that cannot be filled
            self.world.define(each)

    def make_world(self) -> World:
        return Back(player=lambda execution, attempt: HOLD)

    def go_to(self, choice: int) -> None:
        """Somebody orders an execution to an entry or a checkpoint."""
        execution = self._any(choice)
        workflow = self.world.compiled[execution.created.definition_id]
        names = ["start", *(task.checkpoint.name for task in workflow.tasks.values() if task.checkpoint)]
        name = names[choice // 3 % len(names)]
        edit = ContextUpdated(values={"v0": Value(data=choice)}) if choice % 5 == 0 else None
        event = GoToRequested(
            at_s=self.world.now_s,
            name=name,
            next=choice % 7 == 0,
            resumes=choice % 2 == 0,
            waits_for_delegates=choice % 11 == 0,
            edit=edit,
        )
        self.tell(execution.id, event)

    def choose(self, choice: int) -> None:
        """Somebody chooses for a failed revert."""
        execution = self._any(choice)
        if execution.revert is not None and execution.revert.open:
            undoing = next(iter(execution.revert.open.values()))
            wanted = Choice.SKIP if choice % 2 else Choice.RUN
            one = TaskChoice(task=execution.tasks[undoing.end.task].name, choice=wanted)
            self.tell(execution.id, ResumeRequested(at_s=self.world.now_s, choices=(one,)))

    def rerun(self, choice: int) -> None:
        """Somebody repeats a task, or all that failed."""
        execution = self._any(choice)
        names = list(execution.by_name)
        choices = (TaskChoice(task=names[choice % len(names)]),) if names and choice % 3 else ()
        self.tell(execution.id, RerunRequested(at_s=self.world.now_s, choices=choices))

    def resume_failed(self, choice: int) -> None:
        """Somebody runs a failed task again, or goes on after it."""
        execution = self._any(choice)
        for number in execution.unhandled:
            output = Value(data=choice) if choice % 2 else None
            wanted = Choice.SKIP if choice % 2 else Choice.RUN
            one = TaskChoice(task=execution.tasks[number].name, choice=wanted, output=output)
            self.tell(execution.id, ResumeRequested(at_s=self.world.now_s, choices=(one,)))
            return

    def edit(self, choice: int) -> None:
        """Somebody edits variables."""
        event = ContextUpdated(at_s=self.world.now_s, values={"v1": Value(data=choice)})
        self.tell(self._any(choice).id, event)

    def _bring_to_end(self) -> bool:
        failed = [each for each in self._executions() if each.state is ExecutionState.REVERT_ERROR]
        for execution in failed:
            if execution.revert is not None and not self.world._mail:
                self.tell(execution.id, ResumeRequested(at_s=self.world.now_s))
                return True
        paused = [each for each in self._executions() if each.state is ExecutionState.PAUSED]
        busy = self.world._mail or self.world._later or self._attempts(AttemptState.READY, AttemptState.RUNNING)
        if paused and not busy and paused[0].revert is None:
            self.tell(paused[0].id, CancelRequested(at_s=self.world.now_s))
            return True
        return super()._bring_to_end()

    def check_rest(self) -> None:
        """Everything has ended and nothing was forgotten."""
        for execution in self._executions():
            assert execution.is_completed, f"{execution.created.workflow} is {execution.state}"
            assert execution.is_at_rest
            assert execution.revert is None or execution.state in ("ERROR", "CANCELLED")
            assert all(attempt.state in COMPLETED_ATTEMPT for attempt in execution.attempts.values())
        self.world.check_journals()


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
@given(
    st.one_of(marked_mistral(), marked_orquesta()),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=60),
)
def test_going_back_is_always_true(marked: tuple[list[str], dict[str, Any]], script: list[tuple[int, int]]) -> None:
    """C5, C28, decisions 17 to 19: each arrival restores the state of the entry, and each end is reverted once."""
    texts, params = marked
    note("\n---\n".join(texts))
    wind = Wind(texts, params)
    for kind, choice in script:
        wind.happen(kind, choice)
    wind.world.check_journals()
    wind.clear()
    wind.check_rest()
