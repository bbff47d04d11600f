"""Sessions belong to the caller that has opened them, and deliveries to the session that they were handed to."""

from __future__ import annotations

import pytest
from tests.unit.engine.test_conductor import Rig, Start
from tests.unit.engine.test_sessions import LEASE_S, Executors, alive, greet, hello, keep, let_lease_pass, rig

from dalsegno.engine.executors.delivered import FOREIGN, DeliverReport
from dalsegno.engine.executors.inventories import TakeInventory
from dalsegno.engine.executors.sessions import Delivery, Greeting, OpenSession
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.events import TaskDone, TaskOutcome, Verdict
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.refusals import PermissionDenied
from dalsegno.workflow.value import Value

__all__ = ["rig"]


def delivery_of(run: wire.RunAction) -> Delivery:
    return *parse_attempt_id(run.action_execution_id), run.delivery


@pytest.mark.parametrize(("session_id", "executor_id"), [("t", "x"), ("s", "x"), ("s", "y")])
def test_another_caller_takes_no_session(rig: Rig, session_id: str, executor_id: str) -> None:
    """A Hello for the executor, or the session, of another caller is refused and says what to do; the session goes
    on with what it has."""
    greet(rig, principal="anna")
    rig.carry_out(Start(1))
    rig.sent.clear()
    refused = greet(rig, session_id, executor_id, principal="bert")
    assert isinstance(refused.refusal, PermissionDenied)
    assert str(refused.refusal) == (
        f"executor {executor_id!r} or session {session_id} belongs to another caller than 'bert' until that session has"
        " ended: take another executor id, or show a token of the same name as before"
    )
    rig.deliver()
    assert (alive(rig), rig.sent) == (["s"], [])


def test_the_same_caller_takes_its_session_over(rig: Rig) -> None:
    """Another token of the same name continues the session, and a new session of the executor ends the old one."""
    greet(rig, principal="anna")
    assert greet(rig, principal="anna").refusal is None
    assert greet(rig, "t", principal="anna").refusal is None
    assert alive(rig) == ["t"]


@pytest.mark.parametrize("callers", [("", "anna"), ("anna", "")])
def test_a_session_without_a_caller_is_nobodys(rig: Rig, callers: tuple[str, str]) -> None:
    """Sessions from before tokens were turned on are continued with one; and those with one, after they were turned
    off."""
    first, second = callers
    greet(rig, principal=first)
    assert greet(rig, "t", principal=second).refusal is None
    assert alive(rig) == ["t"]


def test_an_id_is_free_when_its_session_has_ended(rig: Rig) -> None:
    """After the lease has ended another caller may use the id of the executor."""
    greet(rig, principal="anna")
    let_lease_pass(rig)
    keep(rig, Executors())
    assert greet(rig, "t", principal="bert").refusal is None


def test_of_two_callers_in_one_batch_the_first_has_the_id(rig: Rig) -> None:
    """Two Hellos that are stored together are no way around it, neither by the executor nor by the session."""
    works = hello("s", principal="anna"), hello("t", principal="bert"), hello("s", "y", principal="bert")
    rig.carry_out_together(*works)
    assert [isinstance(work.refusal, PermissionDenied) for work in works] == [False, True, True]
    assert alive(rig) == ["s"]


def other(rig: Rig, *in_flight: Delivery) -> OpenSession:
    """Return the Hello of another executor, which claims these deliveries."""
    greeting = Greeting("y", "t", {"std.noop": "{}"}, 10, {}, in_flight=frozenset(in_flight))
    work = OpenSession(greeting, "engine", LEASE_S, lambda work, error: None)
    rig.carry_out(work)
    return work


def test_what_was_never_handed_to_it_an_executor_does_not_have(rig: Rig) -> None:
    """A Hello that claims deliveries of another executor learns nothing of them, claims none of their executions, and
    takes nothing: they no longer count for it."""
    greet(rig)
    rig.carry_out(Start(1))
    (run,) = rig.sent
    rig.sent.clear()
    mine, unknown = delivery_of(run), ("01234567-89ab-4def-8123-456789abcdef", (1, 0, 1), 1)
    claimed = other(rig, mine, unknown)
    assert claimed.superseded == sorted([mine, unknown])
    with rig.store.write() as transaction:
        held = [(each.session_id, each.delivery) for each in transaction.held_attempts(["s", "t"])]
    assert held == [("s", 1)]
    rig.deliver()
    assert rig.sent == []
    assert greet(rig, in_flight=frozenset([mine])).superseded == []


def test_an_inventory_tells_of_own_deliveries_only(rig: Rig) -> None:
    """The same is true of an Inventory."""
    greet(rig)
    rig.carry_out(Start(1))
    (run,) = rig.sent
    other(rig)
    told = TakeInventory("t", "y", "gone", frozenset([delivery_of(run)]), lambda work: None)
    rig.carry_out(told)
    assert told.superseded == [delivery_of(run)]


def report(run: wire.RunAction, session_id: str, principal: str, delivery: int = 1) -> DeliverReport:
    execution_id, key = parse_attempt_id(run.action_execution_id)
    done = TaskDone(key=key, outcome=TaskOutcome.SUCCEEDED, delivery=delivery, result=Value(text="1"))
    return DeliverReport(execution_id, done, session_id, principal, lambda work, error: None)


def test_an_outcome_of_another_caller_is_refused(rig: Rig) -> None:
    """Whoever guesses an action that an executor of another caller has ends it neither well nor badly; one of the
    same caller, and whoever has it, does."""
    greet(rig, principal="anna")
    rig.carry_out(Start(1), Start(2))
    first, second = rig.sent
    foreign = report(first, "t", "bert")
    rig.carry_out(foreign)
    assert (type(foreign.refusal), str(foreign.refusal)) == (PermissionDenied, FOREIGN)
    late = report(first, "t", "bert", delivery=7)
    rig.carry_out(late)
    assert late.verdict is not Verdict.ACCEPTED
    own, sibling = report(first, "s", "anna"), report(second, "t", "anna")
    rig.carry_out(own, sibling)
    assert (own.verdict, sibling.verdict) == (Verdict.ACCEPTED, Verdict.ACCEPTED)
