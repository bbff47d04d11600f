"""ReadValue returns values of any size in pieces, and refuses wrong names."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from tests.unit.api.conftest import Front

from dalsegno.api.values import PIECE_BYTES, pieces
from dalsegno.v1 import environment_service_pb2
from dalsegno.v1 import execution_service_pb2 as wire

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
TEXT = """
version: '2.0'
one:
  input: [word]
  tasks:
    say: {action: std.echo output=<% $.word %>}
"""


async def refused(answer: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value.code(), caught.value.details() or ""


async def test_a_value_comes_in_pieces_that_make_its_text(front: Front) -> None:
    """3,000,000 bytes of text come in pieces of at most 1 MiB, which together are the text."""
    await front.define(TEXT)
    given = json.dumps({"word": "ä" * 1_500_000}, ensure_ascii=False, separators=(",", ":"))
    started = await front.start("one", input=given)

    stream = front.executions.ReadValue(wire.ReadValueRequest(execution_id=started.id, field="input"))
    messages = [message async for message in stream]

    assert "".join(message.piece for message in messages) == given
    assert {message.size_bytes for message in messages} == {len(given.encode())}
    assert len(messages) == 3
    assert max(len(message.piece.encode()) for message in messages) <= PIECE_BYTES


async def test_every_kind_of_resource_has_its_values(front: Front) -> None:
    """The values of executions, tasks, action executions, definitions and environments are read in the same way."""
    defined = await front.define(TEXT)
    started = await front.start("one", input='{"word":"hi"}')
    await front.environments.PutEnvironment(
        environment_service_pb2.PutEnvironmentRequest(namespace="shop", name="stage", variables='{"a": 1}')
    )

    assert await front.value(execution_id=started.id, field="input") == '{"word":"hi"}'
    assert await front.value(execution_id=started.id, field="output") == ""
    assert await front.value(task_execution_id=f"{started.id}.1", field="published") == "{}"
    assert await front.value(task_execution_id=f"{started.id}.1", field="result") == ""
    assert await front.value(action_execution_id=f"{started.id}.1.0.1", field="input") == '{"output":"hi"}'
    definition_id = defined.workflows[0].definition_id
    assert await front.value(definition_id=definition_id, field="text") == TEXT
    assert json.loads(await front.value(definition_id=definition_id, field="parameters"))[0]["name"] == "word"
    stage = wire.ReadValueRequest.EnvironmentName(namespace="shop", name="stage")
    assert await front.value(environment=stage, field="variables") == '{"a": 1}'


@pytest.mark.parametrize(
    ("request_fields", "code", "said"),
    [
        ({"field": "input"}, grpc.StatusCode.INVALID_ARGUMENT, "resource: is missing"),
        ({"execution_id": "x", "field": "result"}, grpc.StatusCode.INVALID_ARGUMENT, "must be one of input, output"),
        ({"execution_id": UNKNOWN, "field": "input"}, grpc.StatusCode.NOT_FOUND, UNKNOWN),
        ({"task_execution_id": f"{UNKNOWN}.1", "field": "result"}, grpc.StatusCode.NOT_FOUND, "task execution"),
        ({"action_execution_id": f"{UNKNOWN}.1.0.1", "field": "input"}, grpc.StatusCode.NOT_FOUND, "action execution"),
        ({"definition_id": UNKNOWN, "field": "text"}, grpc.StatusCode.NOT_FOUND, "definition"),
    ],
)
async def test_what_is_not_there_is_refused(
    front: Front, request_fields: dict[str, str], code: grpc.StatusCode, said: str
) -> None:
    """A missing resource, an unknown field and an unknown id have different errors."""
    answered = await refused(front.value(**request_fields))

    assert answered[0] is code
    assert said in answered[1]


def test_no_piece_ends_within_a_character() -> None:
    """Each piece ends after a whole character, also one of several bytes."""
    text = "aä€😀" * 7
    for size in range(4, 12):
        found = list(pieces(text.encode(), size))
        assert "".join(found) == text
        assert max(len(piece.encode()) for piece in found) <= size
    assert list(pieces(b"")) == [""]
