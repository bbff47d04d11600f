"""The errors of refused calls."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, ResourceInfo
from grpc_status import rpc_status

from dalsegno.rpc.failure import Failure, read_failure


async def refused(call: Awaitable[object], code: grpc.StatusCode, reason: str) -> Failure:
    """Return the error of a call, which has this code and an ErrorInfo of this reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    failure = read_failure(caught.value)
    assert (failure.code, failure.reason) == (code, reason), str(failure)
    assert failure.request_id
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.domain == "dalsegno"
    return failure


async def invalid(call: Awaitable[object], *fields: str, reason: str = "INVALID_REQUEST") -> Failure:
    """Check that a call is refused with INVALID_ARGUMENT and a BadRequest that names exactly these fields."""
    failure = await refused(call, grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert sorted(violation.subject for violation in failure.violations) == sorted(fields), str(failure)
    return failure


async def not_found(call: Awaitable[object], name: str) -> None:
    """Check that a call is refused with NOT_FOUND and a ResourceInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND, caught.value.details()
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None
    thing = ResourceInfo()
    assert any(detail.Unpack(thing) for detail in status.details)
    assert thing.resource_name == name


async def first_of(stream: Any) -> Any:
    """Return the first message of a stream and leave the stream."""
    async for message in stream:
        stream.cancel()
        return message
    raise AssertionError("the stream ended without a message")
