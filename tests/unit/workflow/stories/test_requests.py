"""Stories of the core: every request in every state of an execution (decision 23 and the tables of states.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.world import Played

from dalsegno.workflow.events import (
    CancelRequested,
    ContextUpdated,
    DiscardRequested,
    Event,
    ForcedEnd,
    GoToRequested,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
)
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.states import TAKEN, TAKEN_IN_REVERT, ExecutionState, Request
from dalsegno.workflow.value import Value

TEXT = """
version: '2.0'
wf:
  input: [{who: ann}]
  tasks:
    a: {action: std.noop, checkpoint: here, revert: std.noop, on-success: b}
    b: {action: std.noop, revert: std.noop, on-error: fail}
"""
FAILING = TEXT.replace("  input:", "  on-failure: {revert: here}\n  input:")
"""It is REVERTED when its second task fails."""


def begun(text: str = TEXT) -> Stage:
    """An execution whose second task runs."""
    stage = Stage(text)
    stage.end("a")
    return stage


def paused() -> Stage:
    stage = pausing()
    stage.end("b")
    return stage


def pausing() -> Stage:
    stage = begun()
    stage.pause()
    return stage


def cancelling() -> Stage:
    stage = begun()
    stage.cancel()
    return stage


def cancelled() -> Stage:
    stage = cancelling()
    stage.end("b")
    return stage


def succeeded() -> Stage:
    stage = begun()
    stage.end("b")
    return stage


def failed() -> Stage:
    stage = begun()
    stage.end("b", error="broken")
    return stage


def reverted() -> Stage:
    stage = begun(FAILING)
    stage.end("b", error="broken")
    return stage


def reverting() -> Stage:
    """It goes back to the start; the revert of its second task runs."""
    stage = succeeded()
    stage.go_to("start")
    return stage


def reverting_then(act: Callable[[Stage], Any], *, ends: str = "") -> Callable[[], Stage]:
    """The same, after a request, and after the revert that runs has ended."""

    def make() -> Stage:
        stage = reverting()
        act(stage)
        if ends:
            stage.world.finish(stage.execution, stage.attempts("b")[-1], Played(ends, error="stuck"))
        return stage

    return make


STAGES: dict[tuple[ExecutionState, bool], Callable[[], Stage]] = {
    (ExecutionState.RUNNING, False): begun,
    (ExecutionState.PAUSING, False): pausing,
    (ExecutionState.PAUSED, False): paused,
    (ExecutionState.CANCELLING, False): cancelling,
    (ExecutionState.CANCELLED, False): cancelled,
    (ExecutionState.SUCCESS, False): succeeded,
    (ExecutionState.ERROR, False): failed,
    (ExecutionState.REVERTED, False): reverted,
    (ExecutionState.REVERTING, True): reverting,
    (ExecutionState.PAUSING, True): reverting_then(lambda stage: stage.pause()),
    (ExecutionState.PAUSED, True): reverting_then(lambda stage: stage.pause(), ends="succeeded"),
    (ExecutionState.CANCELLING, True): reverting_then(lambda stage: stage.cancel()),
    (ExecutionState.REVERT_ERROR, True): reverting_then(lambda stage: None, ends="failed"),
    (ExecutionState.CANCELLED, True): reverting_then(lambda stage: stage.cancel(terminate=ForcedEnd.CANCELLED)),
    (ExecutionState.SUCCESS, True): reverting_then(lambda stage: stage.cancel(terminate=ForcedEnd.SUCCESS)),
    (ExecutionState.ERROR, True): reverting_then(lambda stage: stage.cancel(terminate=ForcedEnd.ERROR)),
}


def request(kind: Request) -> Event:
    """A request of this kind."""
    match kind:
        case Request.PAUSE:
            return PauseRequested()
        case Request.RESUME:
            return ResumeRequested()
        case Request.RESUME_TASKS:
            return ResumeRequested(choices=(run("b"),))
        case Request.RERUN:
            return RerunRequested(choices=(run("a"),))
        case Request.CANCEL:
            return CancelRequested()
        case Request.TERMINATE:
            return CancelRequested(terminate=ForcedEnd.ERROR)
        case Request.GO_TO:
            return GoToRequested(name="start")
        case Request.UPDATE_CONTEXT:
            return ContextUpdated(values={"who": Value(data="bob")})
        case Request.DISCARD:
            return DiscardRequested(name="here")


def is_taken(stage: Stage, event: Event) -> bool:
    """Whether the execution, in its state, takes the request. (What it lacks otherwise is another story.)"""
    try:
        stage.tell(event)
    except Refusal as refusal:
        return f"execution {stage.execution.id}" not in str(refusal)
    return True


@pytest.mark.parametrize("kind", list(Request))
@pytest.mark.parametrize(("state", "in_revert"), list(STAGES))
def test_every_request_in_every_state(state: ExecutionState, in_revert: bool, kind: Request) -> None:
    """Decision 23: the tables say what is taken; a refusal names the state and changes nothing."""
    stage = STAGES[state, in_revert]()
    assert (stage.execution.state, stage.execution.revert is not None) == (state, in_revert)
    expected = state in (TAKEN_IN_REVERT if in_revert else TAKEN)[kind]
    if (state, in_revert, kind) == (ExecutionState.RUNNING, False, Request.RESUME):
        expected = False  # nothing is paused below it
    assert is_taken(stage, request(kind)) is expected
    stage.check()


def test_the_tables_name_every_state_that_an_execution_can_be_in() -> None:
    """Each state of the tables is walked, but for IDLE, in which only children are."""
    walked = set(STAGES)
    for table, in_revert in ((TAKEN, False), (TAKEN_IN_REVERT, True)):
        for states in table.values():
            assert {(state, in_revert) for state in states} - walked <= {(ExecutionState.IDLE, False)}
