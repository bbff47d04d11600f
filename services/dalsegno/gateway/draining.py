"""Read what an application leaves of a request.

Hypercorn hands the body on through a short queue, and while that is full it reads nothing more of the connection, whose
other streams wait too. So somebody must read to the end, also of a request that was refused at its first byte.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from connectrpc.code import Code

from dalsegno.gateway.messages import READ_BYTES
from dalsegno.gateway.responses import Send, refusal

DRAIN_S = 10.0
"""How long an answer waits for the rest of its request. (An answer that comes before ends a connection of HTTP/2.)"""

BODY_S = 30.0
"""How long the next piece of a body may take."""

Receive = Callable[[], Awaitable[Any]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

_TOO_SLOW = refusal(408, Code.DEADLINE_EXCEEDED, f"of the body nothing came for {BODY_S:g} s")


class _Request:
    """Reads one request, and knows whether its end was read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False
        self.is_late = False
        """Whether a piece did not come in time: its application is told that its caller has gone."""

    async def receive(self) -> Any:
        """Return the next message for the application."""
        try:
            async with asyncio.timeout(None if self.ended else BODY_S):
                return await self._next()
        except TimeoutError:
            self.is_late = True
            return {"type": "http.disconnect"}

    async def _next(self) -> Any:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drain(self, bytes_max: int | None = None) -> None:
        """Read to the end, or until `bytes_max` were read."""
        read = 0
        while not self.ended and (bytes_max is None or read < bytes_max):
            read += len((await self._next()).get("body", b""))


async def drained(application: Application, scope: Any, receive: Receive, send: Send) -> None:
    """Run an application for one request, and read the request to its end."""
    request = _Request(receive)
    rest: asyncio.Task[None] | None = None

    async def send_after_reading(message: Any) -> None:
        nonlocal rest
        if request.is_late:
            return
        if message["type"] == "http.response.start" and not request.ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await request.drain(READ_BYTES)
            if not request.ended:
                rest = asyncio.create_task(request.drain())
        await send(message)

    try:
        await application(scope, request.receive, send_after_reading)
        if request.is_late:
            await _TOO_SLOW.send(send)
    finally:
        if rest is not None:
            await rest
