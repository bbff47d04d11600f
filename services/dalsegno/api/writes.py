"""Writes: the public request itself goes to the engine, with the caller; the engine's answer or refusal comes back.

Writes that arrive during a call to the engine are sent in one batch: one call for many costs as much as two calls.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from dalsegno.rpc.channel import ACTOR_KEY, call_metadata
from dalsegno.rpc.errors import PassedOn
from dalsegno.rpc.logs import request_id
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc

ACTOR_LENGTH = 255
DEADLINE_S = 30.0
TOGETHER_MAX = 100
TOGETHER_BYTES = 1024 * 1024
"""The maximum number of writes, and of bytes, in a batch."""

CALLS_MAX = 4
"""The maximum number of calls to the engine at once; further writes wait for the next batch."""
FURTHER_LEAST = 25
"""While a call is under way, another one is made for at least so many writes: the engine would take fewer as a batch of
their own, which costs as much as these."""

SLOW = frozenset({"create_definitions"})
"""Writes that take the engine longer. As large ones, they are sent in calls of their own: no other write waits for
them."""

Answer = TypeVar("Answer", bound=Message)


@dataclass(slots=True)
class Pending:
    """A write that has no answer yet."""

    write: wire.SubmitRequest
    size: int
    ends_s: float
    """The deadline of the caller, by the loop's clock."""
    answer: asyncio.Future[wire.SubmitResponse]


class Writes:
    """Sends writes to the engine."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._engine = engine_service_pb2_grpc.EngineServiceStub(channel)
        self._waiting: list[Pending] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def submit(self, name: str, request: Message, context: Any, kind: type[Answer]) -> Answer:
        """Make the write `name` of SubmitRequest. A refusal of the engine is raised unchanged.

        It waits for the engine until the caller's deadline, so that a restart of the engine is not an error.
        """
        write = wire.SubmitRequest(actor=actor_of(context), call_id=request_id.get(), takes_later=True)
        getattr(write, name).CopyFrom(request)
        loop = asyncio.get_running_loop()
        remaining_s = context.time_remaining()
        ends_s = loop.time() + (DEADLINE_S if remaining_s is None else remaining_s)
        pending = Pending(write, write.ByteSize(), ends_s, loop.create_future())
        if name in SLOW or pending.size > TOGETHER_BYTES:
            await self._call([pending])
        else:
            self._waiting.append(pending)
            if self._has_room:
                loop.call_soon(self._send)
        response = await pending.answer
        if response.later:  # awaited in a separate call, without delaying other writes
            timeout_s = max(0.0, ends_s - loop.time())
            awaited = await self._engine.Await(
                wire.AwaitRequest(later=response.later), timeout=timeout_s, metadata=call_metadata()
            )
            response = awaited.answer
        answer = getattr(response, name)
        assert isinstance(answer, kind)
        return answer

    @property
    def _has_room(self) -> bool:
        """Return whether a call may begin now."""
        return not self._calls or (len(self._calls) < CALLS_MAX and len(self._waiting) >= FURTHER_LEAST)

    def _send(self) -> None:
        """Send the waiting writes, unless as many calls are running as they are worth."""
        while self._waiting and self._has_room:
            batch = [self._waiting.pop(0)]
            size = batch[0].size
            while self._waiting and len(batch) < TOGETHER_MAX:
                size += self._waiting[0].size
                if size > TOGETHER_BYTES:
                    break
                batch.append(self._waiting.pop(0))
            task = asyncio.create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._send()

    async def _call(self, batch: list[Pending]) -> None:
        timeout_s = max(0.0, max(each.ends_s for each in batch) - asyncio.get_running_loop().time())
        try:
            if len(batch) == 1:
                write = batch[0].write
                answer = await self._engine.Submit(
                    write, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=True
                )
                _tell(batch[0], answer)
                return
            request = wire.SubmitManyRequest(writes=[each.write for each in batch])
            response = await self._engine.SubmitMany(
                request, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=True
            )
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


def actor_of(context: Any) -> str:
    """Return the caller."""
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_KEY:
            return str(value)[:ACTOR_LENGTH].replace("\0", "")
    return ""
