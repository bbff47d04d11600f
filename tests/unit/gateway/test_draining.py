"""Bodies that are read to their end, or not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dalsegno.gateway import draining
from dalsegno.gateway.draining import Receive, drained
from dalsegno.gateway.responses import Send

SCOPE = {"type": "http"}


class Caller:
    """A caller that sends these pieces, and then nothing more."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.received: list[Any] = []

    async def receive(self) -> Any:
        """The next piece."""
        if not self.pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": self.pieces.pop(0), "more_body": True}

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
    async with asyncio.timeout(5):
        await drained(_answer, SCOPE, caller.receive, caller.send)
    start, body = caller.received
    assert (start["status"], b"nothing came for" in body["body"]) == (408, True)
