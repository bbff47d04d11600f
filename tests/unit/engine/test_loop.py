"""The conductor on its event loop: what it takes, what it refuses, and whom it answers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from unittest.mock import patch

import pytest
from tests.integration.engines import until
from tests.unit.engine.test_conductor import FragileStore, Rig, Start, answer, settled
from tests.unit.engine.test_turns import Silent

from dalsegno.engine.batches import conductor as conductors
from dalsegno.engine.batches.losses import StoreLost
from dalsegno.engine.batches.results import Committed, Deferred, Failed, Result
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.executors.sessions import KeepLeases
from dalsegno.engine.metrics import BATCH_SIZE, COMMIT_SECONDS, EVENTS, QUEUE_DEPTH
from dalsegno.store.stalls import NO_STALL, Stall
from dalsegno.workflow.events import Poisoned
from dalsegno.workflow.refusals import NotBegun, Unavailable


class Noted(Start):
    """A start that a client waits for, or not, and that notes its answer."""

    def __init__(self, number: int, *, is_request: bool = True, is_wanted: bool = True) -> None:
        super().__init__(number)
        self._is_request, self._is_wanted = is_request, is_wanted
        self.answers: list[BaseException | None] = []
        self.deferred = 0

    @property
    def is_request(self) -> bool:
        return self._is_request

    @property
    def is_wanted(self) -> bool:
        return self._is_wanted

    def defer(self) -> None:
        self.deferred += 1

    def done(self) -> None:
        self.answers.append(self.refusal)

    def failed(self, error: BaseException) -> None:
        self.answers.append(error)


@pytest.fixture
def rig() -> Rig:
    rig = Rig(FragileStore())
    rig.define()
    return rig


def names(works: Any) -> list[type[BaseException]]:
    """Return the kinds of errors with which these works were answered."""
    return [type(error) for work in works for error in work.answers]


async def test_while_the_store_hangs_requests_are_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the queue and in the batch are answered, and further ones are not begun; all else waits."""
    conductor = rig.conductor
    begun, queued, event = Noted(1), Noted(2), Noted(3, is_request=False)
    conductor._begun = (begun,)
    conductor._queue.extend((queued, event))
    monkeypatch.setattr(rig.store, "stall", lambda: NO_STALL, raising=False)
    conductor.look_at_store()
    assert names((begun, queued, event)) == []
    conductor.request(Noted(4))
    monkeypatch.setattr(rig.store, "stall", lambda: Stall(60.0, "a commit does not end"), raising=False)
    conductor.look_at_store()
    assert names((begun, queued)) == [Unavailable, Unavailable]
    assert event.answers == []
    with pytest.raises(NotBegun, match="cannot be written at present: a commit does not end"):
        conductor.request(Noted(5))


async def test_what_nobody_wants_is_not_carried_out(rig: Rig) -> None:
    """A request whose caller has gone leaves no execution; a stopping engine begins no request."""
    conductor = rig.conductor
    gone, stays = Noted(1, is_wanted=False), Noted(2)
    conductor.start()
    for work in (gone, stays):
        conductor.request(work)
    await settled(conductor)
    assert (gone.answers, stays.answers) == ([], [None])
    with rig.store.read() as queries:
        assert queries.execution(gone.execution_id) is None
    last = Noted(3)
    conductor.put(last)
    await conductor.stop(5.0)
    assert last.answers == [None], "what it has begun is finished"
    with pytest.raises(NotBegun, match="the engine is stopping"):
        conductor.request(Noted(4))


