"""The engine's side of one stream: sends, and records all that comes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from dalsegno.rpc.errors import DOMAIN, trailing_metadata
from dalsegno.v1 import executor_service_pb2 as wire

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest message of an executor that the contract allows."""

ENDING = frozenset(
    {
        wire.TASK_OUTCOME_SUCCEEDED,
        wire.TASK_OUTCOME_FAILED,
        wire.TASK_OUTCOME_CANCELLED,
        wire.TASK_OUTCOME_DELEGATED,
    }
)
"""The outcomes after which an action needs no slot."""

Key = tuple[str, int]
"""An action execution and a delivery."""


class Line:
    """One stream. It records messages until its end, and counts the credit."""

    def __init__(self, hello: wire.ConnectRequest, context: Any) -> None:
        self.first = hello
        self.hello = hello.hello
        self.credit = self.hello.credit
        self.outcomes: list[wire.TaskDone] = []
        self.arrivals_s: list[float] = [time.monotonic()]
        """When messages have come, by the monotonic clock."""
        self.goodbye: wire.Goodbye | None = None
        self.inventories: list[wire.Inventory] = []
        self.is_closed = False
        """Whether nothing more can come."""
        self.acknowledges = False
        """Whether each outcome is acknowledged at once."""
        self.broken_rules: list[str] = []
        """Rules that hold for every message and that one has broken."""
        self.ended: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()
        self._context = context
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter()

    @property
    def in_flight(self) -> list[Key]:
        """Return the deliveries that Hello lists."""
        return [(each.action_execution_id, each.delivery) for each in self.hello.in_flight]

    async def send(self, **message: Any) -> None:
        """Send a message; a stream that has ended takes none."""
        await self.write(wire.ConnectResponse(**message))

    async def write(self, message: wire.ConnectResponse) -> None:
        """Send a message as it is."""
        async with self._writing:
            if not self.is_closed and not self.ended.done():
                with contextlib.suppress(grpc.aio.BaseError):  # the executor has just ended the stream
                    await self._context.write(message)

    def beat(self, pause_s: float) -> None:
        """Send heartbeats from now on."""
        self._beating = asyncio.create_task(self._beat(pause_s))

    async def _beat(self, pause_s: float) -> None:
        while not self.is_closed:
            await asyncio.sleep(pause_s)
            heartbeat = wire.Heartbeat()
            heartbeat.now.GetCurrentTime()
            await self.send(heartbeat=heartbeat)

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, reason: str = "") -> None:
        """End the stream with a status, and with its reason for programs."""
        if not self.ended.done():
            self.ended.set_result((code, reason))

    async def close(self) -> None:
        """Return the status to the executor; called by the server at the end of the stream."""
        try:
            code, reason = await self.ended
        finally:
            self.is_closed = True
            if self._beating is not None:
                self._beating.cancel()
            self._changed.set()
        if code is not grpc.StatusCode.OK:
            status = Status(code=code.value[0], message=f"{reason}: the check ends the stream")
            status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN))
            await self._context.abort(code, status.message, trailing_metadata(status))

    async def read(self, requests: AsyncIterator[wire.ConnectRequest]) -> None:
        """Record what comes, until the executor ends its side."""
        with contextlib.suppress(grpc.RpcError, grpc.aio.BaseError):
            async for request in requests:
                self._take(request)
                if self.acknowledges and request.task_done.outcomes:
                    await self.send(ack=acknowledgement(request.task_done.outcomes))
                if self.goodbye is not None:
                    break
        self.is_closed = True
        self._changed.set()
        self.end()

    def _take(self, request: wire.ConnectRequest) -> None:
        kind = request.WhichOneof("message")
        self.arrivals_s.append(time.monotonic())
        self._counts[kind or "an empty message"] += 1
        if (size := request.ByteSize()) > MESSAGE_BYTES_MAX:
            self.broken_rules.append(f"a message of {size:,} bytes, at most {MESSAGE_BYTES_MAX:,}")
        match kind:
            case "hello":
                self.broken_rules.append("a second Hello on one stream")
            case "credit":
                if request.credit.more < 1:
                    self.broken_rules.append(f"a Credit of {request.credit.more}, at least 1")
                self.credit += request.credit.more
            case "task_done":
                if not request.task_done.outcomes:
                    self.broken_rules.append("a batch without outcomes")
                for done in request.task_done.outcomes:
                    self.broken_rules += wrong_fields(done)
                    self.outcomes.append(done)
            case "goodbye":
                self.goodbye = request.goodbye
            case "inventory":
                self.inventories.append(request.inventory)
        self._changed.set()

    async def until(self, holds: Callable[[], object], within_s: float) -> bool:
        """Return whether it holds within the time: now, or after a message. The end of the stream ends the wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not holds() and not self.is_closed:
                    self._changed.clear()
                    await self._changed.wait()
        return bool(holds())

    def summary(self) -> str:
        """Return in words what has come on this stream after Hello."""
        told = [f"{kind} x{count}" for kind, count in self._counts.items() if kind != "task_done"]
        told += [describe(done) for done in self.outcomes[-3:]]
        return ", ".join(told) + (", then the end of the stream" if self.is_closed else "") or "nothing"


def acknowledgement(outcomes: Iterable[wire.TaskDone]) -> wire.AckBatch:
    """Return the message that acknowledges outcomes as stored."""
    return wire.AckBatch(
        acks=[
            wire.Ack(
                action_execution_id=done.action_execution_id,
                delivery=done.delivery,
                verdict=wire.ACK_VERDICT_ACCEPTED,
                outcome=done.outcome,
            )
            for done in outcomes
        ]
    )


def wrong_fields(done: wire.TaskDone) -> list[str]:
    """Return what breaks the rules of an outcome's fields."""
    outcome = done.outcome
    rules = {
        "an outcome without a delivery": done.delivery < 1,
        "an outcome that is not set": outcome == wire.TASK_OUTCOME_UNSPECIFIED,
        "a negative `elapsed`": done.elapsed.ToNanoseconds() < 0,
        "an `error` with SUCCEEDED": bool(done.error) and outcome == wire.TASK_OUTCOME_SUCCEEDED,
        "a `result` with CANCELLED or DELEGATED": bool(done.result)
        and outcome in (wire.TASK_OUTCOME_CANCELLED, wire.TASK_OUTCOME_DELEGATED),
        "an `alias` without DELEGATED": bool(done.alias) and outcome != wire.TASK_OUTCOME_DELEGATED,
        "an `error` of more than 65,536 characters": len(done.error) > 65_536,
        "an `alias` of more than 255 characters": len(done.alias) > 255,
        "NUL in a text": "\0" in done.error + done.alias,
        "`progress` without RUNNING": done.HasField("progress") and outcome != wire.TASK_OUTCOME_RUNNING,
    }
    return [f"{rule} ({describe(done)})" for rule, is_broken in rules.items() if is_broken]


def describe(done: wire.TaskDone) -> str:
    """Return an outcome in a few words."""
    name = _short_name(done)
    value = done.error or done.result or done.alias
    shown = f" {value[:60]}{'...' if len(value) > 60 else ''}" if value else ""
    return f"{name} of {done.action_execution_id[-14:]} delivery {done.delivery}{shown}"


def _short_name(done: wire.TaskDone) -> str:
    try:
        return wire.TaskOutcome.Name(done.outcome).removeprefix("TASK_OUTCOME_")
    except ValueError:
        return f"outcome {done.outcome}"


M = TypeVar("M", bound=Message)


def with_unknown_field(message: M) -> M:
    """Return a message with a field 1000 that no version has, as a newer engine may send it."""
    grown = type(message)()
    grown.MergeFromString(message.SerializeToString() + b"\xc2\x3e\x05hello")
    return grown
