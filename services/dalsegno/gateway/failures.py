"""Refusals as errors of the Connect protocol, for calls and for requests that are no call."""

from __future__ import annotations

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from protobuf.wkt import Any

from dalsegno.gateway.contract import types

_CODES = {
    code.value[0]: Code(code.name.lower().replace("cancelled", "canceled")) for code in StatusCode if code.value[0]
}


def connect_error(status: Status) -> ConnectError:
    """Return a status as an error of the library, which shows its details also as JSON (`debug`)."""
    details = []
    for packed in status.details:
        detail = Any(type_url=packed.type_url, value=packed.value)
        known = types().message(packed.type_url.rpartition("/")[2])
        unpacked = detail.unpack(known) if known is not None else None
        details.append(ErrorDetail(detail if unpacked is None else unpacked))
    return ConnectError(code_of(status), status.message, details)


def code_of(status: Status) -> Code:
    """Return the code of a status, as the library knows it."""
    return _CODES.get(status.code, Code.UNKNOWN)
