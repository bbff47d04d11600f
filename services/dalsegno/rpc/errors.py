"""Errors as gRPC statuses: the table from exceptions to status codes, and google.rpc.Status with all details.

Clients read them with `dalsegno.rpc.failure`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from dalsegno.rpc.failure import status_in
from dalsegno.v1 import failure_pb2, operation_pb2
from dalsegno.workflow import refusals as refusals  # also for services that do not import the core
from dalsegno.workflow.secrets import mask
from dalsegno.workflow.value import UnfitValue

DOMAIN = "dalsegno"
"""ErrorInfo.domain of every error."""

DETAILS_BYTES = 4_000
"""The maximum size of a google.rpc.Status for any client: many accept 8 KiB of metadata; base64 adds a third."""

OWN_DETAILS_BYTES = 128 * 1024
"""The maximum size for a client of rpc/channel.py, which accepts more."""

_MESSAGE_BYTES = 500

RETRY_S = 1.0
"""The delay of a retry if one of our servers cannot be reached."""

MADE = "made"
"""The key in ErrorInfo.metadata of UNAVAILABLE that says whether the write was made: `no`, or nothing is known."""

CODES: dict[type[BaseException], grpc.StatusCode] = {
    refusals.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    refusals.InvalidDefinition: grpc.StatusCode.INVALID_ARGUMENT,
    UnfitValue: grpc.StatusCode.INVALID_ARGUMENT,
    refusals.NotFound: grpc.StatusCode.NOT_FOUND,
    refusals.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    refusals.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    refusals.RevisionMoved: grpc.StatusCode.ABORTED,
    refusals.SupersededSession: grpc.StatusCode.ABORTED,
    refusals.RevisionAhead: grpc.StatusCode.OUT_OF_RANGE,
    refusals.ChangesDiscarded: grpc.StatusCode.OUT_OF_RANGE,
    refusals.NoSuchMethod: grpc.StatusCode.UNIMPLEMENTED,
    refusals.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    refusals.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    refusals.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    refusals.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    refusals.Unavailable: grpc.StatusCode.UNAVAILABLE,
    asyncio.TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The table. A subclass has its parent's code; any other exception is INTERNAL, a fault of the server."""

_UNEXPLAINED: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "UNAVAILABLE",
    grpc.StatusCode.CANCELLED: "UNAVAILABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "TOO_LARGE",
    grpc.StatusCode.UNIMPLEMENTED: "UNIMPLEMENTED",
}


class PassedOn(Exception):
    """A refusal of another of our servers, received in an answer: it is passed on unchanged."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


_CODES_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the status code of an exception, from the table.

    >>> code_of(refusals.NotFound("workflow", "nightly"))
    <StatusCode.NOT_FOUND: (5, 'not found')>
    >>> code_of(KeyError("oops"))
    <StatusCode.INTERNAL: (13, 'internal')>
    """
    if isinstance(error, grpc.aio.AioRpcError):
        code = error.code()
        return grpc.StatusCode.UNAVAILABLE if code is grpc.StatusCode.CANCELLED else code
    if isinstance(error, PassedOn):
        return _CODES_BY_NUMBER[error.status.code]
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def status_of(error: BaseException, request_id: str = "", details_bytes: int = DETAILS_BYTES) -> Status:
    """Return the google.rpc.Status of an exception, its details cut to `details_bytes`.

    An error of another of our servers is passed on unchanged. A fault of this server names only the request id; the log
    has the rest.
    """
    code = code_of(error)
    number: int = code.value[0]
    if isinstance(error, grpc.aio.AioRpcError):
        passed_on = status_in(error)
        if passed_on is not None:
            return _fitted(number, passed_on.message, *_unpacked(passed_on), details_bytes=details_bytes)
        reason = _UNEXPLAINED.get(code, "INTERNAL")
        details = [_retry_after(RETRY_S)] if reason == "UNAVAILABLE" else []
        return _fitted(number, error.details() or code.name, _info(reason), details, details_bytes=details_bytes)
    if isinstance(error, PassedOn):
        return _fitted(number, error.status.message, *_unpacked(error.status), details_bytes=details_bytes)
    if code is grpc.StatusCode.INTERNAL:
        info = _info("INTERNAL", {"request_id": request_id})
        message = f"internal error; the server's log has it under request id {request_id}"
        return _fitted(number, message, info, [], details_bytes=details_bytes)
    message = str(error) or code.name.lower().replace("_", " ")
    return _fitted(number, message, *_explained(error), details_bytes=details_bytes)


