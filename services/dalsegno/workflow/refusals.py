"""Refusals: why a request is not carried out. One exception for each thing that a caller can act on.

Every package may raise them; `dalsegno.rpc.errors` is the one table that turns them into status codes. A refusal names
everything that is missing or wrong, not only the first thing. Code that raises one has changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol


class Obstacle(StrEnum):
    """The kind of an obstacle to a request, for programs."""

    NONE = ""
    """It is no obstacle: a field of the request is wrong."""
    STATE = "STATE"
    """Something is not in the state that the request needs."""
    TASK_FAILED = "TASK_FAILED"
    TASK_UNKNOWN = "TASK_UNKNOWN"
    NOT_EXECUTED = "NOT_EXECUTED"
    """The task has never run."""
    ALIAS = "ALIAS"
    """More than one action waits under the alias."""
    NOT_AT_REST = "NOT_AT_REST"
    HAS_PARENT = "HAS_PARENT"
    DISCARDED = "DISCARDED"
    """It needs history that was discarded."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request, or an obstacle to it.

    >>> str(Violation("input.count", "is missing"))
    'input.count: is missing'
    """

    subject: str
    """The field of the request (`input.count`), or what is not in the needed state (`task fetch`)."""
    description: str
    kind: Obstacle = Obstacle.NONE
    """Only for Refused."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.description}" if self.subject else self.description


