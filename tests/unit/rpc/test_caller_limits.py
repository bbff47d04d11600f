"""What one caller may do in some time, and which requests are starts."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dalsegno.access.callers import Caller
from dalsegno.access.grants import Grant, Role
from dalsegno.rpc.caller_limits import CallerLimits, Limits, is_start
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2 as operations
from dalsegno.workflow.refusals import Overloaded

START = executions.StartExecutionRequest(workflow="one")
ANNA = Caller("anna", (Grant(Role.OPERATOR),), account="1")


class Clock:
    """A steady clock that the test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return its time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Provide the clock by which callers are counted."""
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


def test_starts_are_counted_by_the_minute(clock: Clock) -> None:
    """A caller may use a minute's starts at once; the next one is left after its share of the minute, and the refusal
    tells when."""
    limits = CallerLimits(Limits(starts_a_minute=30))
    for _ in range(30):
        limits.start(ANNA, START)
    with pytest.raises(Overloaded, match=r"^'anna' starts more than 30 executions and actions a minute$") as refused:
        limits.start(ANNA, START)
    assert refused.value.retry_s == pytest.approx(2.0)
    limits.start(Caller("bert", account="2"), START)
    limits.start(Caller("api", (Grant(Role.SERVICE),), account="3"), START)
    clock.now_s += 1.0
    with pytest.raises(Overloaded) as refused:
        limits.start(ANNA, START)
    assert refused.value.retry_s == pytest.approx(1.0)
    clock.now_s += 1.0
    limits.start(ANNA, START)
    clock.now_s += 3600.0
    for _ in range(30):
        limits.start(ANNA, START)
    with pytest.raises(Overloaded):
        limits.start(ANNA, START)


def test_starts_and_calls_have_counts_of_their_own(clock: Clock) -> None:
    """Calls use up no starts, and starts no calls; without a limit nothing is refused."""
    limits = CallerLimits(Limits(calls_a_second=1, starts_a_minute=1))
    limits.take(ANNA)
    limits.start(ANNA, START)
    with pytest.raises(Overloaded, match="makes more than 1 calls a second"):
        limits.take(ANNA)
    clock.now_s += 1.0
    limits.take(ANNA)
    unlimited = CallerLimits(Limits())
    for _ in range(1000):
        unlimited.start(ANNA, START)
        unlimited.take(ANNA)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (START, True),
        (executions.StartExecutionRequest(dry_run=True), False),
        (actions.RunActionRequest(action="std.noop"), True),
        (executions.RerunExecutionRequest(start_from=operations.RERUN_FROM_BEGINNING), True),
        (executions.RerunExecutionRequest(start_from=operations.RERUN_FROM_CHECKPOINT), True),
        (executions.RerunExecutionRequest(start_from=operations.RERUN_FROM_BEGINNING, dry_run=True), False),
        (executions.RerunExecutionRequest(start_from=operations.RERUN_FROM_TASKS), False),
        (executions.ResumeExecutionRequest(), False),
        (executions.RerunExecutionsRequest(), False),
        (None, False),
    ],
    ids=str,
)
def test_what_is_a_start(request_: Any, expected: bool) -> None:
    """What makes an execution, or an action without a workflow, is a start: reruns as new executions and forks too, but
    no dry run, and nothing that goes on within an execution. An operation on many is counted for each of them."""
    assert is_start(request_) is expected
