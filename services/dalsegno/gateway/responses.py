"""Responses of HTTP that are no answers of calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from connectrpc.code import Code

Send = Callable[[Any], Awaitable[None]]

_IDENTITY = (b"content-encoding", b"identity")
"""Says nothing."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Response:
    """One whole response."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    async def send(self, send: Any) -> None:
        """Send it as the answer of an ASGI application."""
        sized = (("content-length", str(len(self.body))),) if self.body or self.status != 204 else ()
        headers = [(name.encode(), value.encode()) for name, value in (*self.headers, *sized)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def sized(send: Send) -> Send:
    """Return a `send` that keeps the head of a response until its body, and gives a whole one its length. Without it
    each is sent in three parts."""
    head: dict[str, Any] | None = None

    async def send_with_length(message: Any) -> None:
        nonlocal head
        if message["type"] == "http.response.start" and not message.get("trailers", False):
            head = message
            return
        if head is not None:
            if not message.get("more_body", False):
                length = (b"content-length", str(len(message.get("body", b""))).encode())
                head = {**head, "headers": [*(each for each in head["headers"] if each != _IDENTITY), length]}
            await send(head)
            head = None
        await send(message)

    return send_with_length


def json_response(status: int, value: object, *headers: tuple[str, str]) -> Response:
    """Return a response with JSON."""
    return Response(status, orjson.dumps(value) + b"\n", (("content-type", "application/json"), *headers))


def refusal(status: int, code: Code, message: str, *headers: tuple[str, str]) -> Response:
    """Return a refusal: the JSON of an error of the Connect protocol."""
    return json_response(status, {"code": code.value, "message": message}, *headers)
