"""Refusals become statuses, and statuses become refusals again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from dalsegno.definitions.problems import Problem
from dalsegno.rpc import errors
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import ReceivedViolation, describe, read_failure, status_in
from dalsegno.v1 import engine_service_pb2, engine_service_pb2_grpc, failure_pb2
from dalsegno.workflow import refusals
from dalsegno.workflow.refusals import Obstacle, Violation
from dalsegno.workflow.value import UnfitValue

if TYPE_CHECKING:
    from tests.unit.rpc.conftest import World

CODE = grpc.StatusCode
ROOT = Path(__file__).resolve().parents[3]
PROBLEM = Problem("wf.tasks.a.action", 7, 5, "no such action 'std.ehco'", "std.echo", "content")

EVERY_REFUSAL = [
    (refusals.InvalidRequest.of("input", "is missing"), CODE.INVALID_ARGUMENT),
    (refusals.InvalidPageToken.of("page_token", "is not one of ours"), CODE.INVALID_ARGUMENT),
    (refusals.InvalidResumeToken.of("resume_token", "is not one of ours"), CODE.INVALID_ARGUMENT),
    (refusals.InvalidDefinition([PROBLEM]), CODE.INVALID_ARGUMENT),
    (refusals.Refused.of("execution e", "is PAUSED"), CODE.FAILED_PRECONDITION),
    (refusals.NoSuchCheckpoint.of("checkpoint c", "is no checkpoint of the workflow"), CODE.FAILED_PRECONDITION),
    (refusals.Undone.of("entry 5", "does not stand"), CODE.FAILED_PRECONDITION),
    (refusals.ParentWentOn.of("task call", "has ended"), CODE.FAILED_PRECONDITION),
    (refusals.Unreachable.of("checkpoint c", "cannot be reached"), CODE.FAILED_PRECONDITION),
    (refusals.HistoryDiscarded.of("entry 5", "was discarded"), CODE.FAILED_PRECONDITION),
    (refusals.NotFound("execution", "e"), CODE.NOT_FOUND),
    (refusals.Deleted("execution", "e", 1_700_000_000.5), CODE.NOT_FOUND),
    (refusals.AlreadyExists("execution", "e"), CODE.ALREADY_EXISTS),
    (refusals.RequestIdReused("r"), CODE.ALREADY_EXISTS),
    (refusals.RevisionMoved("execution", "e", 3, 4), CODE.ABORTED),
    (refusals.SupersededSession("a newer session"), CODE.ABORTED),
    (refusals.SupersededStream("a newer stream"), CODE.ABORTED),
    (refusals.RevisionAhead("execution", "e", 30, 4), CODE.OUT_OF_RANGE),
    (refusals.ChangesDiscarded("e", 30), CODE.OUT_OF_RANGE),
    (refusals.NoSuchMethod("there is no method /a/B"), CODE.UNIMPLEMENTED),
    (refusals.TooLarge("input", 5_000_000, 4 * 1024 * 1024), CODE.RESOURCE_EXHAUSTED),
    (refusals.Overloaded("try later"), CODE.RESOURCE_EXHAUSTED),
    (refusals.Unavailable("no engine"), CODE.UNAVAILABLE),
    (refusals.NotBegun("the engine is stopping"), CODE.UNAVAILABLE),
    (refusals.PermissionDenied("the token is not genuine"), CODE.PERMISSION_DENIED),
    (refusals.Unauthenticated("the token is unknown"), CODE.UNAUTHENTICATED),
    (refusals.SignatureMissing("the callback is not signed"), CODE.PERMISSION_DENIED),
    (refusals.SignatureInvalid("the signature is not genuine"), CODE.PERMISSION_DENIED),
]

ABSTRACT = (refusals.WithViolations, refusals.AboutThing, refusals.Passing)
"""What several kinds have in common."""


@pytest.mark.parametrize(("refusal", "code"), EVERY_REFUSAL, ids=lambda value: type(value).__name__)
async def test_a_refusal_arrives_as_it_was_raised(
    world: World, refusal: refusals.Refusal, code: grpc.StatusCode
) -> None:
    """Each kind of refusal has its status code, its reason of the contract and its text at the client."""
    world.refuse_with(refusal)

    failure = read_failure(await world.failed_submit())

    assert failure.code is code
    assert failure.reason == refusal.reason
    assert failure.message == str(refusal)
    assert failure_pb2.FailureReason.Value(f"FAILURE_REASON_{refusal.reason}") > 0


def test_every_refusal_is_in_the_table() -> None:
    """The table has every kind of refusal: none ends as INTERNAL."""
    tested = {type(refusal) for refusal, _ in EVERY_REFUSAL}
    pending = list(refusals.Refusal.__subclasses__())
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        is_raised = kind.__module__ == refusals.__name__ and kind not in ABSTRACT
        assert not is_raised or kind in tested


@pytest.mark.parametrize("kind", [refusals.Unavailable, refusals.Overloaded])
async def test_what_passes_says_when_to_ask_again(world: World, kind: type[refusals.Passing]) -> None:
    """A temporary refusal has a delay, also when another of our servers passes it on; other refusals have none."""
    world.refuse_with(kind("later", retry_s=2.5))
    error = await world.failed_submit()
    assert read_failure(error).retry_s == 2.5
    world.refuse_with(error)
    assert read_failure(await world.failed_submit()).retry_s == 2.5
    world.refuse_with(refusals.NotFound("execution", "e"))
    assert read_failure(await world.failed_submit()).retry_s is None


async def test_a_server_that_cannot_be_reached_may_be_asked_again(world: World) -> None:
    """grpc's own error about a missing server is passed on with a delay."""
    async with open_channel("127.0.0.1:1") as channel:
        call: Any = channel.unary_unary("/x/y")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    world.refuse_with(caught.value)
    failure = read_failure(await world.failed_submit())
    assert (failure.code, failure.retry_s) == (CODE.UNAVAILABLE, 1.0)


