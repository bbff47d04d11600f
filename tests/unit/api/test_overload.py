"""What one api takes at once is bounded; what exceeds it is refused, with the time of the next try."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from tests.integration.engines import until
from tests.unit.api.conftest import Front

from dalsegno.api import follow, reads
from dalsegno.v1 import execution_service_pb2 as executions

TEXT = "{version: '2.0', waits: {tasks: {one: {action: std.async_noop}}}}"


def _may_come_back(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a refusal is RESOURCE_EXHAUSTED and says when to try again."""
    status = from_call(error)  # type: ignore[arg-type]
    assert status is not None
    kinds = [each.type_url.rpartition("/")[2] for each in status.details]
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and (
        error_details_pb2.RetryInfo.DESCRIPTOR.full_name in kinds
    )


async def test_more_watchers_than_an_api_takes_are_refused(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that watch and calls that wait count together; one that has ended leaves its place to another."""
    monkeypatch.setattr(follow, "WATCHERS_MAX", 2)
    await front.define(TEXT)
    started = await front.start("waits")
    watching = front.executions.WatchExecution(executions.WatchExecutionRequest(execution_id=started.id))
    await anext(aiter(watching))
    ask = executions.WaitExecutionRequest(execution_id=started.id)
    waiting = front.executions.WaitExecution(ask)
    other = front.executions.WaitExecution(ask)

    done, pending = await asyncio.wait(
        [asyncio.ensure_future(waiting), asyncio.ensure_future(other)], timeout=40, return_when=asyncio.FIRST_COMPLETED
    )
    (refused,) = done
    error = refused.exception()
    assert isinstance(error, grpc.aio.AioRpcError)
    assert _may_come_back(error), error

    watching.cancel()
    await _watch_again(front, started.id)
    for call in pending:
        call.cancel()


async def _watch_again(front: Front, execution_id: str) -> None:
    """Watch as soon as the api has seen that another watcher has gone."""
    async with asyncio.timeout(10):
        while True:
            call = front.executions.WatchExecution(executions.WatchExecutionRequest(execution_id=execution_id))
            try:
                await call.read()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
            else:
                break
    call.cancel()


async def test_more_reads_than_an_api_takes_are_refused(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is slow, reads above the limit get an answer at once; those that wait get theirs later."""
    await front.define(TEXT)
    started = await front.start("waits")
    held, goes_on = threading.Event(), threading.Event()
    read = front.store.read

    def read_slowly() -> object:
        held.set()
        goes_on.wait(60)
        return read()

    monkeypatch.setattr(front.store, "read", read_slowly)
    monkeypatch.setattr(reads, "READS_MAX", 20)
    list_all = executions.ListExecutionsRequest()
    calls = [asyncio.ensure_future(front.executions.ListExecutions(list_all)) for _ in range(30)]
    try:
        await until(lambda: sum(call.done() for call in calls) >= 10)
        assert held.is_set()
    finally:
        goes_on.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    errors = [each for each in ended if isinstance(each, BaseException)]
    assert all(isinstance(error, grpc.aio.AioRpcError) and _may_come_back(error) for error in errors), errors
    answers = [each for each in ended if not isinstance(each, BaseException)]
    assert answers
    assert all([each.id for each in answer.executions] == [started.id] for answer in answers)
