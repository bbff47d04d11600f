"""Answers that take longer than the call that asked for them."""

from __future__ import annotations

import asyncio

import pytest
from google.rpc.status_pb2 import Status

from dalsegno.engine.desk.later import LaterAnswers
from dalsegno.rpc.errors import PassedOn
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import environment_service_pb2
from dalsegno.workflow.refusals import NotFound, Unavailable

ANSWER = wire.SubmitResponse(later="an answer")


def answering() -> tuple[asyncio.Event, asyncio.Task[wire.WriteResult], list[wire.WriteResult]]:
    """A task that returns what the list has when the event is set."""
    event, results = asyncio.Event(), list[wire.WriteResult]()

    async def answer() -> wire.WriteResult:
        await event.wait()
        return results[0]

    return event, asyncio.create_task(answer()), results


@pytest.mark.parametrize("is_early", [True, False])
async def test_a_result_is_given_to_who_asks_for_it_once(is_early: bool) -> None:
    """Whether it is there when it is asked for or comes later; a second time there is none."""
    answers = LaterAnswers()
    event, task, results = answering()
    results.append(
        wire.WriteResult(answer=wire.SubmitResponse(put_environment=environment_service_pb2.PutEnvironmentResponse()))
    )
    if is_early:
        event.set()
        await task
    name = answers.postpone(task)
    asked = asyncio.create_task(answers.take(name))
    await asyncio.sleep(0)
    event.set()
    assert (await asked).HasField("put_environment")
    with pytest.raises(Unavailable, match="repeat it with its request id"):
        await answers.take(name)


async def test_a_refusal_is_raised_where_it_is_asked_for() -> None:
    """With the status that the result has."""
    answers = LaterAnswers()
    event, task, results = answering()
    results.append(wire.WriteResult(refusal=Status(code=9, message="no").SerializeToString()))
    name = answers.postpone(task)
    event.set()
    with pytest.raises(PassedOn) as caught:
        await answers.take(name)
    assert caught.value.status.message == "no"


@pytest.mark.parametrize("error", [None, NotFound("workflow", "w")])
async def test_a_result_that_takes_longer_again_has_one_name_for_its_caller(error: Exception | None) -> None:
    """The caller asks once: what is kept under the second name comes by the first one."""
    answers = LaterAnswers()
    event, task, results = answering()
    second, future = answers.open()
    results.append(wire.WriteResult(answer=wire.SubmitResponse(later=second)))
    asked = asyncio.create_task(answers.take(answers.postpone(task)))
    event.set()
    await task
    if error is None:
        future.set_result(ANSWER)
        assert await asked == ANSWER
    else:
        future.set_exception(error)
        with pytest.raises(NotFound, match="w"):
            await asked
    with pytest.raises(Unavailable, match="repeat it with its request id"):
        await answers.take(second)


async def test_a_caller_that_leaves_ends_what_it_waits_for() -> None:
    """Nobody waits for the write any more, also under its second name: the conductor drops it."""
    answers = LaterAnswers()
    _, task, _ = answering()
    asked = asyncio.create_task(answers.take(answers.postpone(task)))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    event, task, results = answering()
    second, future = answers.open()
    results.append(wire.WriteResult(answer=wire.SubmitResponse(later=second)))
    event.set()
    asked = asyncio.create_task(answers.take(answers.postpone(task)))
    await task
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([future])
    assert future.cancelled()
