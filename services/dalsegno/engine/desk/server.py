"""EngineService: receives writes from api and returns hints (dalsegno/README.md#one-request, rows 2 and 6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc

from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.desk.later import LaterAnswers
from dalsegno.engine.desk.operations import Call
from dalsegno.engine.desk.requests import AnswerCall
from dalsegno.engine.desk.writes import writes
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.feed import Feed
from dalsegno.expressions.pool_client import POOL
from dalsegno.rpc import sizes
from dalsegno.rpc.errors import OWN_DETAILS_BYTES, code_of, status_of
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc
from dalsegno.workflow.refusals import InvalidRequest

_log = logging.getLogger(__name__)


SIGN_OF_LIFE_S = 10.0
TOGETHER_BYTES_MAX = sizes.MESSAGE_BYTES_MAX
"""The maximum of answers that travel together, in bytes. The caller asks for the others one by one."""
TOGETHER_S = 0.1
"""How long after the first answer others still travel with it, in seconds: a quick write does not wait for slow ones.
The caller asks for those one by one."""

HINTS_PER_MESSAGE = 1_000


class EngineServer(engine_service_pb2_grpc.EngineServiceServicer):
    """Passes each write to the conductor and waits for its commit."""

    def __init__(self, conductor: Conductor, feed: Feed, callbacks: Callbacks) -> None:
        self._conductor = conductor
        self._feed = feed
        self._writes = writes(callbacks)
        self._later = LaterAnswers()

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
        on_later = self._later.open if request.takes_later else None
        self._conductor.request(AnswerCall(write, operation, call, future, on_later))
        return await future

    async def Await(self, request: wire.AwaitRequest, context: object) -> wire.AwaitResponse:
        """Wait for the answer of a write that takes longer."""
        return wire.AwaitResponse(answer=await self._later.take(request.later))

    async def SubmitMany(self, request: wire.SubmitManyRequest, context: object) -> wire.SubmitManyResponse:
        """Carry out several writes. Each gets its own answer or refusal."""
        tasks = [asyncio.create_task(self._result(write)) for write in request.writes]
        writes = list(zip(request.writes, tasks, strict=True))
        try:
            if tasks:
                _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if pending:
                    await asyncio.wait(pending, timeout=TOGETHER_S)
            await asyncio.gather(*(task for write, task in writes if not (write.takes_later or task.done())))
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        results: list[wire.WriteResult] = []
        size = 0
        for write, task in writes:
            answer_bytes = task.result().ByteSize() if task.done() else 0
            if write.takes_later and (not task.done() or (size and size + answer_bytes > TOGETHER_BYTES_MAX)):
                result = wire.WriteResult(answer=wire.SubmitResponse(later=self._later.postpone(task)))
                answer_bytes = result.ByteSize()
            else:
                result = task.result()
            size += answer_bytes
            results.append(result)
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
