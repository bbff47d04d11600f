"""Answers that take longer than the call that asked for them: the caller gets a name, and asks by it."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

from google.rpc.status_pb2 import Status

from dalsegno.rpc.errors import PassedOn
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.workflow.refusals import Unavailable

UNCLAIMED_S = 10.0
"""How long an answer is kept for its caller, in seconds."""

_LOST = "the engine has no answer to this write any more, and it may have been made; repeat it with its request id"

Answering = asyncio.Future[wire.SubmitResponse]


class LaterAnswers:
    """The answers that nobody has asked for yet. All methods run on the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, Answering] = {}

    def open(self) -> tuple[str, Answering]:
        """Return a name and a future for an answer. It is dropped if nobody asks for it."""
        loop = asyncio.get_running_loop()
        name, future = uuid.uuid4().hex, loop.create_future()
        self._waiting[name] = future
        loop.call_later(UNCLAIMED_S, self._give_up, name)
        return name, future

    async def take(self, name: str) -> wire.SubmitResponse:
        """Wait for an answer, and return it. Raises Unavailable when it is not here, or the refusal."""
        future = self._waiting.pop(name, None)
        if future is None:
            raise Unavailable(_LOST)
        return await future

    def postpone(self, task: asyncio.Task[wire.WriteResult]) -> str:
        """Return a name for the result of a task. It is cancelled if nobody asks for it, or if who asks leaves."""
        name, future = self.open()
        future.add_done_callback(lambda answering: task.cancel() if answering.cancelled() else None)
        task.add_done_callback(partial(self._give, future))
        return name

    def _give(self, future: Answering, task: asyncio.Task[wire.WriteResult]) -> None:
        if task.cancelled() or future.done():
            return
        result = task.result()
        if result.HasField("refusal"):
            future.set_exception(PassedOn(Status.FromString(result.refusal)))
            future.exception()  # retrieved, so that no warning is logged if nobody asks for it
        elif result.answer.later:
            self._chain(result.answer.later, future)
        else:
            future.set_result(result.answer)

    def _chain(self, name: str, future: Answering) -> None:
        """Let the caller that waits for one answer get the one that is kept under another name."""
        inner = self._waiting.pop(name, None)
        if inner is None:
            future.set_exception(Unavailable(_LOST))
            future.exception()
            return

        def give(inner: Answering) -> None:
            if inner.cancelled() or future.done():
                return
            error = inner.exception()
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(inner.result())

        inner.add_done_callback(give)
        future.add_done_callback(lambda answering: inner.cancel() if answering.cancelled() else None)

    def _give_up(self, name: str) -> None:
        future = self._waiting.pop(name, None)
        if future is not None:
            future.cancel()
