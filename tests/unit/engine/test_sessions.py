"""Leases: who keeps them, who loses them, and when nobody may."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from tests.unit.engine.test_conductor import Rig, Scan, Start, answer

from dalsegno.engine.executors.sessions import CloseSession, Greeting, KeepLeases, OpenSession
from dalsegno.store.records import SessionRow
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.refusals import SupersededSession

LEASE_S = 15.0


class Executors:
    """The executors that are connected, as the test says."""

    def __init__(self, *heard: str) -> None:
        self.heard = set(heard)
        self.streams: dict[str, str] = {}
        self.gone: list[str] = []
        self.superseded: dict[str, str] = {}

    def take_heard(self) -> set[str]:
        heard, self.heard = self.heard, set()
        return heard

    def connected(self) -> dict[str, str]:
        return self.streams

    def sessions_ended(self, session_ids: Collection[str]) -> None:
        self.gone += session_ids

    def session_superseded(self, session_id: str, newer: SessionRow) -> None:
        self.superseded[session_id] = newer.peer

    def engines_ended(self, session_id: str, gone: Mapping[int, str]) -> None:
        raise AssertionError("no engine has ended")


@pytest.fixture
def rig() -> Rig:
    """A rig whose one stream is of session `s`."""
    rig = Rig()
    rig.define()
    return rig


def hello(session_id: str = "s", executor_id: str = "x", **more: object) -> OpenSession:
    greeting = Greeting(executor_id, session_id, {"std.noop": "{}"}, 10, {}, **more)  # type: ignore[arg-type]
    return OpenSession(greeting, "engine", LEASE_S, lambda work, error: None)


def greet(rig: Rig, session_id: str = "s", executor_id: str = "x", **more: object) -> OpenSession:
    work = hello(session_id, executor_id, **more)
    rig.carry_out(work)
    return work


def alive(rig: Rig) -> list[str]:
    """Return the sessions that have not ended."""
    with rig.store.read() as queries:
        return [row.session_id for row in queries.sessions()]


def let_lease_pass(rig: Rig, session_id: str = "s") -> None:
    with rig.store.write() as transaction:
        transaction.save_session(SessionRow(session_id, "x", "engine", 1.0))


def keep(rig: Rig, executors: Executors, *, may_end: bool = True, sweep: bool = False) -> None:
    work = KeepLeases(executors, LEASE_S, lambda: may_end, sweep=sweep)
    rig.carry_out(work)
    work.done()


def test_heard_executor_keeps_its_lease(rig: Rig) -> None:
    """A sign of life renews the lease, in the very batch that would have ended it."""
    greet(rig)
    let_lease_pass(rig)
    executors = Executors("s")
    keep(rig, executors)
    assert executors.gone == []
    with rig.store.write() as transaction:
        assert [row.lease_until_s > 1.0 for row in transaction.queries.sessions()] == [True]


def test_silent_executor_loses_its_work(rig: Rig) -> None:
    """When the lease ends the session does, and what is safe waits for another; till then a late answer counts."""
    greet(rig)
    rig.carry_out(Start(1))
    run = rig.sent.pop()
    let_lease_pass(rig)
    executors = Executors()
    keep(rig, executors)
    rig.deliver()
    assert executors.gone == ["s"]
    assert rig.sent == [], "the stream of a session that has ended gets nothing"
    assert rig.dispatcher.waiting_count == 1
    late = answer(run)
    rig.carry_out(late)
    assert late.verdict == "accepted", "nobody else has been given it yet"
    heir = Rig(rig.store)
    heir.carry_out(Scan(heir.dispatcher))
    assert [run.action_execution_id.endswith(".2.0.1") for run in heir.sent] == [True]


def test_nobody_loses_a_lease_soon_after_an_outage(rig: Rig) -> None:
    """While leases may not end, as after a start or an outage, a lease that has passed does no harm."""
    greet(rig)
    let_lease_pass(rig)
    executors = Executors()
    keep(rig, executors, may_end=False)
    assert executors.gone == []


def test_sign_of_life_is_not_lost_with_a_failed_batch(rig: Rig) -> None:
    """When the batch that was to renew a lease fails and is made again, it renews it."""
    greet(rig)
    let_lease_pass(rig)
    rig.store.failures = [RuntimeError("no")]  # type: ignore[attr-defined]
    executors = Executors("s")
    keep(rig, executors)
    assert executors.gone == []


def test_session_that_another_engine_ended_gives_up_its_work(rig: Rig) -> None:
    """What was handed to a session after another engine had ended it is found within a second."""
    greet(rig)
    rig.carry_out(Start(1))
    with rig.store.write() as transaction:
        transaction.end_sessions(["s"])
    executors = Executors()
    executors.streams = {"s": "x"}
    keep(rig, executors, may_end=False)
    rig.deliver()
    assert executors.gone == ["s"]
    assert rig.dispatcher.waiting_count == 1


def test_session_that_a_newer_one_ended_elsewhere_is_told(rig: Rig) -> None:
    """When the same executor has come to another engine, the session here is told so, and does not come back."""
    greet(rig, "s")
    greet(rig, "newer", peer="ipv4:192.0.2.7:5000")
    executors = Executors()
    executors.streams = {"s": "x", "other": "y"}
    keep(rig, executors)
    assert executors.superseded == {"s": "ipv4:192.0.2.7:5000"}
    assert executors.gone == ["other"]
    refused = greet(rig, "s")
    assert isinstance(refused.refusal, SupersededSession)
    assert "from ipv4:192.0.2.7:5000" in str(refused.refusal)
    with rig.store.write() as transaction:
        assert [row.session_id for row in transaction.queries.sessions()] == ["newer"]
        transaction.end_sessions(["newer"])
    assert greet(rig, "s").refusal is None, "a session whose lease has ended comes back when nobody else has come"


@pytest.mark.parametrize("known", [True, False])
def test_newest_session_of_an_executor_stays_where_both_open_in_one_batch(rig: Rig, known: bool) -> None:
    """The earlier one ends, whether an earlier batch knows it or not."""
    if known:
        greet(rig, "old")
    older, newer = hello("old"), hello("new")
    rig.carry_out(older, newer)
    assert alive(rig) == ["new"]
    assert newer.ended == ["old"]


def test_session_that_one_of_the_same_batch_has_replaced_does_not_come_back(rig: Rig) -> None:
    """A restarted executor says Hello; after that, in the same batch, its old process does so, too."""
    greet(rig, "old")
    newer, older = hello("new"), hello("old")
    rig.carry_out(newer, older)
    assert isinstance(older.refusal, SupersededSession)
    assert alive(rig) == ["new"]


@pytest.mark.parametrize("is_first", [True, False])
def test_lease_that_has_passed_does_not_end_a_session_that_says_hello_in_the_same_batch(
    rig: Rig, is_first: bool
) -> None:
    """A Hello opens the session again, before or after the look at leases."""
    greet(rig)
    let_lease_pass(rig)
    executors = Executors()
    keeping = KeepLeases(executors, LEASE_S, lambda: True)
    rig.carry_out(*([hello(), keeping] if is_first else [keeping, hello()]))
    keeping.done()
    assert alive(rig) == ["s"]
    assert executors.gone == ([] if is_first else ["s"])


def test_sweep_finds_what_no_session_answers_for(rig: Rig) -> None:
    """An attempt whose session has ended without anybody noticing is handed out again in the end."""
    rig.carry_out(Start(1))
    rig.sent.clear()
    keep(rig, Executors())
    assert rig.sent == []
    keep(rig, Executors(), sweep=True)
    rig.deliver()
    assert [run.delivery for run in rig.sent] == [2]


def test_hello_lists_what_it_still_has(rig: Rig) -> None:
    """What Hello lists stays; what it does not list is handed out again; what no longer counts is told."""
    greet(rig)
    rig.carry_out(Start(1), Start(2), Start(3))
    kept, missed, done = rig.sent
    rig.sent = []
    rig.carry_out(answer(done))
    rig.sent = [run for run in rig.sent if run.action_execution_id.split(".")[0] not in done.action_execution_id]
    in_flight = frozenset((*parse_attempt_id(run.action_execution_id), 1) for run in (kept, done))
    next_id, next_key = parse_attempt_id(done.action_execution_id)
    in_flight |= {(next_id, (2, 0, 1), 1)}
    work = greet(rig, in_flight=in_flight)
    rig.deliver()
    assert [(run.action_execution_id, run.delivery) for run in rig.sent] == [(missed.action_execution_id, 2)]
    assert work.superseded == [(next_id, next_key, 1)]


def test_release_gives_back_at_once(rig: Rig) -> None:
    """An executor that goes and gives back what it has is followed by another one without delay."""
    greet(rig)
    rig.carry_out(Start(1))
    rig.sent.clear()
    rig.carry_out(CloseSession("s", "x"))
    rig.deliver()
    assert rig.dispatcher.waiting_count == 1
    with rig.store.write() as transaction:
        assert transaction.queries.sessions() == []
