"""EngineService: writes from api, and hints back (DESIGN.md section 7, rows 2 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dalsegno.engine import controls, library, starts
from dalsegno.engine.conductor import Conductor
from dalsegno.engine.feed import Feed
from dalsegno.engine.requests import Asked, Request
from dalsegno.engine.tokens import Tokens
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc
from dalsegno.workflow.refusals import InvalidRequest

KINDS = {**starts.KINDS, **controls.KINDS, **library.KINDS}
"""Every write that Submit takes."""

SIGN_OF_LIFE_S = 10.0
HINTS_PER_MESSAGE = 1_000


class EngineServer(engine_service_pb2_grpc.EngineServiceServicer):
    """Puts each write before the conductor and waits for its commit."""

    def __init__(self, conductor: Conductor, feed: Feed, tokens: Tokens) -> None:
        self._conductor = conductor
        self._feed = feed
        self._tokens = tokens

    async def Submit(self, request: wire.SubmitRequest, context: Any) -> wire.SubmitResponse:
        """One write."""
        name = request.WhichOneof("write")
        if name is None:
            raise InvalidRequest.of("write", "is missing")
        future: asyncio.Future[wire.SubmitResponse] = asyncio.get_running_loop().create_future()
        asked = Asked(getattr(request, name), request.actor, self._tokens)
        kind = KINDS[name]
        if kind.prepare is not None:
            asked.prepared = await asyncio.to_thread(kind.prepare, asked.request)
        self._conductor.request(Request(name, kind, asked, future))
        return await future

    async def Follow(self, request: wire.FollowRequest, context: Any) -> AsyncIterator[wire.FollowResponse]:
        """Hints, until the caller goes or the server ends the stream."""
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
