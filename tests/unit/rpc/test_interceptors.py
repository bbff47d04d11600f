"""The interceptor handles every call of a server."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from prometheus_client import REGISTRY

from dalsegno.rpc import interceptors, logs
from dalsegno.rpc.channel import call_metadata
from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import engine_service_pb2, execution_service_pb2, executor_service_pb2
from dalsegno.workflow.refusals import NotFound

if TYPE_CHECKING:
    from tests.unit.rpc.conftest import World

MIB = 1024 * 1024


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Provide all log lines as JSON."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.set_up("engine", stream=stream)
    yield stream
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def submission(text: str) -> engine_service_pb2.SubmitRequest:
    """Return a write with a text of this size."""
    start = execution_service_pb2.StartExecutionRequest(execution_id="e-1", input=text)
    return engine_service_pb2.SubmitRequest(actor="ada", start_execution=start)


async def test_the_request_id_comes_back(world: World) -> None:
    """The answer has the request id of the caller, and so has a call to the next server."""
    passed_on: list[Any] = []

    async def note(request: Any) -> engine_service_pb2.SubmitResponse:
        passed_on.extend(call_metadata())
        return engine_service_pb2.SubmitResponse()

    world.submit = note
    call = world.engine.Submit(engine_service_pb2.SubmitRequest(), metadata=[("x-request-id", "r-42")])
    await call

    trailing: Any = await call.trailing_metadata()
    assert trailing["x-request-id"] == "r-42"
    assert passed_on == [("x-request-id", "r-42")]


async def test_a_call_without_request_id_gets_one(world: World) -> None:
    """Every call has a request id, also one that is refused."""
    world.refuse_with(NotFound("execution", "e"))

    failure = read_failure(await world.failed_submit())

    assert len(failure.request_id) == 32


async def test_one_line_per_call(world: World, lines: io.StringIO) -> None:
    """A call is one JSON line with method, code, time and request id; the line of a refusal has its reason."""
    world.refuse_with(NotFound("execution", "e-9"))
    await world.failed_submit(metadata=[("x-request-id", "r-1")])

    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    (line,) = [line for line in found if line["logger"] == "dalsegno.rpc"]
    assert line["message"] == "EngineService/Submit"
    assert line["code"] == "NOT_FOUND"
    assert line["request_id"] == "r-1"
    assert line["service"] == "engine"
    assert "e-9" in line["error"]
    assert line["ms"] >= 0
    assert "traceback" not in line


async def test_a_fault_is_logged_and_not_told(world: World, lines: io.StringIO) -> None:
    """An unknown exception is INTERNAL: the caller gets the request id, the log has the traceback."""
    world.refuse_with(KeyError("a secret"))

    error = await world.failed_submit(metadata=[("x-request-id", "r-2")])

    failure = read_failure(error)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.reason == "INTERNAL"
    assert "r-2" in failure.message
    assert "secret" not in str(error.trailing_metadata()) + failure.message
    line = json.loads(lines.getvalue().splitlines()[-1])
    assert "KeyError: 'a secret'" in line["traceback"]
    assert line["level"] == "error"


async def test_calls_are_counted(world: World) -> None:
    """The metrics count calls by service, method and code, and open calls."""
    labels = {"service": "EngineService", "method": "Submit"}

    def count() -> float:
        return REGISTRY.get_sample_value("dalsegno_grpc_calls_total", {**labels, "code": "OK"}) or 0

    before = count()
    await world.engine.Submit(engine_service_pb2.SubmitRequest())

    assert count() == before + 1
    assert REGISTRY.get_sample_value("dalsegno_grpc_calls_open", labels) == 0


async def test_a_unary_call_without_deadline_gets_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a deadline ends with DEADLINE_EXCEEDED and a reason."""
    monkeypatch.setattr(interceptors, "UNARY_DEADLINE_S", 0.1)

    async def hang(request: Any) -> Any:
        await asyncio.Event().wait()

    world.submit = hang
    failure = read_failure(await world.failed_submit())

    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failure.reason == "DEADLINE_EXCEEDED"


async def test_the_callers_deadline_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller's deadline may be longer than the default."""
    monkeypatch.setattr(interceptors, "UNARY_DEADLINE_S", 0.05)

    async def slow(request: Any) -> engine_service_pb2.SubmitResponse:
        await asyncio.sleep(0.3)
        return engine_service_pb2.SubmitResponse()

    world.submit = slow

    assert isinstance(
        await world.engine.Submit(engine_service_pb2.SubmitRequest(), timeout=10), engine_service_pb2.SubmitResponse
    )


async def test_fifteen_mib_pass(world: World) -> None:
    """A message within the limit is served."""
    sizes: list[int] = []

    async def note(request: Any) -> engine_service_pb2.SubmitResponse:
        sizes.append(len(request.start_execution.input))
        return engine_service_pb2.SubmitResponse()

    world.submit = note
    await world.engine.Submit(submission("x" * (15 * MIB)))

    assert sizes == [15 * MIB]


@pytest.mark.parametrize("size", [17 * MIB, 20_000_000, 31 * MIB])
async def test_a_message_over_the_limit_is_refused_with_details(world: World, size: int) -> None:
    """More than 16 MiB is RESOURCE_EXHAUSTED with size and limit, and does not reach the servicer."""
    world.refuse_with(AssertionError("was called"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.engine.Submit(submission("x" * size))

    failure = read_failure(caught.value)
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == "TOO_LARGE"
    assert "16 MiB" in failure.message


async def test_a_message_far_over_the_limit_is_refused_by_grpc(world: World) -> None:
    """A message that is not read into memory is RESOURCE_EXHAUSTED too."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.engine.Submit(submission("x" * (40 * MIB)))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_ends_at_a_message_over_the_limit(world: World) -> None:
    """The limit holds for each message of a two-way stream."""
    call = world.executors.Connect()
    done = executor_service_pb2.TaskDone(result="x" * (17 * MIB))
    batch = executor_service_pb2.TaskDoneBatch(outcomes=[done])
    await call.write(executor_service_pb2.ConnectRequest(task_done=batch))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert read_failure(caught.value).reason == "TOO_LARGE"


async def test_a_method_that_is_not_there(world: World) -> None:
    """An unknown method is UNIMPLEMENTED."""
    ask: Any = world.channel.unary_unary("/dalsegno.v1.EngineService/Sing")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_line_on_a_terminal_is_for_people() -> None:
    """On a terminal a line is text with its fields at the end."""
    record = logging.makeLogRecord({"msg": "committed", "levelname": "INFO", "execution": "e-1", "revision": 7})

    line = logs.TerminalLines("engine").format(record)

    assert line.endswith("engine INFO committed execution=e-1 revision=7")


async def test_a_name_that_is_not_text_does_not_cost_the_line() -> None:
    """A lone surrogate in a field is written as an escape."""
    record = logging.makeLogRecord({"msg": "odd", "levelname": "INFO", "workflow": "a\ud800"})

    line = json.loads(logs.JsonLines("engine").format(record))

    assert line["workflow"] == "a\\ud800"
