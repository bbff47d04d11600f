"""Failures of calls: what a workflow reads of them, and whether the call may be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from dalsegno.actions.grpc_calls.conversion import message_to_json
from dalsegno.actions.grpc_calls.metadata import Entry, metadata_to_json

DETAILS_KEY = "grpc-status-details-bin"
RETRY_INFO = error_details_pb2.RetryInfo.DESCRIPTOR.full_name
REFUSED_BEFORE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
"""With a RetryInfo these codes say that the service has refused the call, and when it may come again."""


@dataclass(eq=False)
class CallFailed(Exception):
    """A call that has failed."""

    code: str
    """The name of the status code."""
    message: str
    sent: bool = False
    """Whether the service may have carried out the call; False if it certainly has not."""
    details: tuple[object, ...] = ()
    """The details of google.rpc.Status, as JSON."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """The trailing metadata, as JSON."""
    unknown_types: set[str] = field(default_factory=set)
    """The types of the details that nobody has described: these are shown as bytes."""
    retry_delay_s: float | None = None
    """The time after which the service wants the call again; None: it says nothing about that."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def may_repeat(self, is_harmless: bool, asked: Iterable[str]) -> bool:
        """Return whether the call may be repeated.

        `is_harmless`: it may be carried out twice. `asked`: the codes for which the workflow asks for repetition.
        """
        if self.code in asked:
            return True
        if self.code == "UNAVAILABLE":
            return is_harmless or not self.sent
        return self.code in REFUSED_BEFORE and self.retry_delay_s is not None


def invalid(message: str) -> CallFailed:
    """Return the failure for an input that cannot be sent."""
    return CallFailed("INVALID_ARGUMENT", message)


def check_codes(names: Iterable[str]) -> frozenset[str]:
    """Return names of status codes. Raises CallFailed for one that does not exist, with those that do."""
    if isinstance(names, str):
        raise invalid("retry_codes: must be a list of names of status codes")
    known = [each.name for each in grpc.StatusCode if each is not grpc.StatusCode.OK]
    if unknown := [str(each) for each in names if each not in known]:
        raise invalid(f"retry_codes: {', '.join(unknown)}: must be among {', '.join(known)}")
    return frozenset(names)


def read_failure(error: grpc.aio.AioRpcError, pool: DescriptorPool, sent: bool) -> CallFailed:
    """Return the failure of a call that ended with this error. `pool`: the types of the service."""
    trailing: list[Entry] = list(error.trailing_metadata() or ())
    status = _read_status(trailing)
    details: list[object] = []
    unknown: set[str] = set()
    retry_delay_s = None
    for each in status.details:
        found, missing = message_to_json(each, pool)
        if missing:
            found, missing = message_to_json(each, descriptor_pool.Default())
        details.append(found)
        unknown |= missing
        if each.type_url.rpartition("/")[2] == RETRY_INFO:
            retry_delay_s = _read_delay(each.value)
    code = error.code().name
    # Refused by the service with the time to come again: it has not carried out the call.
    refused = code in REFUSED_BEFORE and retry_delay_s is not None
    return CallFailed(
        code,
        error.details() or "",
        sent=sent and not refused,
        details=tuple(details),
        metadata=metadata_to_json((key, value) for key, value in trailing if key != DETAILS_KEY),
        unknown_types=unknown,
        retry_delay_s=retry_delay_s,
    )


def _read_status(trailing: Iterable[Entry]) -> status_pb2.Status:
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break  # a service that does not follow the convention: its code and message are readable all the same
    return status_pb2.Status()


def _read_delay(value: bytes) -> float | None:
    try:
        return max(0.0, error_details_pb2.RetryInfo.FromString(value).retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, OverflowError):
        return None
