"""Read the bodies of requests: within their time, within the memory of all of them, and to their end.

Their memory must then be free again. The error of a failed call is in a cycle with frames of the Connect library, and
these hold the body: so cycles are collected here.

Hypercorn hands a body on through a short queue, and while that is full it reads nothing more of the connection, whose
other streams wait too. So somebody must read to the end, also of a request that was refused at its first byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

from connectrpc.code import Code

from dalsegno.gateway.messages import READ_BYTES
from dalsegno.gateway.responses import Response, Send, refusal

DRAIN_S = 10.0
"""How long an answer waits for the rest of its request. (An answer that comes before ends a connection of HTTP/2.)"""

BODY_S = 30.0
"""How long the next piece of a body may take."""

BYTES_PER_S = 1024
"""In each `BODY_S` a body must come at this rate. Otherwise one byte now and then would hold its call for ever."""

BODIES_BYTES_MAX = 4 * READ_BYTES
"""How much memory the bodies of all open calls may take, as they were received. With what is made of them it is about
three times as much."""

COLLECT_BYTES = 8 * 1024 * 1024
"""After so many bytes of bodies, cycles are collected. By itself Python collects after many new objects, not
after large ones."""

Receive = Callable[[], Awaitable[Any]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

_TOO_SLOW = refusal(
    408, Code.DEADLINE_EXCEEDED, f"the body comes too slowly: nothing for {BODY_S:g} s, or below {BYTES_PER_S} bytes/s"
)
_FULL = refusal(
    429,
    Code.RESOURCE_EXHAUSTED,
    f"the bodies of the calls under way take more than {BODIES_BYTES_MAX:,} bytes: repeat the call after a second",
    ("retry-after", "1"),
)


class Bodies:
    """Counts the bytes of the bodies that the calls under way have sent."""

    def __init__(self) -> None:
        self.count = 0
        self._ended = 0
        """How many bytes of bodies have ended since cycles were collected."""

    def release(self, size: int) -> None:
        """Count bytes of a body no more: its call has ended, or was refused."""
        self.count -= size
        self._ended += size

    def _collect(self) -> None:
        if self._ended >= COLLECT_BYTES:
            self._ended = 0
            gc.collect()

    async def serve(self, application: Application, scope: Any, receive: Receive, send: Send) -> None:
        """Run an application for one request, and read the request to its end."""
        request = _Request(self, receive)
        rest: asyncio.Task[None] | None = None

        async def send_after_reading(message: Any) -> None:
            nonlocal rest
            if message["type"] == "http.response.start" and not request.ended and request.refused is not _TOO_SLOW:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_S):
                        await request.drain(READ_BYTES)
                if not request.ended:
                    rest = asyncio.create_task(request.drain())
            await send(message)

        async def send_if_taken(message: Any) -> None:
            if request.refused is None:
                await send_after_reading(message)

        try:
            await application(scope, request.receive, send_if_taken)
            if request.refused is not None:
                await request.refused.send(send_after_reading)
        finally:
            request.release()
            self._collect()
            if rest is not None:
                await rest


class _Request:
    """Reads one request, and knows whether its end was read."""

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies = bodies
        self._receive = receive
        self._window_s = time.monotonic()
        """When the present `BODY_S` began, within which enough must come."""
        self._in_window = 0
        """How many bytes have come within it."""
        self.ended = False
        self.taken = 0
        """How many bytes of its body are counted."""
        self.refused: Response | None = None
        """Why its body is not read: its application is told that its caller has gone."""

    async def receive(self) -> Any:
        """Return the next message for the application."""
        if self.refused is not None:
            return {"type": "http.disconnect"}
        if self.ended:  # now it only comes to know that its caller has gone
            return await self._next()
        try:
            async with asyncio.timeout(self._patience_s()):
                message = await self._next()
        except TimeoutError:
            return self._refuse(_TOO_SLOW)
        size = len(message.get("body", b""))
        if size and self._bodies.count + size > BODIES_BYTES_MAX:
            return self._refuse(_FULL)
        self._bodies.count += size
        self.taken += size
        self._in_window += size
        if self._in_window >= BODY_S * BYTES_PER_S:
            self._window_s, self._in_window = time.monotonic(), 0
        return message

    def _refuse(self, response: Response) -> Any:
        """Tell the application that its caller has gone. What it has read is dropped."""
        self.refused = response
        self.release()
        return {"type": "http.disconnect"}

    def release(self) -> None:
        """Count its bytes no more."""
        self._bodies.release(self.taken)
        self.taken = 0

    def _patience_s(self) -> float:
        """Return how long the next piece may take, in seconds."""
        return self._window_s + BODY_S - time.monotonic()

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