@pytest.mark.parametrize(
    "details", [Status(code=5, message="gone").SerializeToString(), b"\xff"], ids=["of another", "of none"]
)
async def test_details_of_another_status_are_none(world: World, details: bytes) -> None:
    """A connection can be lost when an answer has come but for its end: then the call is UNAVAILABLE, with the details
    of the answer, which do not count."""
    nothing = grpc.aio.Metadata()
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", details))
    lost = grpc.aio.AioRpcError(CODE.UNAVAILABLE, nothing, trailing, "Socket closed")

    assert status_in(lost) is None
    assert read_failure(lost).message == "Socket closed"
    world.refuse_with(lost)
    failure = read_failure(await world.failed_submit())
    assert (failure.code, failure.reason, failure.retry_s) == (CODE.UNAVAILABLE, "UNAVAILABLE", 1.0)


async def test_a_deletion_arrives_with_its_time(world: World) -> None:
    """The details hold the time of a deletion."""
    world.refuse_with(refusals.Deleted("execution", "e", 1_700_000_000.5))
    error = await world.failed_submit()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata["deleted_at"] == "2023-11-14T22:13:20.500+00:00"
    assert error.details() == "execution 'e' was deleted at 2023-11-14T22:13:20.500+00:00"


def received(violations: Sequence[Violation]) -> tuple[ReceivedViolation, ...]:
    """Return them as a client sees them."""
    return tuple(ReceivedViolation(each.subject, each.description, each.kind) for each in violations)


async def test_all_violations_arrive(world: World) -> None:
    """A refusal has all violations, in the order in which they were found."""
    violations = [Violation(f"input.field_{number}", "is missing") for number in range(20)]
    world.refuse_with(refusals.InvalidRequest(violations))

    failure = read_failure(await world.failed_submit())

    assert failure.violations == received(violations)
    assert failure.left_out == 0


async def test_obstacles_arrive_with_their_kinds(world: World) -> None:
    """FAILED_PRECONDITION has the kind of each obstacle (R4)."""
    violations = [
        Violation("task fetch", "has failed", Obstacle.TASK_FAILED),
        Violation("execution e", "is PAUSED", Obstacle.STATE),
    ]
    world.refuse_with(refusals.Refused(violations, "the execution cannot be resumed"))

    error = await world.failed_submit()

    assert read_failure(error).violations == received(violations)
    assert describe(error) == "the execution cannot be resumed\n  task fetch: has failed\n  execution e: is PAUSED"


