"""A distant database: a process that passes connections on and delays each packet, both ways.

python -m tests.benchmarks.delay LISTEN_PORT TARGET_PORT MILLISECONDS
"""

from __future__ import annotations

import asyncio
import socket
import sys

HOST = "127.0.0.1"


class _Side(asyncio.Protocol):
    """One side of a connection. What it receives, the other one sends later."""

    def __init__(self, delay_s: float) -> None:
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._delay_s = delay_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, self._pass_on, data)

    def connection_lost(self, exc: Exception | None) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, self._end_other)

    def _pass_on(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def _end_other(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Front(_Side):
    """The side of the client, which opens the other one."""

    def __init__(self, target: int, delay_s: float) -> None:
        super().__init__(delay_s)
        self._target = target
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        assert self.transport is not None
        back = _Side(self._delay_s)
        back.other = self
        try:
            await asyncio.get_running_loop().create_connection(lambda: back, HOST, self._target)
        except OSError:
            self.transport.close()
            return
        self.other = back
        self.transport.resume_reading()


async def _serve(listen: int, target: int, delay_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Front(target, delay_s), HOST, listen)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1e3))
