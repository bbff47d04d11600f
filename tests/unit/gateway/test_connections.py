"""Connections of the gateway: when idle ones are closed, and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypercorn.asyncio import serve
from tests.ports import free_address

from dalsegno.gateway import connections
from dalsegno.gateway.responses import Response

IDLE_S = 0.3
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONGEST_S = 30
PARTS = 200
PART = b"x" * 500_000


class Server:
    """Hypercorn with our connections. Its answers wait for `may_answer`."""

    def __init__(self, idle_s: float) -> None:
        self.address = free_address()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.stop = asyncio.Event()
        self.parts = 0
        """How many parts of a long answer were sent."""
        self._config = connections.Settings(None)
        self._config.bind = [self.address]
        self._config.keep_alive_timeout = idle_s

    async def serve(self) -> None:
        connections.install()
        await serve(self._answer, self._config, shutdown_trigger=self.stop.wait)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/long":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for self.parts in range(1, PARTS + 1):
                await send({"type": "http.response.body", "body": PART, "more_body": self.parts < PARTS})
        elif scope["type"] == "http":
            await self.may_answer.wait()
            await Response(200, b"done").send(send)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect once it listens."""
        host, _, port = self.address.rpartition(":")
        while True:
            try:
                return await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(idle_s: float = IDLE_S) -> AsyncIterator[Server]:
    """A server that runs, until it has stopped."""
    server = Server(idle_s)
    async with asyncio.timeout(LONGEST_S), asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        yield server
        server.stop.set()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The next answer."""
    return await reader.readuntil(b"done")


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    """A connection without a request for the time of idle ones is closed, before and after its first request."""
    async with serving() as server:
        for requests in (0, 1):
            reader, writer = await server.connect()
            for _ in range(requests):
                writer.write(REQUEST)
                await answer(reader)
            assert await reader.read() == b""
            writer.close()


async def test_a_request_may_take_longer_than_a_connection_may_be_idle() -> None:
    """A connection that serves a request is not idle, however long that takes."""
    async with serving() as server:
        server.may_answer.clear()
        reader, writer = await server.connect()
        writer.write(REQUEST)
        for _ in range(2):  # others come later, and are closed for being idle
            idle, other = await server.connect()
            assert await idle.read() == b""
            other.close()
        server.may_answer.set()
        assert b"200" in await answer(reader)
        assert await reader.read() == b""
        writer.close()


async def test_idle_connections_are_closed_when_the_server_stops() -> None:
    """A server that stops closes its idle connections at once, and the others after their requests."""
    async with serving(idle_s=LONGEST_S) as server:
        idle, busy = await server.connect(), await server.connect()
        for reader, writer in (idle, busy):
            writer.write(REQUEST)
            await answer(reader)
        server.may_answer.clear()
        busy[1].write(REQUEST)
        server.stop.set()
        assert await idle[0].read() == b""
        server.may_answer.set()
        assert b"200" in await busy[0].read()
        for _, writer in (idle, busy):
            writer.close()


async def test_one_task_looks_after_an_idle_connection() -> None:
    """However many requests a connection serves, one task waits for it to be idle for too long."""
    loop, begun = asyncio.get_running_loop(), []

    def begin(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        begun.append(work.__name__)
        return asyncio.Task(work, loop=loop, **more)

    async with serving(idle_s=LONGEST_S) as server:
        reader, writer = await server.connect()
        loop.set_task_factory(begin)
        for _ in range(3):
            writer.write(REQUEST)
            await answer(reader)
        loop.set_task_factory(None)
        writer.close()
    assert begun.count("_idle_timeout") <= 1


async def test_an_answer_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of an answer and its body go to the system in one call, also in that of a connection that then ends."""
    written: list[bytes] = []
    write = asyncio.StreamWriter.write

    def note(writer: asyncio.StreamWriter, data: Any) -> None:
        if data.startswith(b"HTTP/1.1 ") or b"done" in data:
            written.append(bytes(data))
        write(writer, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", note)
    async with serving() as server:
        reader, writer = await server.connect()
        for more in (b"", b"Connection: close\r\n"):
            writer.write(REQUEST.removesuffix(b"\r\n") + more + b"\r\n")
            await answer(reader)
        assert await reader.read() == b""
        writer.close()

    assert [(data[:12], data[-4:]) for data in written] == [(b"HTTP/1.1 200", b"done")] * 2


async def test_an_answer_waits_for_a_client_that_does_not_read() -> None:
    """What is not written yet is bounded, and other connections are served meanwhile."""
    async with serving() as server:
        slow_reader, slow = await server.connect()
        slow.write(REQUEST.replace(b"/", b"/long", 1))
        reader, writer = await server.connect()
        writer.write(REQUEST)
        await answer(reader)
        sent = server.parts
        while await slow_reader.read(2**20):
            pass

        assert sent < PARTS == server.parts
        for each in (slow, writer):
            each.close()