async def test_problems_arrive_with_their_lines(world: World) -> None:
    """The problems of a definition have path, line, column, hint and category, and are readable as text."""
    world.refuse_with(refusals.InvalidDefinition([PROBLEM, Problem("", 0, 0, "is empty")]))

    error = await world.failed_submit()

    first = read_failure(error).problems[0]
    assert (first.path, first.line, first.column) == ("wf.tasks.a.action", 7, 5)
    assert first.category == failure_pb2.PROBLEM_CATEGORY_CONTENT
    assert describe(error).splitlines()[1:] == [
        "  line 7: wf.tasks.a.action: no such action 'std.ehco' (std.echo)",
        "  is empty",
    ]


async def test_a_thousand_violations_reach_our_own_client(world: World) -> None:
    """Our clients accept a large answer: no violation is left out."""
    violations = [Violation(f"items[{number}]", "is not an index of the list") for number in range(1000)]
    world.refuse_with(refusals.InvalidRequest(violations))

    failure = read_failure(await world.failed_submit())

    assert len(failure.violations) == 1000


async def test_any_client_can_read_a_long_refusal(world: World) -> None:
    """A client with grpc's own limits gets the violations that fit, and the count of the others."""
    violations = [Violation(f"items[{number}]", "è non è un indice") for number in range(1000)]
    world.refuse_with(refusals.InvalidRequest(violations))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:
        stub: Any = engine_service_pb2_grpc.EngineServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Submit(engine_service_pb2.SubmitRequest())

    failure = read_failure(caught.value)
    assert failure.code is CODE.INVALID_ARGUMENT
    assert failure.violations[:1] == received(violations[:1])
    assert len(failure.violations) + failure.left_out == 1000
    assert failure.left_out > 0
    assert f"and {failure.left_out} more" in describe(caught.value)


LONG = "l\u00f6ng " * 5_000
PROBLEMS = [Problem(LONG, 7, 5, LONG, LONG, "content")] * 3
HUGE_REFUSALS = [
    refusals.InvalidRequest([Violation(LONG, LONG)] * 3),
    refusals.InvalidRequest([Violation("a", "is missing"), Violation(LONG, LONG)]),
    refusals.InvalidDefinition(PROBLEMS),
    refusals.Refused([Violation(LONG, LONG, Obstacle.STATE)] * 3),
    refusals.NotFound(LONG, LONG),
    refusals.Deleted("execution", LONG, 1_700_000_000.5),
    refusals.TooLarge(LONG, 5, 4),
    refusals.RevisionMoved("execution", LONG, 3, 4),
    refusals.Overloaded(LONG),
]


@pytest.mark.parametrize("refusal", HUGE_REFUSALS, ids=lambda refusal: type(refusal).__name__)
def test_what_any_client_gets_is_below_4000_bytes(refusal: refusals.Refusal) -> None:
    """A status is small however long its texts are, keeps its ErrorInfo and names at least one entry."""
    status = errors.status_of(refusal)
    assert status.ByteSize() <= 4_000
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == refusal.reason
    bare = isinstance(refusal, refusals.TooLarge | refusals.RevisionMoved)
    assert len(status.details) == (1 if bare else 2)
    assert bare or len(status.details[1].value) > 1


def test_reasons_and_metadata_keys_stand_in_one_place() -> None:
    """failure.proto lists every key that an ErrorInfo may have, and no other."""
    written = (ROOT / "protos/dalsegno/v1/failure.proto").read_text()
    listed = set(re.findall(r"^//   ([a-z_]+)  ", written, re.MULTILINE))
    used: set[str] = set()
    for refusal in (*(each for each, _ in EVERY_REFUSAL), *HUGE_REFUSALS, KeyError("a fault")):
        info = ErrorInfo()
        assert errors.status_of(refusal, "r").details[0].Unpack(info)
        used |= set(info.metadata)
    assert listed == used


async def test_overload_is_told_apart_from_what_is_too_large(world: World) -> None:
    """Both are RESOURCE_EXHAUSTED: the reason differs, and only overload has a delay."""
    world.refuse_with(refusals.Overloaded("9,000 events wait", 3.0))
    busy = read_failure(await world.failed_submit())
    world.refuse_with(refusals.TooLarge("input", 5, 4))
    large = read_failure(await world.failed_submit())
    assert (busy.code, busy.reason, busy.retry_s) == (CODE.RESOURCE_EXHAUSTED, "OVERLOADED", 3.0)
    assert (large.code, large.reason, large.retry_s) == (CODE.RESOURCE_EXHAUSTED, "TOO_LARGE", None)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x7f", b"\x0b", b"\x12\x10a", b"\x08" + b"\xff" * 12])
