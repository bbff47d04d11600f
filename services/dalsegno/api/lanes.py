"""The way of writes to one engine: what arrives during a call is sent together in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc
from google.rpc.status_pb2 import Status

from dalsegno.rpc.channel import call_metadata
from dalsegno.rpc.errors import PassedOn
from dalsegno.rpc.peers import Peer
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc

TOGETHER_MAX = 100
TOGETHER_BYTES = 1024 * 1024
"""The maximum number of writes, and of bytes, in a batch."""

CALLS_MAX = 4
"""The maximum number of calls to the engine at once; further writes wait for the next batch."""
FURTHER_LEAST = 25
"""While a call is under way, another one is made for at least so many writes: the engine would take fewer as a batch of
their own, which costs as much as these."""

SLOW_S = 0.5
"""After this time without an answer another call is made for any number of writes: a store whose commits take seconds
lets them wait long enough."""

Answer = TypeVar("Answer")


class Pending:
    """A write that has no answer yet."""

    __slots__ = ("answer", "ends_s", "is_alone", "size", "write")

    def __init__(self, write: wire.SubmitRequest, size: int, ends_s: float, *, is_alone: bool = False) -> None:
        """`ends_s`: the deadline of the caller, by the loop's clock. `is_alone`: whether it has a call of its own."""
        self.write = write
        self.size = size
        self.ends_s = ends_s
        self.is_alone = is_alone or size > TOGETHER_BYTES
        self.answer: asyncio.Future[wire.SubmitResponse]


class Lane:
    """Sends writes to one engine."""

    def __init__(self, peer: Peer) -> None:
        self.engine = engine_service_pb2_grpc.EngineServiceStub(peer.channel)
        self._peer = peer
        self._waiting: dict[Pending, None] = {}
        """In the order in which they came."""
        self._calls: set[asyncio.Task[None]] = set()
        self._called_s = 0.0
        """When the last call began, by the loop's clock."""

    async def send(self, pending: Pending) -> wire.SubmitResponse:
        """Send a write, and return its answer. Raises PassedOn for a refusal, else the error of the call."""
        loop = asyncio.get_running_loop()
        pending.answer = loop.create_future()
        if pending.is_alone:
            await self._call([pending])
            return await pending.answer
        self._waiting[pending] = None
        if self._has_room:
            loop.call_soon(self._send)
        elif len(self._waiting) == 1:
            loop.call_later(SLOW_S, self._send)
        try:
            return await pending.answer
        finally:
            self._waiting.pop(pending, None)  # if its caller has left

    async def answer_of(self, call: Awaitable[Answer]) -> Answer:
        """Return the answer of a call. One that is given up, because the engine is silent, ends with UNAVAILABLE."""
        self._peer.calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            nothing = grpc.aio.Metadata()
            told = "the engine does not answer; it is unknown whether the write was made"
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, told) from None
        finally:
            self._peer.calls.discard(call)

    @property
    def _has_room(self) -> bool:
        """Return whether a call may begin now."""
        if not self._calls:
            return True
        is_slow = asyncio.get_running_loop().time() - self._called_s >= SLOW_S
        return len(self._calls) < CALLS_MAX and (is_slow or len(self._waiting) >= FURTHER_LEAST)

    def _send(self) -> None:
        """Send the waiting writes, unless as many calls are running as they are worth."""
        while self._waiting and self._has_room:
            batch: list[Pending] = []
            size = 0
            for pending in self._waiting:
                size += pending.size
                if len(batch) >= TOGETHER_MAX or (batch and size > TOGETHER_BYTES):
                    break
                batch.append(pending)
            for pending in batch:
                del self._waiting[pending]
            self._called_s = asyncio.get_running_loop().time()
            task = asyncio.create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._send()

    async def _call(self, batch: list[Pending]) -> None:
        timeout_s = max(0.0, max(each.ends_s for each in batch) - asyncio.get_running_loop().time())
        more: dict[str, Any] = {"timeout": timeout_s, "metadata": call_metadata()}
        try:
            if len(batch) == 1:
                _tell(batch[0], await self.answer_of(self.engine.Submit(batch[0].write, **more)))
                return
            request = wire.SubmitManyRequest(writes=[each.write for each in batch])
            response = await self.answer_of(self.engine.SubmitMany(request, **more))
        except Exception as error:
            for each in batch:
                _tell(each, error)
            return
        for each, result in zip(batch, response.results, strict=True):
            refused = result.WhichOneof("result") == "refusal"
            _tell(each, PassedOn(Status.FromString(result.refusal)) if refused else result.answer)


def _tell(pending: Pending, outcome: wire.SubmitResponse | Exception) -> None:
    if pending.answer.done():
        return  # the caller has left
    if isinstance(outcome, Exception):
        pending.answer.set_exception(outcome)
    else:
        pending.answer.set_result(outcome)
