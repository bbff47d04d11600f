"""Several writes in one call, and streams of hints, at a server whose conductor does what the test says."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import grpc
import pytest
from google.rpc.status_pb2 import Status
from tests.integration.engines import until

from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.desk import server
from dalsegno.engine.desk.server import EngineServer
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.tokens import new_key
from dalsegno.engine.feed import Feed, Hint
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Unavailable


class Desk:
    """A server, and the works that it has put to the conductor."""

    def __init__(self) -> None:
        self.works: list[Any] = []
        self.feed = Feed()
        self.server = EngineServer(cast(Conductor, self), self.feed, Callbacks(new_key()))

    def request(self, work: Any) -> None:
        self.works.append(work)

    async def submit(self, *writes: wire.SubmitRequest) -> asyncio.Task[wire.SubmitManyResponse]:
        """Begin a call, and return once its writes have reached the conductor."""
        task = asyncio.create_task(self.server.SubmitMany(wire.SubmitManyRequest(writes=writes), None))
        await until(lambda: len(self.works) == len(writes))
        return task


def write(name: str, **more: Any) -> wire.SubmitRequest:
    request = wire.SubmitRequest(call_id=f"call {name}", **more)
    request.delete_environment.name = name
    return request


def answer(work: Any) -> None:
    """Let the write succeed."""
    work._answer = wire.SubmitResponse().delete_environment
    work.done()


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_each_write_of_a_call_has_its_answer_or_refusal(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """In their order; only an error that is nobody's refusal is in the log, by the name of its call."""
    task = await desk.submit(write("a"), write("b"), write("c"))
    answer(desk.works[2])
    desk.works[0].failed(NotFound("environment", "a"))
    desk.works[1].failed(KeyError("unexpected"))
    first, second, third = (await task).results
    assert third.answer.HasField("delete_environment")
    assert Status.FromString(first.refusal).code == grpc.StatusCode.NOT_FOUND.value[0]
    assert Status.FromString(second.refusal).code == grpc.StatusCode.INTERNAL.value[0]
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["write call b failed"]
    with pytest.raises(InvalidRequest, match="write: is missing"):
        await desk.server.Submit(wire.SubmitRequest(), None)
    assert list((await desk.server.SubmitMany(wire.SubmitManyRequest(), None)).results) == []


async def test_a_quick_write_does_not_wait_for_slow_ones(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that its caller may ask for later is given a name, when it is not there soon after the first one; who
    does not ask later is waited for."""
    monkeypatch.setattr(server, "TOGETHER_S", 0.01)
    task = await desk.submit(write("slow", takes_later=True), write("quick"))
    answer(desk.works[1])
    slow, quick = (await task).results
    assert quick.answer.HasField("delete_environment")
    asked = asyncio.create_task(desk.server.Await(wire.AwaitRequest(later=slow.answer.later), None))
    answer(desk.works[0])
    assert (await asked).answer.HasField("delete_environment")

    desk.works.clear()
    task = await desk.submit(write("slow"), write("quick", takes_later=True))
    answer(desk.works[1])
    await asyncio.sleep(0.05)
    assert not task.done()
    answer(desk.works[0])
    assert all(each.answer.HasField("delete_environment") for each in (await task).results)


async def test_answers_that_do_not_fit_are_asked_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one always travels, and so does what its caller cannot ask for later."""
    monkeypatch.setattr(server, "TOGETHER_BYTES_MAX", 1)
    task = await desk.submit(*(write(each, takes_later=each != "c") for each in "abcd"))
    for each in desk.works:
        answer(each)
    results = (await task).results
    assert [bool(each.answer.later) for each in results] == [False, True, False, True]
    taken = await desk.server.Await(wire.AwaitRequest(later=results[3].answer.later), None)
    assert taken.answer.HasField("delete_environment")


async def test_a_caller_that_leaves_takes_its_writes_along(desk: Desk) -> None:
    """They are not wanted any more."""
    task = await desk.submit(write("a"), write("b"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert [each.is_wanted for each in desk.works] == [False, False]
    for each in desk.works:
        each.failed(Unavailable("late"))
        answer(each)


async def test_hints_come_in_messages_of_bounded_size(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one is a sign of life; a follower that leaves is sent nothing more."""
    monkeypatch.setattr(server, "SIGN_OF_LIFE_S", 0.01)
    monkeypatch.setattr(server, "HINTS_PER_MESSAGE", 2)
    stream = desk.server.Follow(wire.FollowRequest(), None)
    assert list((await anext(stream)).hints) == []
    desk.feed.send({str(number): Hint(number, number == 3) for number in range(1, 4)})
    told = [[(each.execution_id, each.revision, each.resting) for each in (await anext(stream)).hints] for _ in "ab"]
    assert told == [[("1", 1, False), ("2", 2, False)], [("3", 3, True)]]
    assert len(desk.feed._subscribers) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert desk.feed._subscribers == set()
