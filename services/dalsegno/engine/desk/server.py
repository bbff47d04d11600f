"""EngineService: receives writes from api and returns hints (dalsegno/README.md#one-request, rows 2 and 6)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator

import grpc
from google.rpc.status_pb2 import Status

from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.desk.operations import Call
from dalsegno.engine.desk.requests import AnswerCall
from dalsegno.engine.desk.writes import writes
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.feed import Feed
from dalsegno.expressions.pool_client import POOL
from dalsegno.rpc import sizes
from dalsegno.rpc.errors import OWN_DETAILS_BYTES, PassedOn, code_of, status_of
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc
from dalsegno.workflow.refusals import InvalidRequest, NotFound

_log = logging.getLogger(__name__)


SIGN_OF_LIFE_S = 10.0
UNCLAIMED_S = 10.0
"""How long an answer that takes longer is kept for its caller."""
TOGETHER_BYTES_MAX = sizes.MESSAGE_BYTES_MAX
"""The maximum of answers that travel together, in bytes. The caller asks for the others one by one."""

HINTS_PER_MESSAGE = 1_000


class EngineServer(engine_service_pb2_grpc.EngineServiceServicer):
    """Passes each write to the conductor and waits for its commit."""

    def __init__(self, conductor: Conductor, feed: Feed, callbacks: Callbacks) -> None:
        self._conductor = conductor
        self._feed = feed
        self._writes = writes(callbacks)
        self._later: dict[str, asyncio.Future[wire.SubmitResponse]] = {}
        """The answers that take longer and that nobody has asked for yet."""

    async def Submit(self, request: wire.SubmitRequest, context: object) -> wire.SubmitResponse:
        """Carry out one write."""
        return await self._submit(request)

    async def _submit(self, request: wire.SubmitRequest) -> wire.SubmitResponse:
        name = request.WhichOneof("write")
        if name is None:
            raise InvalidRequest.of("write", "is missing")
        future: asyncio.Future[wire.SubmitResponse] = asyncio.get_running_loop().create_future()
        write = self._writes[name]
        call = Call(write.request_of(request), request.actor)
        operation = await write.operation.prepare(call.request, POOL)
        on_later = self._answer_later if request.takes_later else None
        self._conductor.request(AnswerCall(write, operation, call, future, on_later))
        return await future

    async def Await(self, request: wire.AwaitRequest, context: object) -> wire.AwaitResponse:
        """Wait for the answer of a write that takes longer."""
        future = self._later.pop(request.later, None)
        if future is None:
            raise NotFound("write", request.later)
        return wire.AwaitResponse(answer=await future)

    def _answer_later(self) -> tuple[str, asyncio.Future[wire.SubmitResponse]]:
        """Return a name and a future for an answer that takes longer. It is dropped if nobody asks for it."""
        loop = asyncio.get_running_loop()
        later, future = uuid.uuid4().hex, loop.create_future()
        self._later[later] = future
        loop.call_later(UNCLAIMED_S, self._give_up, later)
        return later, future

    def _give_up(self, later: str) -> None:
        future = self._later.pop(later, None)
        if future is not None:
            future.cancel()

    async def SubmitMany(self, request: wire.SubmitManyRequest, context: object) -> wire.SubmitManyResponse:
        """Carry out several writes. Each gets its own answer or refusal."""
        results = await asyncio.gather(*(self._result(write) for write in request.writes))
        size = 0
        for write, result in zip(request.writes, results, strict=True):
            answer_bytes = result.ByteSize()
            if write.takes_later and size and size + answer_bytes > TOGETHER_BYTES_MAX:
                later, future = self._answer_later()
                if result.HasField("answer"):
                    future.set_result(wire.SubmitResponse.FromString(result.answer.SerializeToString()))
                else:
                    future.set_exception(PassedOn(Status.FromString(result.refusal)))
                    future.exception()  # retrieved, so that no warning is logged if nobody asks for it
                result.answer.CopyFrom(wire.SubmitResponse(later=later))
                answer_bytes = result.ByteSize()
            size += answer_bytes
        return wire.SubmitManyResponse(results=results)

    async def _result(self, write: wire.SubmitRequest) -> wire.WriteResult:
        try:
            return wire.WriteResult(answer=await self._submit(write))
        except Exception as error:
            if code_of(error) is grpc.StatusCode.INTERNAL:
                _log.error("write %s failed", write.call_id, exc_info=error)
            status = status_of(error, write.call_id, OWN_DETAILS_BYTES)
            return wire.WriteResult(refusal=status.SerializeToString())

    async def Follow(self, request: wire.FollowRequest, context: object) -> AsyncIterator[wire.FollowResponse]:
        """Send hints until the caller leaves or the server ends the stream."""
        follower = self._feed.follow()
        try:
            while True:
                hints = list((await follower.take(SIGN_OF_LIFE_S)).items())
                for start in range(0, max(len(hints), 1), HINTS_PER_MESSAGE):
                    yield wire.FollowResponse(
                        hints=[
                            wire.Hint(execution_id=execution_id, revision=hint.revision, resting=hint.resting)
                            for execution_id, hint in hints[start : start + HINTS_PER_MESSAGE]
                        ]
                    )
        finally:
            self._feed.leave(follower)