def _info(reason: str, metadata: dict[str, str] | None = None) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})


def _explained(error: BaseException) -> tuple[ErrorInfo, list[Message]]:
    """Return the kind of a refusal, and the details with its entries."""
    match error:
        case refusals.InvalidRequest(violations=violations):
            fields = [
                BadRequest.FieldViolation(field=_clean(v.subject), description=_clean(v.description))
                for v in violations
            ]
            return _info(error.reason), [BadRequest(field_violations=fields)]
        case refusals.Refused(violations=violations):
            obstacles = [
                PreconditionFailure.Violation(
                    type=v.kind or error.reason, subject=_clean(v.subject), description=_clean(v.description)
                )
                for v in violations
            ]
            return _info(error.reason), [PreconditionFailure(violations=obstacles)]
        case refusals.InvalidDefinition(problems=problems):
            return _info(error.reason), [failure_pb2.Problems(problems=map(problem_message, problems))]
        case refusals.AboutThing(kind=kind, name=name):
            thing = ResourceInfo(resource_type=kind, resource_name=_clean(name), description=_clean(str(error)))
            when = {"deleted_at": error.deleted_at} if isinstance(error, refusals.Deleted) else {}
            return _info(error.reason, when), [thing]
        case refusals.RevisionMoved() | refusals.RevisionAhead():
            moved = {"expected_revision": str(error.expected), "revision": str(error.actual)}
            return _info(error.reason, moved), []
        case refusals.ChangesDiscarded(first_sequence=first):
            return _info(error.reason, {"first_sequence": str(first)}), []
        case refusals.TooLarge():
            sizes = {"size_bytes": str(error.size_bytes), "limit_bytes": str(error.limit_bytes)}
            return _info(error.reason, {"subject": _clean(error.subject, 500), **sizes}), []
        case refusals.NotBegun():
            return _info(error.reason, {MADE: "no"}), [_retry_after(error.retry_s)]
        case refusals.Passing():
            return _info(error.reason), [_retry_after(error.retry_s)]
        case refusals.Refusal():
            return _info(error.reason), []
        case asyncio.TimeoutError():
            return _info("DEADLINE_EXCEEDED"), []
        case _:  # UnfitValue
            return _info("INVALID_REQUEST"), []


def _retry_after(delay_s: float) -> RetryInfo:
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(round(delay_s * 1000))
    return retry


def refusal_message(error: BaseException, request_id: str = "") -> operation_pb2.Refusal:
    """Return an exception as a Refusal message, for an outcome among others (an operation on many)."""
    status = status_of(error, request_id, OWN_DETAILS_BYTES)
    info, details = _unpacked(status)
    message = operation_pb2.Refusal(code=_CODES_BY_NUMBER[status.code].name, message=status.message)
    message.reason = failure_pb2.FailureReason.Value(f"FAILURE_REASON_{info.reason}")
    message.further_obstacles = int(info.metadata.get("left_out", "0"))
    for detail in details:
        if isinstance(detail, BadRequest):
            for field in detail.field_violations:
                message.obstacles.add(subject=field.field, description=field.description)
        elif isinstance(detail, PreconditionFailure):
            for each in detail.violations:
                message.obstacles.add(subject=each.subject, description=each.description, kind=each.type)
    return message


