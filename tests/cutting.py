"""Connections that break in the middle of messages, or hold messages back: forwards TCP to a server."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress


class Cutter:
    """Use it with `async with`, and its `address`."""

    def __init__(self, target: str, chance: random.Random | None = None, bytes_max: int = 0) -> None:
        """`bytes_max`: a connection is cut after at most so many bytes in both directions; 0: never."""
        self.address = ""
        self.connections = 0
        """How many clients have connected."""
        self.cuts = 0
        self.flows = asyncio.Event()
        """While it is not set, nothing that the server sends arrives. What is held back when it ends is lost."""
        self.flows.set()
        self.bytes_max = bytes_max
        self._host, _, self._port = target.rpartition(":")
        self._chance = chance or random.Random(0)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Cutter:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)  # The task of a connection that has just been accepted begins, so that it is ended, too.
        for each in self._open:
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        writers = [writer]
        try:
            there, back = await asyncio.open_connection(self._host, int(self._port))
            writers.append(back)
            left = [self._chance.randint(self.bytes_max // 4, self.bytes_max) if self.bytes_max else 1 << 60]
            to_server = asyncio.create_task(self._carry(reader, back, left))
            ways = [to_server, asyncio.create_task(self._carry(there, writer, left, self.flows))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens there now; or it is the end, of which the server of asyncio must not hear
        finally:
            for each in writers:
                each.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        left: list[int],
        flows: asyncio.Event | None = None,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if flows is not None:
                    await flows.wait()
                part, left[0] = data[: left[0]], left[0] - len(data)
                writer.write(part)
                await writer.drain()
                if left[0] <= 0:
                    self.cuts += 1
                    return