class Problem(Protocol):
    """What a refusal needs to know of a problem in a definition."""

    @property
    def path(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def file(self) -> str: ...


class Refusal(Exception):
    """The base of all refusals; raise one of the kinds below."""

    reason = "REFUSED"
    """The name in FailureReason of the contract, without its prefix."""


class WithViolations(Refusal):
    """A refusal with a list of violations."""

    def __init__(self, violations: Sequence[Violation], message: str = "") -> None:
        if not violations:
            raise ValueError("a refusal names at least one violation")
        self.violations = tuple(violations)
        super().__init__(message or "; ".join(map(str, self.violations)))


class InvalidRequest(WithViolations):
    """Fields of the request are missing or wrong: repeating the request never helps (R16, R14)."""

    reason = "INVALID_REQUEST"

    @classmethod
    def of(cls, field: str, description: str) -> InvalidRequest:
        """Return the refusal of one field."""
        return cls([Violation(field, description)])


class InvalidPageToken(InvalidRequest):
    """The page token was not made for this list."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidResumeToken(InvalidRequest):
    """The resume token was not made for this stream."""

    reason = "INVALID_RESUME_TOKEN"


class InvalidDefinition(Refusal):
    """A definition has problems. They are listed in the order of their lines."""

    reason = "INVALID_DEFINITION"

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("an invalid definition has at least one problem")
        self.problems = tuple(problems)
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        where = f"line {first.line}: {first.path}" if first.path else f"line {first.line}"
        super().__init__(f"the definition is not valid: {where}: {first.message}{more}")


class Refused(WithViolations):
    """The request is not possible in the present state: R3, R4, R26, O1, O19, O30, O31."""

    reason = "REFUSED"

    @classmethod
    def of(cls, subject: str, description: str, kind: Obstacle = Obstacle.STATE) -> Refused:
        """Return the refusal for one obstacle."""
        return cls([Violation(subject, description, kind)])


class NoSuchCheckpoint(Refused):
    """The workflow has no checkpoint of that name, or the execution no entry with that sequence (C31)."""

    reason = "NO_SUCH_CHECKPOINT"


class Unreachable(Refused):
    """Nothing that is open leads to the checkpoint, nor from any entry that stands (C31, decision 20)."""

    reason = "UNREACHABLE"


class Undone(Refused):
    """The entry does not stand: the execution has gone back, or is going back, to an entry before it (decision 23)."""

    reason = "UNDONE"


class ParentWentOn(Refused):
    """The execution is a sub-workflow, and the task of its parent that runs it has ended (decision 23)."""

    reason = "PARENT_WENT_ON"


class HistoryDiscarded(Refused):
    """The request needs history that was discarded (decision 10, C31)."""

    reason = "HISTORY_DISCARDED"


class AboutThing(Refusal):
    """A refusal about one named thing."""

    saying = ""

    def __init__(self, kind: str, name: str, message: str = "") -> None:
        self.kind = kind
        self.name = name
        super().__init__(message or f"{kind} {name!r} {self.saying}")


class NotFound(AboutThing):
    """What the request names does not exist: `NotFound("execution", id)` (P25)."""

    reason = "NOT_FOUND"
    saying = "does not exist"


class Deleted(NotFound):
    """What a repeated request was about was deleted (seconds since 1970); something else may have its name now."""

    def __init__(self, kind: str, name: str, deleted_s: float) -> None:
        self.deleted_at = datetime.fromtimestamp(deleted_s, UTC).isoformat(timespec="milliseconds")
        super().__init__(kind, name, f"{kind} {name!r} was deleted at {self.deleted_at}")


class AlreadyExists(AboutThing):
    """The name or id exists already."""

    reason = "ALREADY_EXISTS"
    saying = "exists already"


class RequestIdReused(AlreadyExists):
    """The request id was used before with another body."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__("request", request_id, f"request id {request_id!r} was used before for another request")


class RevisionMoved(Refusal):
    """The revision is not the one that the caller expected."""

    reason = "REVISION_MOVED"

    def __init__(self, kind: str, name: str, expected: int, actual: int) -> None:
        self.kind, self.name, self.expected, self.actual = kind, name, expected, actual
        if expected:
            super().__init__(f"{kind} {name!r} is at revision {actual}, not at {expected}: read it again")
        else:
            super().__init__(f"{kind} {name!r} exists already, at revision {actual}")


class RevisionAhead(Refusal):
    """A resume token is for a later revision than there is: the store was restored from a backup."""

    reason = "REVISION_AHEAD"

    def __init__(self, kind: str, name: str, expected: int, actual: int) -> None:
        self.kind, self.name, self.expected, self.actual = kind, name, expected, actual
        super().__init__(
            f"{kind} {name!r} is at revision {actual}, before the {expected} of the resume token: what was between "
            "is lost (a backup was restored); start again without a token"
        )


class ChangesDiscarded(Refusal):
    """The changes that are to be listed were discarded (decision 24)."""

    reason = "HISTORY_DISCARDED"

    def __init__(self, execution_id: str, first_sequence: int) -> None:
        self.first_sequence = first_sequence
        super().__init__(
            f"changes of execution {execution_id!r} were discarded: the first one that there is has the sequence "
            f"number {first_sequence}; list from there (after_sequence 0)"
        )


class NoSuchMethod(Refusal):
    """The method does not exist on this server."""

    reason = "UNIMPLEMENTED"


class TooLarge(Refusal):
    """A message, a value or an execution is larger than its limit; sizes in bytes."""

    reason = "TOO_LARGE"

    def __init__(self, subject: str, size_bytes: int, limit_bytes: int) -> None:
        self.subject, self.size_bytes, self.limit_bytes = subject, size_bytes, limit_bytes
        limit = f"{limit_bytes // 1048576} MiB" if limit_bytes % 1048576 == 0 else f"{limit_bytes:,} bytes"
        super().__init__(f"{subject} has {size_bytes} bytes; the limit is {limit}")


class Passing(Refusal):
    """A temporary refusal: repeat the request after `retry_s` seconds or later."""

    def __init__(self, message: str, retry_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class Overloaded(Passing):
    """The server has as many requests as it accepts."""

    reason = "OVERLOADED"


class Unavailable(Passing):
    """Something that is needed cannot be reached."""

    reason = "UNAVAILABLE"


class NotBegun(Unavailable):
    """Something that is needed cannot be reached, and nothing was done: whoever asks may ask somebody else."""


class PermissionDenied(Refusal):
    """The caller may not do this, or a token is not valid."""

    reason = "PERMISSION_DENIED"


class Unauthenticated(Refusal):
    """It is not known who calls: there is no token, or one that is not valid."""

    reason = "UNAUTHENTICATED"


class SignatureMissing(PermissionDenied):
    """The action has asked for signed callbacks, and this one is not signed as it asked."""

    reason = "SIGNATURE_MISSING"


class SignatureInvalid(PermissionDenied):
    """The signature of a callback is not genuine, or too old."""

    reason = "SIGNATURE_INVALID"


class SupersededSession(Refusal):
    """A newer session of the same executor has replaced this one."""

    reason = "SESSION_SUPERSEDED"


class SupersededStream(SupersededSession):
    """A newer stream of the same session to the same engine has replaced this one."""

    reason = "STREAM_SUPERSEDED"
