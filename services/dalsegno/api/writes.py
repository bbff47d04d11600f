"""Writes: the public request itself goes to the engine, with who asks; the engine's answer or refusal comes back.

Writes that come while others are on their way travel together: one call for all of them costs what two cost apart.
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
"""As many writes, and as many bytes, travel together."""

CALLS_MAX = 4
"""As many calls with writes are under way at once: what comes then gathers."""

SLOW = frozenset({"create_definitions"})
"""Writes that the engine works on for a while: nobody else shall wait for them."""

Answer = TypeVar("Answer", bound=Message)


@dataclass(slots=True)
class Pending:
    """A write on its way."""

    write: wire.SubmitRequest
    size: int
    ends_s: float
    """When whoever asked will wait no longer, by the loop's clock."""
    answer: asyncio.Future[wire.SubmitResponse]


class Writes:
    """The way to the engine."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._engine = engine_service_pb2_grpc.EngineServiceStub(channel)
        self._waiting: list[Pending] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def submit(self, name: str, request: Message, context: Any, kind: type[Answer]) -> Answer:
        """Make the write called `name` in SubmitRequest. What the engine refuses is raised as it came.

        The engine is waited for as long as the caller waits, so that a restart of it is not an error.
        """
        write = wire.SubmitRequest(actor=actor_of(context), call_id=request_id.get(), takes_later=True)
        getattr(write, name).CopyFrom(request)
        loop = asyncio.get_running_loop()
        remaining_s = context.time_remaining()
        ends_s = loop.time() + (DEADLINE_S if remaining_s is None else remaining_s)
        pending = Pending(write, write.ByteSize(), ends_s, loop.create_future())
        if name in SLOW:
            await self._call([pending])
        else:
            self._waiting.append(pending)
            if len(self._calls) < CALLS_MAX:
                loop.call_soon(self._send)
        response = await pending.answer
        if response.later:  # waited for apart from the calls that others travel in
            timeout_s = max(0.0, ends_s - loop.time())
            awaited = await self._engine.Await(
                wire.AwaitRequest(later=response.later), timeout=timeout_s, metadata=call_metadata()
            )
            response = awaited.answer
        answer = getattr(response, name)
        assert isinstance(answer, kind)
        return answer

    def _send(self) -> None:
        """Send what waits, unless enough calls are under way."""
        while self._waiting and len(self._calls) < CALLS_MAX:
            together = [self._waiting.pop(0)]
            size = together[0].size
            while self._waiting and len(together) < TOGETHER_MAX:
                size += self._waiting[0].size
                if size > TOGETHER_BYTES:
                    break
                together.append(self._waiting.pop(0))
            task = asyncio.create_task(self._call(together))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._send()

    async def _call(self, together: list[Pending]) -> None:
        timeout_s = max(0.0, max(each.ends_s for each in together) - asyncio.get_running_loop().time())
        try:
            if len(together) == 1:
                write = together[0].write
                answer = await self._engine.Submit(
                    write, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=True
                )
                _tell(together[0], answer)
                return
            request = wire.SubmitManyRequest(writes=[each.write for each in together])
            response = await self._engine.SubmitMany(
                request, timeout=timeout_s, metadata=call_metadata(), wait_for_ready=True
            )
        except Exception as error:
            for each in together:
                _tell(each, error)
            return
        for each, result in zip(together, response.results, strict=True):
            refused = result.WhichOneof("result") == "refusal"
            _tell(each, PassedOn(Status.FromString(result.refusal)) if refused else result.answer)


def _tell(pending: Pending, outcome: wire.SubmitResponse | Exception) -> None:
    if pending.answer.done():
        return  # whoever asked has gone
    if isinstance(outcome, Exception):
        pending.answer.set_exception(outcome)
    else:
        pending.answer.set_result(outcome)


def actor_of(context: Any) -> str:
    """Who asks."""
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_KEY:
            return str(value)[:ACTOR_LENGTH].replace("\0", "")
    return ""
