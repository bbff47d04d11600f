"""Writes: the public request itself goes to the engine, with who asks; the engine's answer or refusal comes back."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from dalsegno.rpc.channel import call_metadata
from dalsegno.v1 import engine_service_pb2, engine_service_pb2_grpc

ACTOR_KEY = "x-dalsegno-actor"
"""The metadata in which a caller says who asks. It is believed: there is no authentication yet."""

ACTOR_LENGTH = 255
DEADLINE_S = 30.0

Answer = TypeVar("Answer", bound=Message)


class Writes:
    """The way to the engine."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._engine = engine_service_pb2_grpc.EngineServiceStub(channel)

    async def submit(self, name: str, request: Message, context: Any, kind: type[Answer]) -> Answer:
        """Make the write called `name` in SubmitRequest. What the engine refuses is raised as it came.

        The engine is waited for as long as the caller waits, so that a restart of it is not an error.
        """
        write = engine_service_pb2.SubmitRequest(actor=actor_of(context))
        getattr(write, name).CopyFrom(request)
        remaining_s = context.time_remaining()
        answer = await self._engine.Submit(
            write,
            timeout=DEADLINE_S if remaining_s is None else remaining_s,
            metadata=call_metadata(),
            wait_for_ready=True,
        )
        found = getattr(answer, name)
        assert isinstance(found, kind)
        return found


def actor_of(context: Any) -> str:
    """Who asks."""
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_KEY:
            return str(value)[:ACTOR_LENGTH].replace("\0", "")
    return ""