@pytest.mark.parametrize("method", ["EngineService/Submit", "EngineService/Follow", "ExecutorService/Connect"])
async def test_bytes_that_are_no_message_are_the_callers_mistake(
    world: World, caplog: pytest.LogCaptureFixture, method: str, data: bytes
) -> None:
    """They are INVALID_ARGUMENT with our text, on unary calls and streams, and no fault in the log."""
    channel: Any = world.channel
    if method.startswith("Executor"):
        call = channel.stream_stream(f"/dalsegno.v1.{method}")(iter([data]))
    else:
        call = channel.unary_stream(f"/dalsegno.v1.{method}")(data)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    failure = read_failure(caught.value)
    assert (failure.code, failure.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "the bytes are not a dalsegno.v1." in failure.message
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


@pytest.mark.parametrize("method", ["/dalsegno.v1.EngineService/Nothing", "/no.such/Service", "/x"])
async def test_a_method_that_is_not_there_is_refused_with_details(world: World, method: str) -> None:
    """UNIMPLEMENTED has an ErrorInfo like every other error, for all four kinds of calls."""
    channel: Any = world.channel
    calls: list[Any] = [
        channel.unary_unary(method)(b""),
        channel.stream_unary(method)(),
        aiter(channel.unary_stream(method)(b"")).__anext__(),
        channel.stream_stream(method)().read(),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        failure = read_failure(caught.value)
        assert (failure.code, failure.reason) == (CODE.UNIMPLEMENTED, "UNIMPLEMENTED")
        assert f"there is no method {method}" in failure.message


async def test_text_that_utf8_cannot_carry_is_escaped(world: World) -> None:
    """A lone surrogate in a name does not turn a refusal into a fault."""
    world.refuse_with(refusals.NotFound("workflow", "a\ud800b"))

    failure = read_failure(await world.failed_submit())

    assert failure.code is CODE.NOT_FOUND
    assert "\\ud800" in failure.message


async def test_an_error_of_another_server_is_passed_on(world: World) -> None:
    """The api refuses with the code, text and violations of the engine."""
    violations = [Violation("input.count", "is missing"), Violation("input.size", "is missing")]
    world.refuse_with(refusals.InvalidRequest(violations, "two are missing"))
    from_engine = await world.failed_submit()
    world.refuse_with(from_engine)

    failure = read_failure(await world.failed_submit())

    assert failure.code is CODE.INVALID_ARGUMENT
    assert failure.reason == "INVALID_REQUEST"
    assert failure.message == "two are missing"
    assert failure.violations == received(violations)


def test_a_lost_server_is_unavailable() -> None:
    """An error that grpc makes about another server is explained by its code."""
    metadata = grpc.aio.Metadata()
    lost = grpc.aio.AioRpcError(CODE.UNAVAILABLE, metadata, metadata, details="failed to connect to all addresses")

    assert errors.status_of(lost).code == CODE.UNAVAILABLE.value[0]
    assert "cannot be reached" in describe(lost)


def test_an_unfit_value_is_the_callers_mistake() -> None:
    """JSON that cannot be carried is INVALID_ARGUMENT at every place."""
    assert errors.code_of(UnfitValue("$.a: NaN is not JSON")) is CODE.INVALID_ARGUMENT


def test_a_refusal_without_violations_cannot_be_made() -> None:
    """A refusal without a violation raises ValueError."""
    with pytest.raises(ValueError, match="at least one"):
        refusals.InvalidRequest([])


def test_the_trailing_metadata_holds_a_status_that_any_language_reads() -> None:
    """The details are google.rpc.Status in the usual place."""
    status = errors.status_of(refusals.NotFound("execution", "e"))

    metadata = dict(errors.trailing_metadata(status, [("x-request-id", "r")]))

    assert metadata["grpc-status-details-bin"] == status.SerializeToString()
    assert metadata["x-request-id"] == "r"
    assert rpc_status.to_status(status).code is CODE.NOT_FOUND


def test_a_problem_without_a_path_has_a_plain_message() -> None:
    """The message about a whole document has no empty place between colons."""
    told = str(refusals.InvalidDefinition([Problem("", 1, 1, "`version` is missing")]))
    assert told == "the definition is not valid: line 1: `version` is missing"
