"""Environments and their expected revisions."""

from __future__ import annotations

import grpc
import pytest
from tests.unit.api.conftest import Front

from dalsegno.v1 import environment_service_pb2 as wire


async def put(front: Front, variables: str, expected_revision: int | None = None) -> wire.Environment:
    request = wire.PutEnvironmentRequest(name="stage", variables=variables, expected_revision=expected_revision)
    environment: wire.Environment = (await front.environments.PutEnvironment(request)).environment
    return environment


async def test_an_environment_that_must_be_new_replaces_none(front: Front) -> None:
    """An expected revision of 0 means that no environment has this name; without one any revision is replaced."""
    assert (await put(front, '{"a":1}', 0)).revision == 1
    for expected, said in ((0, "exists already, at revision 1"), (7, "at revision 1, not at 7")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await put(front, '{"a":2}', expected)
        assert refused.value.code() is grpc.StatusCode.ABORTED
        assert said in (refused.value.details() or "")
    assert (await put(front, '{"a":2}')).revision == 2
    assert (await put(front, '{"a":3}', 2)).variables == '{"a":3}'