def problem_message(problem: refusals.Problem) -> failure_pb2.Problem:
    """Return the message of a definition's problem."""
    return failure_pb2.Problem(
        path=_clean(problem.path),
        line=problem.line,
        column=problem.column,
        message=_clean(problem.message),
        hint=_clean(problem.hint),
        category=_category(problem.category),
        file=_clean(problem.file),
    )


def _category(name: str) -> failure_pb2.ProblemCategory.ValueType:
    return failure_pb2.ProblemCategory.Value(f"PROBLEM_CATEGORY_{name.upper()}")


def _clean(text: str, bytes_max: int = 2_000) -> str:
    """Return the text without secrets and lone surrogates, which protobuf cannot carry, and cut to `bytes_max`."""
    encoded = mask(text).encode("utf-8", "backslashreplace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[:bytes_max].decode("utf-8", "ignore") + "…"


_KNOWN: tuple[type[Message], ...] = (
    BadRequest,
    PreconditionFailure,
    ResourceInfo,
    RetryInfo,
    failure_pb2.Problems,
)


def _unpacked(status: Status) -> tuple[ErrorInfo, list[Message]]:
    info = _info("INTERNAL")
    found: list[Message] = []
    for detail in status.details:
        detail.Unpack(info)
        for kind in _KNOWN:
            message = kind()
            if detail.Unpack(message):
                found.append(message)
    return info, found


def _fitted(
    code: int,
    message: str,
    info: ErrorInfo,
    details: Sequence[Message],
    *,
    details_bytes: int,
) -> Status:
    """Return a status of at most `details_bytes`: without the last entries, which are counted, and with texts cut."""
    own = details_bytes > DETAILS_BYTES
    status = Status(code=code, message=_clean(message, 8 * _MESSAGE_BYTES if own else _MESSAGE_BYTES))
    left_out, left_bytes = 0, details_bytes - status.ByteSize() - info.ByteSize() - _WRAPPING_BYTES
    fitted = []
    for detail in details:
        left_out += _shorten(detail, left_bytes - _WRAPPING_BYTES)
        left_bytes -= detail.ByteSize() + _WRAPPING_BYTES
        fitted.append(detail)
    if left_out:
        info.metadata["left_out"] = str(left_out + int(info.metadata.get("left_out", "0")))
    for detail in (info, *fitted):
        status.details.add().Pack(detail)
    return status


_WRAPPING_BYTES = 100
"""The size of a detail beside its content: the name of its type, its length, the count of omitted entries."""


def _shorten(detail: Message, bytes_max: int) -> int:
    """Remove entries from the end until the rest has at most `bytes_max`, and cut the texts of what remains; return how
    many were removed."""
    if detail.ByteSize() <= bytes_max:
        return 0
    entries = _entries(detail)
    if entries is None:
        _cut_texts(detail, bytes_max // 3)
        return 0
    kept, size = 0, 0
    for entry in entries:
        size += entry.ByteSize() + 4
        if size > bytes_max:
            break
        kept += 1
    if not kept:
        kept = 1
        _cut_texts(entries[0], bytes_max // 4)
    dropped = len(entries) - kept
    del entries[kept:]  # type: ignore[attr-defined]
    return dropped


def _cut_texts(message: Message, bytes_max: int) -> None:
    """Cut each text of a message to `bytes_max` bytes."""
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, _clean(value, bytes_max))


def _entries(detail: Message) -> Sequence[Message] | None:
    match detail:
        case BadRequest():
            return detail.field_violations
        case PreconditionFailure():
            return detail.violations
        case failure_pb2.Problems():
            return detail.problems
        case _:
            return None


def trailing_metadata(status: Status, more: Iterable[tuple[str, str]] = ()) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata with the details of a status, and with `more`."""
    details = rpc_status.to_status(status).trailing_metadata
    return (*(details or ()), *more)
