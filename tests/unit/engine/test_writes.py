"""Every write that api may hand over has its operation, its request and its response."""

from __future__ import annotations

import pytest

from dalsegno.engine.desk.writes import writes
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.tokens import new_key
from dalsegno.v1 import engine_service_pb2 as wire

WRITES = writes(Callbacks(new_key()))


def test_every_write_of_the_contract_has_an_operation() -> None:
    """The engine takes exactly the writes that the proto names."""
    assert WRITES.keys() == {each.name for each in wire.SubmitRequest.DESCRIPTOR.oneofs_by_name["write"].fields}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_reads_its_request_and_fills_its_response(name: str) -> None:
    """The fields have the name of the write, so that a request is never taken for another kind."""
    request, response = wire.SubmitRequest(), wire.SubmitResponse()
    WRITES[name].request_of(request).SetInParent()
    WRITES[name].response_of(response).SetInParent()
    assert request.WhichOneof("write") == name
    assert response.WhichOneof("answer") == name