async def test_an_error_of_the_conductor_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The callers of the batch get it, and the next batch is carried out."""
    conductor, carry_out = rig.conductor, rig.conductor.carry_out
    errors: list[BaseException] = [KeyError("unexpected")]

    def failing(works: Any) -> Any:
        if errors:
            raise errors.pop()
        return carry_out(works)

    monkeypatch.setattr(conductor, "carry_out", failing)
    first, second = Noted(1), Noted(2)
    conductor.start()
    conductor.put(first)
    await until(lambda: first.answers)
    conductor.put(second)
    await until(lambda: second.answers)
    await conductor.stop(5.0)
    assert names([first]) == [KeyError]
    assert second.answers == [None]
    assert "the conductor failed" in caplog.text


async def test_results_of_a_batch_are_followed(rig: Rig) -> None:
    """What was left comes first, and its turns are over; then what waited. Who failed learns why; what is broken is
    ended before all else; what waits for a time comes back."""
    conductor = rig.conductor
    left = [Noted(number) for number in range(3)]
    failed, waiting, slices = Noted(3), Noted(4), [Noted(5)]
    conductor.put(Noted(6))
    with patch.object(conductor, "_go_on"):
        results: list[Result] = [
            Committed((), left=left, left_slices=slices, broken={"e": "bad"}),
            Failed(failed, ValueError("no")),
            Deferred(waiting, 0.01),
        ]
        conductor._end((), results, None)
    assert names([failed]) == [ValueError]
    ended, *rest = conductor._queue
    assert isinstance(ended, DeliverEvent)
    assert (ended.execution_id, ended.event) == ("e", Poisoned(reason="bad"))
    assert rest[:3] == left
    assert conductor._behind == {work.execution_id for work in left}, "they have had their turn"
    assert list(conductor._slices) == slices
    assert (waiting.deferred, waiting in rest) == (1, False)
    await until(lambda: conductor._queue[0] is waiting)


async def test_the_next_batch_begins_before_the_callers_of_the_last_one_are_answered(rig: Rig) -> None:
    """The thread does not wait for the answers."""
    conductor = rig.conductor
    began: list[bool] = []
    first = Noted(1)
    conductor.put(Noted(2))
    with patch.object(first, "done", lambda: began.append(conductor._is_busy)):
        conductor._is_busy = True
        conductor._end([first], [Committed([first])], None)
    assert began == [True]
    assert conductor._inbox.qsize() == 1


async def test_when_the_store_is_lost_works_are_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are answered, what is repeated anyway is dropped, and all else is tried again later, in order."""
    monkeypatch.setattr(conductors, "RETRY_AFTER_S", 0.0)
    conductor = rig.conductor
    request, event, behind = Noted(1), Noted(2, is_request=False), Noted(3, is_request=False)
    periodic = KeepLeases(Silent(), 1.0, lambda: False)  # type: ignore[arg-type]
    conductor._queue.extend((behind, periodic))
    conductor._loop = asyncio.get_running_loop()
    conductor._is_busy = True
    with patch.object(conductor, "_begin") as begin:
        conductor._end((request, event), (), StoreLost("the disk is full"))
        assert conductor._is_busy
        assert conductor.readiness.lost == "the disk is full"
        await until(lambda: begin.called)
    assert not conductor._is_busy
    assert names([request]) == [Unavailable]
    assert list(conductor._queue) == [event, behind]
    conductor._has_ended = True
    ended: list[None] = []
    conductor.on_ended = lambda: ended.append(None)
    conductor._end((), (), StoreLost("another engine has ended this one"))
    assert ended == [None]


def test_a_batch_is_measured(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """How many works it had, how long its commit took, and its events by kind; each batch is in the log of who looks
    for faults."""

    def values() -> list[float]:
        kinds = (EVENTS.labels("start_requested"), EVENTS.labels("handed_out"))
        measured = [
            sample for each in (BATCH_SIZE, COMMIT_SECONDS) for found in each.collect() for sample in found.samples
        ]
        counts = [sample.value for sample in measured if sample.name.endswith(("batch_size_sum", "_count"))]
        return [*(each._value.get() for each in kinds), *counts]

    before = values()
    with caplog.at_level(logging.DEBUG, conductors.__name__):
        rig.carry_out(*map(Start, range(3)))
        rig.carry_out(Start(3))
    assert [after - was for was, after in zip(before, values(), strict=True)] == [4, 4, 2, 4, 2]
    told = [record.getMessage() for record in caplog.records if record.name == conductors.__name__]
    assert [each.startswith("batch of ") for each in told] == [True, True]
    assert "start_requested=3 handed_out=3" in told[0]


def test_when_handing_out_fails_attempts_stay(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but handing out failed: it is in the log, and is tried again."""
    rig.stream.slots = 0
    rig.carry_out(Start(1))
    rig.stream.slots = 10
    assert isinstance(rig.store, FragileStore)
    rig.store.failures = [RuntimeError("no"), RuntimeError("no")]
    assert rig.carry_out() == []
    assert "handing out failed" in caplog.text
    rig.carry_out()
    assert len(rig.sent) == 1
    rig.carry_out(answer(rig.sent[0]))
    assert rig.state(Start(1).execution_id) == "RUNNING"


async def test_the_depth_of_the_queue_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works that a full batch leaves in the queue are counted."""
    conductor = rig.conductor
    monkeypatch.setattr(conductor, "_window", 2)
    works: list[Work] = [Noted(number) for number in range(5)]
    conductor._queue.extend(works)
    conductor._begin()
    assert (conductor.depth, QUEUE_DEPTH._value.get()) == (3, 3)
    assert conductor._inbox.get() == works[:2]
    conductor._begin()
    assert conductor._inbox.empty(), "one batch at a time"
