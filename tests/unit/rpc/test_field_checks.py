"""Values that no store can hold are found in every field of every message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from tests.unit.rpc.conftest import World

from dalsegno.rpc.failure import read_failure
from dalsegno.rpc.field_checks import parse, wrong_fields
from dalsegno.v1 import engine_service_pb2, execution_service_pb2, executor_service_pb2, operation_pb2

Start = execution_service_pb2.StartExecutionRequest
Resume = execution_service_pb2.ResumeExecutionRequest
Pause: Any = execution_service_pb2.PauseExecutionRequest
Task: Any = operation_pb2.ResumeTask


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Start(namespace="a", version=2**31 - 1, labels={"a": "b"}, deadline=Timestamp(seconds=-1)), []),
        (Start(namespace="\0", input="a\0"), ["namespace", "input"]),
        (Start(labels={"a": "\0"}), ["labels['a']"]),
        (Start(labels={"\0": "a"}), ["labels['\\x00']"]),
        (Start(version=2**31), ["version"]),
        (Start(version=-(2**63)), ["version"]),
        (Start(deadline=Timestamp(seconds=253_402_300_800)), ["deadline"]),
        (Start(deadline=Timestamp(nanos=-1)), ["deadline"]),
        (Resume(tasks=[Task(task="a"), Task(items=[1, 2**40])]), ["tasks[1].items[1]"]),
        (Resume(tasks=[Task(item_inputs={2**40: "\0"})]), [f"tasks[0].item_inputs[{2**40}]"] * 2),
        (execution_service_pb2.WaitExecutionRequest(timeout=Duration(seconds=2**62)), ["timeout"]),
        (execution_service_pb2.WaitExecutionRequest(timeout=Duration(seconds=1, nanos=-1)), ["timeout"]),
        (execution_service_pb2.UpdateContextRequest(unset=["a", "\0"]), ["unset[1]"]),
        (Pause(delegates=2), []),
        (Pause(delegates=99), ["delegates"]),
        (Resume(tasks=[Task(child=1), Task(child=-1)]), ["tasks[1].child"]),
    ],
)
def test_each_wrong_field_is_named(message: Any, fields: list[str]) -> None:
    """A field that holds NUL, a number beyond 32 bits, a time out of range or an unknown word is named by its path."""
    assert [violation.subject for violation in wrong_fields(message)] == fields


def test_an_unknown_word_is_told_with_those_that_are_known() -> None:
    """A number that the enum does not have is refused with the known names."""
    (violation,) = wrong_fields(Task(child=7))
    assert violation.description.startswith(
        "is 7, which this server does not know; it knows CHILD_RERUN_UNSPECIFIED (0)"
    )


def _texts(descriptor: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Return the path of every text in a message."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field)
        elif field.message_type is not None:
            yield from _texts(field.message_type, (*path, field))


@pytest.mark.parametrize("kind", [Start, Resume, engine_service_pb2.SubmitRequest, executor_service_pb2.ConnectRequest])
def test_bytes_that_are_not_utf8_are_found(kind: Any) -> None:
    """A text that is no UTF-8 does not parse: the rest of the message is read, and its field is named."""
    paths = list(_texts(kind.DESCRIPTOR))
    assert paths
    for path in paths:
        data = b"a\xed\xa0\x80"
        for field in reversed(path):
            data = bytes([*_tag(field.number), len(data)]) + data
        with pytest.raises(DecodeError):
            kind.FromString(data)
        (violation,) = wrong_fields(parse(kind, data))
        assert violation.subject.startswith(path[0].name)
        assert "as character 2, NUL or what is not UTF-8" in violation.description


def _tag(number: int) -> list[int]:
    key = number << 3 | 2
    return [key] if key < 0x80 else [key & 0x7F | 0x80, key >> 7]


def test_all_else_of_such_a_message_is_kept() -> None:
    """The other numbers, times, maps and texts of the message are unchanged."""
    sent = Start(
        namespace="ü",
        version=-1,
        labels={"a": "\N{CAT}\N{REPLACEMENT CHARACTER}"},
        dry_run=True,
        deadline=Timestamp(seconds=5, nanos=7),
        workflow="BROKEN",
    )
    read = parse(Start, sent.SerializeToString().replace(b"BROKEN", b"BR\xff\xfeEN"))
    sent.workflow = "BR\0\0EN"
    assert read == sent


def test_other_bytes_are_no_message() -> None:
    """Bytes that are no protobuf are not read, without a detail."""
    for data in (b"\xff", b"\x0a\x05a", b"\x0b\x0c\x0a\x01\xff"):
        with pytest.raises(DecodeError):
            parse(Start, data)


async def submit_bytes(world: World, data: bytes) -> grpc.aio.AioRpcError:
    call: Any = world.channel.unary_unary("/dalsegno.v1.EngineService/Submit")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(data)
    return caught.value


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\x0a\x03\xed\xa0\x80", "actor"),
        (b"\x0a\x02a\0", "actor"),
        (b"\x12\x06\x18\xff\xff\xff\xff\x7f", "start_execution.version"),
        (b"\xff\xff", ""),
    ],
)
async def test_servers_have_the_gate(world: World, data: bytes, field: str) -> None:
    """A wrong request is INVALID_ARGUMENT with its field, and does not reach the servicer."""
    seen = []

    async def see(request: engine_service_pb2.SubmitRequest) -> engine_service_pb2.SubmitResponse:
        seen.append(request)
        return engine_service_pb2.SubmitResponse()

    world.submit = see
    failure = read_failure(await submit_bytes(world, data))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert [violation.subject for violation in failure.violations] == [field]
    assert seen == []


async def test_a_stream_goes_on_after_what_is_not_utf8(world: World) -> None:
    """A message of a stream is read as far as possible: its servicer decides about it."""
    call: Any = world.channel.stream_stream(
        "/dalsegno.v1.ExecutorService/Connect", response_deserializer=executor_service_pb2.ConnectResponse.FromString
    )()
    await call.write(b"\x2a\x03\x12\x01\xff")
    answer: Any = await call.read()
    assert answer.welcome.engine_id == "\0"
    await call.write(b"\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
