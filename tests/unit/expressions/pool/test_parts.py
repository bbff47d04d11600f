"""Parts of the pool by themselves: a worker, the group of processes, and what a caller waits for."""

from __future__ import annotations

import json
import selectors
from dataclasses import astuple

import pytest
from tests.unit.expressions.pool import planted
from tests.unit.expressions.pool.asking import yaql

from dalsegno.expressions.pool.compiled import Compiled
from dalsegno.expressions.pool.frames import Frame, Kind
from dalsegno.expressions.pool.jobs import JobOutcome, Ticket
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.process_group import ProcessGroup
from dalsegno.expressions.pool.spawning import Spawner
from dalsegno.expressions.pool.worker import Worker


def nested(depth: int) -> object:
    """So many lists, one in the other."""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


class Line:
    """A channel that hands over some messages and keeps what is sent."""

    def __init__(self, *frames: Frame) -> None:
        self._frames = [*frames]
        self.sent: list[tuple[Kind, bytes]] = []

    def receive(self) -> Frame | None:
        """The next message; None at the end."""
        return self._frames.pop(0) if self._frames else None

    def send(self, kind: Kind, payload: bytes, grown_mib: int = 0) -> None:
        """Keep it."""
        self.sent.append((kind, payload))


def test_a_job_that_comes_before_its_limits_is_done() -> None:
    """A worker that was not told of any has no limit of processor time."""
    line = Line(Frame(Kind.CHECK, json.dumps([{"type": "string"}, "x"]).encode()))
    worker = Worker(line)  # type: ignore[arg-type]
    assert worker.do_next()
    assert line.sent == [(Kind.VALUE, b"[]")]
    assert not worker.do_next()


@pytest.mark.parametrize(
    ("value", "told"),
    [("\ud800", "it gives what is not JSON: "), (nested(100_000), "it gives what cannot be written as JSON")],
    ids=("unfit", "too deep"),
)
def test_a_value_that_is_no_json_is_an_error_of_the_expression(
    value: object, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lets it through before: the process answers, and does not crash."""

    class Giving:
        """Something compiled that gives that value."""

        def evaluate_here(self, scope: object, place: str) -> object:
            """Give it."""
            return value

    monkeypatch.setattr(Compiled, "get", lambda compiled, job: Giving())
    job = yaql("1")
    line = Line(Frame(Kind.EVALUATE, json.dumps(astuple(job)).encode()))
    assert Worker(line).do_next()  # type: ignore[arg-type]
    ((kind, payload),) = line.sent
    assert (kind, payload.decode()[: len(job.shown) + len(told) + 2]) == (Kind.ERROR, f"{job.shown}: {told}")


def test_a_report_of_a_template_that_has_gone_is_ignored() -> None:
    """It may have been ready to be read when another event ended the template."""
    group = ProcessGroup([], [])
    group.provide()
    (key,) = group.selector.get_map().values()
    group.begin_anew()
    key.data(selectors.EVENT_READ)
    assert not group.selector.get_map()
    group.close()


def test_nothing_waits_for_a_process_that_does_not_read() -> None:
    """The pool's end of a process never blocks the thread of the pool."""
    spawner = Spawner([planted.MODULE])
    connection = spawner.fork(1, 0)
    assert not connection.getblocking()
    assert not spawner.connection.getblocking()
    connection.close()
    spawner.close()


@pytest.mark.parametrize("outcome", [JobOutcome(value=b"x"), JobOutcome(error="broken")], ids=("value", "error"))
def test_a_call_that_was_cancelled_may_end(outcome: JobOutcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end may have been under way when it was cancelled."""
    tickets: list[Ticket] = []
    pool = Pool(0, calls=1, modules=[planted.MODULE])
    monkeypatch.setattr(pool, "_submit", lambda lane, ticket, **_: tickets.append(ticket))
    try:
        future = pool.call(f"{planted.MODULE}:reverse", b"", shown="this")
        assert future.cancel()
        tickets[0].on_done(outcome)
        assert future.cancelled()
        again = pool.call(f"{planted.MODULE}:reverse", b"", shown="this")
        tickets[1].on_done(outcome)
        tickets[1].on_done(outcome)
        assert (again.exception() is None) == (not outcome.error)
    finally:
        pool.close()
