"""Writes: the public request itself goes to an engine, with the caller; the engine's answer or refusal comes back.

Writes that arrive during a call to an engine are sent in one batch: one call for many costs as much as two calls
(api/lanes.py). Operations of one execution go to one engine, which has it in memory. A write without an answer is sent
to another engine if it can be made only once: it has a request id, or it did not arrive.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from dalsegno.access.callers import ANYBODY, current
from dalsegno.api.homes import Homes
from dalsegno.api.lanes import Lane, Pending
from dalsegno.rpc.channel import actor_in, call_metadata, has_no_answer, was_never_sent
from dalsegno.rpc.errors import MADE, PassedOn
from dalsegno.rpc.failure import status_in
from dalsegno.rpc.logs import request_id
from dalsegno.rpc.peers import Peer, Peers
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.workflow.refusals import NotBegun, Overloaded

DEADLINE_S = 30.0

WAITING_MAX = 20_000
WAITING_BYTES_MAX = 256 * 1024 * 1024
"""The writes without an answer, and their bytes. A further one is refused, unless it is the only one."""

SLOW = frozenset({"create_definitions"})
"""Writes that take the engine longer. As large ones, they are sent in calls of their own: no other write waits for
them."""

Answer = TypeVar("Answer", bound=Message)


class Writes:
    """Sends writes to the engines."""

    def __init__(self, engines: Peers, homes: Homes) -> None:
        """`homes` knows which engine has an execution in memory."""
        self._engines = engines
        self._homes = homes
        self._lanes: WeakKeyDictionary[Peer, Lane] = WeakKeyDictionary()
        self._count = 0
        self._bytes = 0

    async def submit(self, name: str, request: Message, context: Any, kind: type[Answer]) -> Answer:
        """Make the write `name` of SubmitRequest. A refusal of the engine is raised unchanged.

        It waits for an engine until the caller's deadline, so that a restart of an engine is not an error. Raises
        Overloaded when too many writes wait.
        """
        write = wire.SubmitRequest(actor=actor_of(context), call_id=request_id.get(), takes_later=True)
        getattr(write, name).CopyFrom(request)
        size = write.ByteSize()
        if self._count and (self._count >= WAITING_MAX or self._bytes + size > WAITING_BYTES_MAX):
            raise Overloaded(f"{self._count} writes wait for the engine; try again later")
        remaining_s = context.time_remaining()
        ends_s = asyncio.get_running_loop().time() + (DEADLINE_S if remaining_s is None else remaining_s)
        self._count += 1
        self._bytes += size
        try:
            response = await self._send(Pending(write, size, ends_s, is_alone=name in SLOW), request)
        finally:
            self._count -= 1
            self._bytes -= size
        answer = getattr(response, name)
        assert isinstance(answer, kind)
        return answer

    async def _send(self, pending: Pending, request: Message) -> wire.SubmitResponse:
        """Send a write to one engine after another, until one has answered or it must not be sent again."""
        execution_id, may_repeat = _execution_of(request), _can_be_repeated(request)
        while True:
            peer = await self._engines.choose(execution_id, self._homes.of(execution_id), pending.ends_s)
            try:
                return await self._ask(peer, pending)
            except grpc.aio.AioRpcError as error:
                if (
                    error.code() is grpc.StatusCode.UNAUTHENTICATED
                ):  # the engine does not know this api; the caller is known
                    raise NotBegun(f"the engine refuses this api: {error.details()}") from None
                if has_no_answer(error):
                    peer.lost(f"a call got no answer ({error.code().name})")
                    if not may_repeat and not was_never_sent(error):
                        raise
                    continue
                if not self._is_for_another(peer, status_in(error), may_repeat):
                    raise
            except PassedOn as error:
                if not self._is_for_another(peer, error.status, may_repeat):
                    raise

    async def _ask(self, peer: Peer, pending: Pending) -> wire.SubmitResponse:
        lane = self._lanes.get(peer)
        if lane is None:
            lane = self._lanes[peer] = Lane(peer)
        response = await lane.send(pending)
        if response.later:  # awaited in a separate call, without delaying other writes
            timeout_s = max(0.0, pending.ends_s - asyncio.get_running_loop().time())
            call = lane.engine.Await(
                wire.AwaitRequest(later=response.later), timeout=timeout_s, metadata=call_metadata()
            )
            response = (await lane.answer_of(call)).answer
        return response

    def _is_for_another(self, peer: Peer, status: Status | None, may_repeat: bool) -> bool:
        """Return whether a write that an engine has refused goes to another one: it stops, or lacks its store."""
        if status is None or status.code != grpc.StatusCode.UNAVAILABLE.value[0]:
            return False
        peer.refused()
        info = ErrorInfo()
        made = any(each.Unpack(info) for each in status.details) and info.metadata.get(MADE, "")
        return (may_repeat or made == "no") and self._engines.is_ready


def _execution_of(request: Message) -> str:
    """Return the id of the execution that a request is about; empty if it names none."""
    execution_id: str = getattr(request, "execution_id", "")
    return execution_id or getattr(request, "action_execution_id", "").partition(".")[0]


def _can_be_repeated(request: Message) -> bool:
    """Return whether a request that arrives twice is carried out once: the engines know it by its id."""
    return bool(getattr(request, "request_id", "")) or bool(getattr(request, "dry_run", False))


def actor_of(context: Any) -> str:
    """Return the name of the caller. A server that asks for no tokens takes the name that the call gives."""
    if (caller := current.get()) is not ANYBODY:
        return caller.name
    return actor_in(dict(context.invocation_metadata() or ()))
