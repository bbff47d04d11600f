"""A scripted engine, whose side of each stream a test writes, and executors that connect to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from tests.ports import free_address

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2_grpc
from dalsegno.worker.connection import Connection
from dalsegno.worker.session import Session

WAITS_S = 40.0
"""How long a test waits for what must come: long, for the machine may be busy with other tests."""


GONE = (grpc.RpcError, asyncio.InvalidStateError, cygrpc.ExecuteBatchError)
"""What a write on a stream raises that ends just then."""


class Line:
    """The engine's side of one stream."""

    def __init__(self, hello: wire.Hello, context: Any) -> None:
        self.hello = hello
        self.received: asyncio.Queue[wire.ConnectRequest | None] = asyncio.Queue()
        self.ended: asyncio.Future[grpc.StatusCode] = asyncio.get_running_loop().create_future()
        self._context = context

    @property
    def in_flight(self) -> list[tuple[str, int]]:
        """Return the deliveries that Hello lists."""
        return [(each.action_execution_id, each.delivery) for each in self.hello.in_flight]

    async def run(self, *orders: wire.RunAction) -> None:
        """Send actions in one message."""
        await self.send(run_action=wire.RunActionBatch(actions=orders))

    async def send(self, **message: Any) -> None:
        await self._context.write(wire.ConnectResponse(**message))

    async def acknowledge(self, *outcomes: wire.TaskDone) -> None:
        accepted = wire.AckVerdict.ACK_VERDICT_ACCEPTED
        acks = [
            wire.Ack(action_execution_id=each.action_execution_id, delivery=each.delivery, verdict=accepted)
            for each in outcomes
        ]
        await self.send(ack=wire.AckBatch(acks=acks))

    async def next(self, kind: str, within_s: float = WAITS_S) -> Any:
        """Return the next message of this kind; ignore others."""
        async with asyncio.timeout(within_s):
            while (message := await self.received.get()) is not None:
                if message.WhichOneof("message") == kind:
                    return getattr(message, kind)
        raise AssertionError(f"the stream ended without {kind}")

    async def outcomes(self, count: int, within_s: float = WAITS_S) -> list[wire.TaskDone]:
        """Return the next outcomes, from as many messages as it takes."""
        found: list[wire.TaskDone] = []
        while len(found) < count:
            found += (await self.next("task_done", within_s)).outcomes
        return found

    async def silence(self, kind: str, for_s: float = 0.2) -> None:
        """Fail when a message of this kind comes within the time."""
        with pytest.raises(TimeoutError):
            await self.next(kind, for_s)

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        if not self.ended.done():
            self.ended.set_result(code)


class Engine(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Welcomes executors and leaves everything else to the test; ends a stream after Goodbye."""

    def __init__(self, engine_id: str = "engine-of-the-test") -> None:
        self.engine_id = engine_id
        self.address = free_address()
        """One that nobody else gets while the engine is down."""
        self.lines: asyncio.Queue[Line] = asyncio.Queue()
        self.superseded: list[tuple[str, int]] = []
        self.refused_sessions: set[str] = set()
        """The sessions that it has ended with ABORTED. As the real engine does, it answers each later Hello so."""
        self.lease_s = 10.0
        self.heartbeat_s = 3.0
        self.clock_offset_s = 0.0
        self._server: Any = None

    async def start(self) -> None:
        """Listen, always on the same address."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Stop without a message, as a killed engine does."""
        await self._server.stop(None)

    async def line(self, within_s: float = WAITS_S) -> Line:
        """Return the next stream that an executor opens."""
        async with asyncio.timeout(within_s):
            return await self.lines.get()

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        requests = aiter(request_iterator)
        line = Line((await anext(requests)).hello, context)
        if line.hello.session_id in self.refused_sessions:
            await context.abort(grpc.StatusCode.ABORTED, "as the test says")
        welcome = wire.Welcome(
            engine_id=self.engine_id,
            superseded=[wire.DeliveryReference(action_execution_id=id_, delivery=n) for id_, n in self.superseded],
        )
        welcome.lease.FromMilliseconds(int(self.lease_s * 1000))
        welcome.heartbeat.FromMilliseconds(int(self.heartbeat_s * 1000))
        welcome.now.FromMilliseconds(int((time.time() + self.clock_offset_s) * 1000))
        await line.send(welcome=welcome)
        self.lines.put_nowait(line)
        reading = asyncio.create_task(_read(requests, line))
        try:
            code = await line.ended
        finally:
            reading.cancel()
        if code is grpc.StatusCode.ABORTED:
            self.refused_sessions.add(line.hello.session_id)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, "as the test says")


async def _read(requests: AsyncIterator[wire.ConnectRequest], line: Line) -> None:
    async for request in requests:
        line.received.put_nowait(request)
        if request.WhichOneof("message") == "goodbye":
            line.end()
    line.received.put_nowait(None)


class Executor:
    """A session with a connection for each engine."""

    def __init__(self, session: Session, addresses: Sequence[str]) -> None:
        self.session = session
        self.channels = [open_channel(address) for address in addresses]
        self.connections = [
            Connection(session, address, channel) for address, channel in zip(addresses, self.channels, strict=True)
        ]
        self.tasks = [asyncio.create_task(connection.run()) for connection in self.connections]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for channel in self.channels:
            await channel.close()
        await self.session.runner.close(1)


MakeExecutor = Callable[..., Executor]


def order(number: int, action: str = "std.noop", input: str = "{}", **more: Any) -> wire.RunAction:
    """Return an action to run, of the attempt `e.<number>.0.1`."""
    return wire.RunAction(
        action_execution_id=f"e.{number}.0.1", delivery=more.pop("delivery", 1), action=action, input=input, **more
    )
