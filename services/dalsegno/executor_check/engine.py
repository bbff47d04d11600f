"""The engine that executors connect to: it listens, and gives each stream to the check."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc

from dalsegno.executor_check.line import Line
from dalsegno.rpc.addresses import is_address
from dalsegno.v1 import executor_service_pb2_grpc

READ_BYTES_MAX = 64 * 1024 * 1024
"""An engine reads messages of up to this size, to refuse the outcomes in them that are too large."""


class CannotListen(Exception):
    """The address is taken, or is none."""


class Engine(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Listens at an address. A stream waits until a check takes it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._lines: asyncio.Queue[Line] = asyncio.Queue()
        self._server: Any = None

    @property
    def is_listening(self) -> bool:
        """Return whether executors can connect."""
        return self._server is not None

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        if not is_address(self.address):
            raise CannotListen(f"{self.address}: not of the form host:port")
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", READ_BYTES_MAX)]
        self._server = grpc.aio.server(options=options)
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(self, self._server)
        try:
            port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise CannotListen(f"{self.address}: {error}") from None
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Close the port and all connections at once, as a killed engine does."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    async def next_line(self, within_s: float) -> Line | None:
        """Return the next stream that an executor has opened and still has; None if none comes within the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while (line := await self._lines.get()).is_closed:
                    pass
                return line
        return None

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """Give the stream to the check, and serve it until the check ends it or the executor does."""
        requests = aiter(request_iterator)
        line = Line(await anext(requests), context)
        reading = asyncio.create_task(line.read(requests))
        self._lines.put_nowait(line)
        try:
            await line.close()
        finally:
            reading.cancel()
