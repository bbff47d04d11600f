"""Bodies that are read to their end, or not for ever."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from dalsegno.gateway import draining
from dalsegno.gateway.draining import Bodies, Receive
from dalsegno.gateway.responses import Send

SCOPE = {"type": "http"}


class Caller:
    """A caller that sends these pieces, and then nothing more."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.is_whole = False
        """Whether the last piece is the end of the body, and the caller goes when it has its answer."""
        self.received: list[Any] = []

    async def receive(self) -> Any:
        """The next piece."""
        if not self.pieces and self.is_whole:
            return {"type": "http.disconnect"}
        if not self.pieces:
            await asyncio.Event().wait()
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or not self.is_whole}

    async def send(self, message: Any) -> None:
        """Keep what comes back."""
        self.received.append(message)


async def _answer(scope: Any, receive: Receive, send: Send) -> None:
    """Read the whole body, then answer."""
    read = b""
    while (message := await receive())["type"] == "http.request":
        read += message["body"]
    await send({"type": "http.response.start", "status": 499, "headers": []})
    await send({"type": "http.response.body", "body": read})


async def test_a_body_that_stops_is_answered_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a part and then nothing gets 408, and holds nothing any more."""
    monkeypatch.setattr(draining, "BODY_S", 0.05)
    caller = Caller(b"a", b"b")
    bodies = Bodies()
    async with asyncio.timeout(30):
        await bodies.serve(_answer, SCOPE, caller.receive, caller.send)
    start, body = caller.received
    assert (start["status"], b"too slowly" in body["body"], bodies.count) == (408, True, 0)


@pytest.mark.parametrize("first", [b"a", b"a" * 1_000_000], ids=["small", "large"])
async def test_a_body_that_comes_byte_by_byte_is_answered_and_left(
    monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    """Who sends a byte shortly before the time for each piece is over gets 408, also after a large beginning."""
    monkeypatch.setattr(draining, "BODY_S", 0.2)
    caller = Caller(first, *[b"a"] * 1_000)

    async def receive_slowly() -> Any:
        await asyncio.sleep(0.05)
        return await caller.receive()

    async with asyncio.timeout(30):
        await Bodies().serve(_answer, SCOPE, receive_slowly, caller.send)
    assert caller.received[0]["status"] == 408
    assert len(caller.pieces) > 900


async def test_bodies_of_all_calls_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What exceeds the memory of all bodies is refused, with the time of the next try; then there is room again."""
    monkeypatch.setattr(draining, "BODIES_BYTES_MAX", 100)
    bodies = Bodies()
    held = Caller(b"a" * 60)
    holding = asyncio.create_task(bodies.serve(_answer, SCOPE, held.receive, held.send))
    await asyncio.sleep(0)
    other = Caller(b"b" * 30, b"c" * 30)
    other.is_whole = True
    async with asyncio.timeout(30):
        await bodies.serve(_answer, SCOPE, other.receive, other.send)
    start, body = other.received
    assert (start["status"], (b"retry-after", b"1") in start["headers"]) == (429, True)
    assert (b"resource_exhausted" in body["body"], other.pieces) == (True, [])  # read to its end
    assert bodies.count == 60
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    again = Caller(b"b" * 30, b"c" * 30)
    again.is_whole = True
    await bodies.serve(_answer, SCOPE, again.receive, again.send)
    assert (again.received[0]["status"], bodies.count) == (499, 0)


async def test_what_is_refused_leaves_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the rest of a refused body is read, what came before counts no more."""
    monkeypatch.setattr(draining, "BODIES_BYTES_MAX", 100)
    bodies = Bodies()
    refused = Caller(b"a" * 60, b"b" * 60)
    serving = asyncio.create_task(bodies.serve(_answer, SCOPE, refused.receive, refused.send))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not serving.done(), "it waits for the rest"
    assert bodies.count == 0
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


class Cycle:
    """An object that refers to itself, as an error and the frames that it has passed do."""

    def __init__(self, body: bytes) -> None:
        self.itself, self.body = self, body


async def test_bodies_in_cycles_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some bytes of bodies what is left of calls is collected, though there are few objects."""
    monkeypatch.setattr(draining, "COLLECT_BYTES", 100)
    left: list[weakref.ref[Cycle]] = []

    async def fail(scope: Any, receive: Receive, send: Send) -> None:
        left.append(weakref.ref(Cycle((await receive())["body"])))
        await send({"type": "http.response.start", "status": 400, "headers": []})

    bodies = Bodies()
    for size in (40, 60):
        caller = Caller(b"a" * size)
        caller.is_whole = True
        await bodies.serve(fail, SCOPE, caller.receive, caller.send)
    assert [each() for each in left] == [None, None]
