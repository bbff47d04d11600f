"""Errors for clients: the status and the details of a failed call, and a text for people with all of them."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from dalsegno.v1 import failure_pb2


@dataclass(frozen=True, slots=True)
class ReceivedViolation:
    """One violation in an answer."""

    subject: str
    description: str
    kind: str = ""
    """The kind of an obstacle. It is text: a newer server may send a kind that this client does not know."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.description}" if self.subject else self.description


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a failed call."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    """A name of FailureReason without its prefix; empty if the server gives none."""
    violations: tuple[ReceivedViolation, ...] = ()
    problems: tuple[failure_pb2.Problem, ...] = ()
    left_out: int = 0
    """The number of violations or problems that the answer omits."""
    request_id: str = ""
    retry_s: float | None = None
    """The delay before a retry; None: it is unknown whether a retry helps."""
    was_not_begun: bool = False
    """Whether the server says that it has done nothing."""

    def __str__(self) -> str:
        lines = [self.message]
        lines += [_violation_line(violation) for violation in self.violations if str(violation) != self.message]
        lines += [_problem_line(problem) for problem in self.problems]
        if self.left_out:
            lines.append(f"  and {self.left_out} more")
        return "\n".join(lines)


def status_in(error: grpc.aio.AioRpcError) -> Status | None:
    """Return the status with details that the server of a failed call has sent. None when there is none, or when it is
    not that of the call: its connection was lost when the status had come, but not the end of the answer."""
    try:
        return rpc_status.from_call(error)  # type: ignore[arg-type, no-any-return]
    except (ValueError, DecodeError):
        return None


def read_failure(error: grpc.aio.AioRpcError) -> Failure:
    """Return the error of a failed call."""
    request_id = ""
    for key, value in error.trailing_metadata() or ():
        if key == "x-request-id":
            request_id = value if isinstance(value, str) else value.decode()
    violations: list[ReceivedViolation] = []
    problems: list[failure_pb2.Problem] = []
    info, retry, retry_s = ErrorInfo(), RetryInfo(), None
    status = status_in(error)
    for detail in status.details if status is not None else ():
        bad, obstacle, found = (
            BadRequest(),
            PreconditionFailure(),
            failure_pb2.Problems(),
        )
        if detail.Unpack(bad):
            violations += [ReceivedViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(obstacle):
            violations += [ReceivedViolation(v.subject, v.description, v.type) for v in obstacle.violations]
        elif detail.Unpack(found):
            problems += found.problems
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToMilliseconds() / 1000
        else:
            detail.Unpack(info)
    return Failure(
        code=error.code(),
        message=_message(error),
        reason=info.reason,
        violations=tuple(violations),
        problems=tuple(problems),
        left_out=int(info.metadata.get("left_out", "0")),
        request_id=request_id,
        retry_s=retry_s,
        was_not_begun=info.metadata.get("made", "") == "no",
    )


def describe(error: grpc.aio.AioRpcError) -> str:
    """Return the error as text for people: the message, then a line for each entry."""
    return str(read_failure(error))


def _message(error: grpc.aio.AioRpcError) -> str:
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in details:
        return f"the server cannot be reached: {details}"
    if error.code() is grpc.StatusCode.UNAVAILABLE and "C-ares" in details:
        return "the name of the server has no address"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and details == "Deadline Exceeded":
        return "the server did not answer in time"
    return details or str(error.code().name).lower().replace("_", " ")


def _violation_line(violation: ReceivedViolation) -> str:
    return "  " + str(violation).replace("\n", "\n  ")


def _problem_line(problem: failure_pb2.Problem) -> str:
    place = f"line {problem.line}" if problem.line else ""
    if problem.file:
        place = ":".join(str(each) for each in (problem.file, problem.line, problem.column) if each)
    where = ": ".join(part for part in (place, problem.path) if part)
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"  {where}: {problem.message}{hint}" if where else f"  {problem.message}{hint}"
