"""Errors of the store within a batch: they say nothing of the execution and of the expression that asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.engine.test_conductor import Rig, Scan, Start, answer

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.losses import StoreLost
from dalsegno.engine.batches.outside import TransactionOutside
from dalsegno.engine.batches.results import Committed
from dalsegno.store.snapshot import Snapshot
from dalsegno.store.store import StoreConflict
from dalsegno.workflow import machine
from dalsegno.workflow.scope import Unanswered

OUTAGE = sqlite3.OperationalError("disk I/O error")
CONFLICT = StoreConflict("deadlock detected")

ASKS = """
version: '2.0'
chain:
  tasks:
    first:
      action: std.noop
      publish: {{seen: '{question}'}}
      on-success: second
    second:
      action: std.noop
"""
QUESTIONS = {
    "executions": ("<% executions().len() %>", "executions"),
    "tasks": ("<% tasks().len() %>", "tasks_across"),
}


def failing_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> list[Exception]:
    """Let a function fail the next time that it is called. Return where the error is until then."""
    real: Callable[..., Any] = getattr(owner, name)
    errors = [error]

    def call(*arguments: Any, **named: Any) -> Any:
        if errors:
            raise errors.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return errors


@pytest.mark.parametrize("place", ["load", "step"])
def test_an_outage_while_actions_are_handed_out_ends_nobody(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """An execution that cannot be loaded, or stepped, because the store is away is not broken."""
    heir, execution_id = with_backlog()
    errors = fail_in(monkeypatch, place, OUTAGE)

    with pytest.raises(StoreLost):
        heir.carry_out(Scan(heir.dispatcher))

    assert not errors
    (result,) = heir.carry_out(Scan(heir.dispatcher))
    assert isinstance(result, Committed)
    assert result.broken == {}
    heir.finish_all()
    assert heir.state(execution_id) == "SUCCESS"


@pytest.mark.parametrize("place", ["load", "step"])
def test_a_conflict_while_actions_are_handed_out_ends_nobody(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The batch is repeated, and hands out."""
    heir, execution_id = with_backlog()
    errors = fail_in(monkeypatch, place, CONFLICT)

    (result,) = heir.carry_out(Scan(heir.dispatcher))

    assert not errors
    assert isinstance(result, Committed)
    assert result.broken == {}
    heir.finish_all()
    assert heir.state(execution_id) == "SUCCESS"


def with_backlog() -> tuple[Rig, str]:
    """Return a conductor that has one action to hand out, of an execution that it has not in memory."""
    poor = Rig(credit=0)
    poor.define()
    start = Start(1)
    poor.carry_out(start)
    return Rig(poor.store), start.execution_id


def fail_in(monkeypatch: pytest.MonkeyPatch, place: str, error: Exception) -> list[Exception]:
    """Let the next load of an execution, or its next step, fail."""
    if place == "load":
        return failing_once(monkeypatch, Batch, "open", error)
    return failing_once(monkeypatch, machine, "step", error)


@pytest.mark.parametrize("error", [OUTAGE, CONFLICT], ids=["outage", "conflict"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_an_expression_does_not_fail_for_the_store(
    monkeypatch: pytest.MonkeyPatch, question: str, error: Exception
) -> None:
    """What asks the store while it fails is asked again: its task does not fail, and nothing of the step is stored."""
    rig = Rig()
    expression, read = QUESTIONS[question]
    rig.define(ASKS.format(question=expression))
    start = Start(1)
    rig.carry_out(start)
    report = answer(rig.sent.pop())
    errors = failing_once(monkeypatch, Snapshot, read, error)

    if error is OUTAGE:
        with pytest.raises(StoreLost):
            rig.carry_out(report)
    rig.carry_out(report)

    assert not errors
    rig.finish_all()
    assert rig.state(start.execution_id) == "SUCCESS"


def test_neither_does_one_that_reads_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes as none that an expression can have."""
    rig = Rig()
    failing_once(monkeypatch, Snapshot, "environment", OUTAGE)
    with rig.store.read() as queries, pytest.raises(Unanswered) as raised:
        TransactionOutside(rig.lookups, queries, lambda *_: []).environment("shared", "")
    assert raised.value.cause is OUTAGE
