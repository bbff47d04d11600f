"""What is converted on the way through the gateway, and where."""

from __future__ import annotations

import gzip
import threading
from typing import Any

import pytest

from dalsegno.gateway import messages
from dalsegno.gateway.messages import THREAD_BYTES, Encoded, Gzip, Gzipped, Received, converted, read, written
from dalsegno.rpc.channel import MESSAGE_BYTES
from dalsegno.rpc.errors import refusals
from dalsegno.v1.execution_service_pb2 import StartExecutionRequest


async def test_what_is_large_is_converted_in_a_thread() -> None:
    """Up to 256 KiB on the event loop, above in a thread, so that other calls go on."""
    assert await converted(THREAD_BYTES, threading.current_thread) is threading.main_thread()
    assert await converted(THREAD_BYTES + 1, threading.current_thread) is not threading.main_thread()


async def test_large_messages_take_that_way_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON in, JSON out and gzip: each of a large message in a thread, each of a small one at once."""
    seen: list[bool] = []
    convert = messages.converted

    async def watched(size: int, *more: Any) -> Any:
        seen.append(size > THREAD_BYTES)
        return await convert(size, *more)

    monkeypatch.setattr(messages, "converted", watched)
    for size, is_large in ((10, False), (300_000, True)):
        seen.clear()
        body = b'{"input": "' + b"x" * size + b'"}'
        data = await read(Received(body, StartExecutionRequest, True))
        answer = await written(data, StartExecutionRequest, as_json=True, may_gzip=True)
        assert answer == body.replace(b": ", b":")
        assert seen == ([True] * 3 if is_large else [False] * 2)
        packed = Gzip().compress(answer)
        assert gzip.decompress(packed) == answer
        assert isinstance(answer, Encoded) == is_large


async def test_protobuf_is_not_parsed() -> None:
    """Its bytes go on as they are, whatever they hold: the api refuses them."""
    assert await read(Received(b"\xff\xff", StartExecutionRequest, False)) == b"\xff\xff"
    assert await written(b"\xff", StartExecutionRequest, as_json=False, may_gzip=True) == b"\xff"


async def test_what_is_too_large_is_refused_with_its_size() -> None:
    """16 MiB, before and after gzip."""
    whole = bytes(MESSAGE_BYTES)
    assert await read(Received(whole, StartExecutionRequest, False)) == whole
    for data in (bytes(MESSAGE_BYTES + 1), Gzipped(gzip.compress(bytes(MESSAGE_BYTES + 1)))):
        with pytest.raises(refusals.TooLarge) as refused:
            await read(Received(data, StartExecutionRequest, False))
        assert (refused.value.size_bytes, refused.value.limit_bytes) == (MESSAGE_BYTES + 1, MESSAGE_BYTES)


async def test_gzip_streams_one_after_another_are_refused() -> None:
    """Many empty ones would cost a copy of the rest each."""
    with pytest.raises(refusals.InvalidRequest):
        await read(Received(Gzipped(gzip.compress(b"") * 1000), StartExecutionRequest, False))


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        (b'{"input": {"v": 1}}', "input", "write its JSON as a text"),
        (b'{"input": [1]}', "input", "write its JSON as a text"),
        (b'{"workflow": 5}', "workflow", "must be a text in quotes, not 5"),
        (b'{"stopAt": ["a", true]}', "stopAt", "must be a text in quotes, not true"),
        (b"5", "", "it is no object"),
        (b"null", "", "it is no object"),
        (b'["a"]', "", "it is no object"),
        (b'"abc"', "", "it is no object"),
        (b"", "", "send at least {}"),
    ],
)
async def test_what_should_be_a_text_or_an_object_is_named(body: bytes, field: str, told: str) -> None:
    """The commonest mistake is a value where its JSON text belongs."""
    with pytest.raises(refusals.InvalidRequest) as refused:
        await read(Received(body, StartExecutionRequest, True))
    (violation,) = refused.value.violations
    assert (violation.subject, told in violation.description) == (field, True), violation
