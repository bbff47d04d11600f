"""One stream to one engine, from Hello to its end.

Three tasks use it. One only reads: a read with a timeout would end the whole call at the timeout. One writes everything
that has been added since its last write, so that batches grow with the load and nothing waits for a full batch. One
keeps time: it sends heartbeats, and ends the stream if the engine is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from enum import Enum

import grpc

from dalsegno.rpc import convert
from dalsegno.rpc.call_end import CallEnd, error_of
from dalsegno.rpc.channel import was_never_sent
from dalsegno.rpc.failure import read_failure
from dalsegno.v1.executor_service_pb2 import (
    ConnectRequest,
    ConnectResponse,
    Credit,
    DeliveryReference,
    Goodbye,
    Heartbeat,
    Hello,
    Inventory,
    RunAction,
    TaskDoneBatch,
    Welcome,
)
from dalsegno.v1.executor_service_pb2_grpc import ExecutorServiceStub
from dalsegno.worker.session import Session

WELCOME_WITHIN_S = 10.0
"""The time in which an engine must send Welcome."""

GOODBYE_WITHIN_S = 5.0
"""The time in which an engine must end a stream after Goodbye."""

_log = logging.getLogger(__name__)


class Ended(Enum):
    """How a stream ended."""

    CLOSED = "the engine ended it after Goodbye"
    BROKEN = "it broke"
    SUPERSEDED = "a newer session has replaced this one"
    REPLACED = "the session has another stream to this engine"


class Stream:
    """One stream. Call `run` once."""

    def __init__(self, session: Session, engine: str, channel: grpc.aio.Channel) -> None:
        self.welcomed = False
        self._session = session
        self._engine = engine
        self._call = ExecutorServiceStub(channel).Connect()
        self._end = CallEnd(self._call)
        self._wake = asyncio.Event()
        self._begun = asyncio.Event()
        self._heartbeat_s = WELCOME_WITHIN_S
        self._silence_s = WELCOME_WITHIN_S
        """An engine without a message for this time counts as gone."""
        self._heard_s = time.monotonic()
        self._engine_offset_s = 0.0
        """The engine's time minus the monotonic time of this process."""
        self._heartbeat_due = False
        self._goodbye: Goodbye | None = None
        self._goodbye_by_s = 0.0
        self._closed = False
        self.is_unreached = False
        """Whether it ended because there is no connection to the engine."""
        self.reason = ""
        """Why it ended; empty while it is open, and when it ended in order."""
        self.engine_id = ""
        """The engine that sent Welcome."""
        self._has_left = False
        """Whether nothing more is taken from the engine, because it has ended."""
        self._ended = asyncio.Event()
        self._inventories: list[str] = []
        """The ended engines of which to tell what the session has."""
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def releases(self) -> bool:
        """Return whether its Goodbye gives back the actions of the session."""
        return self._closed and self._goodbye is not None and self._goodbye.release

    def say_goodbye(self, reason: str, *, release: bool, within_s: float) -> None:
        """End the stream when its outcomes are acknowledged, at the latest after `within_s` seconds."""
        if self._goodbye is None:
            self._goodbye = Goodbye(release=release, reason=reason)
            self._goodbye_by_s = time.monotonic() + within_s
            self._wake.set()
            asyncio.get_running_loop().call_later(within_s, self._wake.set)

    async def run(self) -> Ended:
        """Open the stream and serve it until its end."""
        helpers = [asyncio.create_task(self._write()), asyncio.create_task(self._keep_time())]
        ended = Ended.BROKEN
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                assert isinstance(message, ConnectResponse)
                self._heard_s = time.monotonic()
                if self._has_left:
                    break
                self._take(message)
            ended = await self._read_end()
        except grpc.aio.AioRpcError as error:
            ended = self._read_end_error(await self._end.correct(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            ended = Ended.CLOSED if self._closed else Ended.BROKEN  # this side ended it
        finally:
            for helper in helpers:
                helper.cancel()
            self._call.cancel()  # the end of the loop does not end the call
            self._disconnect()
            self._ended.set()
            await asyncio.gather(*helpers, return_exceptions=True)
        _log.info("stream ended: %s", ended.value, extra={"engine": self._engine, "reason": self.reason})
        return ended

    async def _read_end(self) -> Ended:
        """Return how the engine ended the stream: with or without an error."""
        error = await error_of(self._call)
        if error.code() is not grpc.StatusCode.OK:
            return self._read_end_error(await self._end.correct(error))
        return Ended.CLOSED if self._closed else Ended.BROKEN

    def _read_end_error(self, error: grpc.aio.AioRpcError) -> Ended:
        self.reason = f"{error.code().name}: {error.details()}"
        self.is_unreached = was_never_sent(error)
        if error.code() is grpc.StatusCode.ABORTED:
            return Ended.REPLACED if read_failure(error).reason == "STREAM_SUPERSEDED" else Ended.SUPERSEDED
        return Ended.CLOSED if self._closed else Ended.BROKEN

    def _take(self, message: ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "run_action":
                for order in message.run_action.actions:
                    self._session.accept(order, self._engine, self._timeout_s(order))
                self._wake.set()  # for credit
            case "ack":
                for ack in message.ack.acks:
                    self._session.acknowledge(ack)
                if self._goodbye is not None:
                    self._wake.set()
            case "cancel_action":
                cancel = message.cancel_action
                key = cancel.action_execution_id, cancel.delivery
                stopped = self._session.runner.stop(key, cancel.reason or "cancelled")
                _log.debug("%s: cancel %s.%s: %s", self._engine, *key, "stopped" if stopped else "not running")
            case "welcome":
                self._begin(message.welcome)
            case "inventory":
                leaving = asyncio.create_task(self._prepare_inventory(message.inventory.engine_id))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            case "drain":
                grace_s = message.drain.grace.ToTimedelta().total_seconds()
                _log.info("the engine is stopping", extra={"engine": self._engine, "grace_s": grace_s})
                self.say_goodbye("the engine is stopping", release=False, within_s=grace_s / 2)

    def wake(self) -> None:
        """Send what there is to send."""
        self._wake.set()

    async def leave(self) -> None:
        """Take nothing more from the engine, which has ended, and end the stream."""
        self._has_left = True
        self.reason = "another engine says that this one has ended"
        self._call.cancel()
        await self._ended.wait()

    async def _prepare_inventory(self, engine_id: str) -> None:
        """Leave an engine that has ended, then tell what the session has: nothing more can arrive from there."""
        _log.info("engine %s has ended, says %s", engine_id, self.engine_id)
        await self._session.leave(engine_id)
        self._inventories.append(engine_id)
        self._wake.set()

    def _timeout_s(self, order: RunAction) -> float | None:
        """Return the time that the action has from now on; None: no limit."""
        if order.HasField("time_left"):
            return convert.length_s(order.time_left)
        if not order.HasField("deadline"):
            return None
        # An older engine, which does not send `time_left`.
        return convert.seconds_of(order.deadline) - (time.monotonic() + self._engine_offset_s)

    def _begin(self, welcome: Welcome) -> None:
        lease_s = welcome.lease.ToTimedelta().total_seconds()
        self._heartbeat_s = welcome.heartbeat.ToTimedelta().total_seconds() or self._heartbeat_s
        self._silence_s = max(lease_s, 3 * self._heartbeat_s)
        self._engine_offset_s = convert.seconds_of(welcome.now) - time.monotonic()
        if self._session.has_ended(welcome.engine_id):
            self.reason = "this engine has ended"
            self._has_left = True
            self._call.cancel()
            return
        for reference in welcome.superseded:
            self._session.forget((reference.action_execution_id, reference.delivery))
        self.welcomed = True
        self.engine_id = welcome.engine_id
        self._session.engines_met[self._engine] = welcome.engine_id
        self._begun.set()
        self._session.metrics.streams.inc()
        self._session.connect(self._engine, self)
        facts = {"engine": self._engine, "engine_id": welcome.engine_id, "session": self._session.id}
        _log.info("stream open", extra={**facts, "lease_s": lease_s, "superseded": len(welcome.superseded)})

    def _disconnect(self) -> None:
        self._session.engines_met.pop(self._engine, None)
        self._session.slots.disconnect(self._engine, time.monotonic())
        self._session.disconnect(self._engine)
        if self.welcomed:
            self._session.metrics.streams.dec()

    async def _write(self) -> None:
        try:
            await self._call.write(ConnectRequest(hello=self._hello()))
            while not self._closed:
                await self._wake.wait()
                self._wake.clear()
                if not self.welcomed:
                    continue
                for message in self._gather():
                    await self._call.write(message)
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            # The reader also sees the end, and logs the reason.
            _log.debug("%s: writing ended: %s", self._engine, error)
        except Exception:
            _log.exception("%s: a message could not be written", self._engine)
            self.reason = "a message could not be written"
            self._call.cancel()  # otherwise the reader waits without a limit

    def _hello(self) -> Hello:
        session = self._session
        credit = 0 if session.leaving else session.slots.connect(self._engine, time.monotonic())
        return Hello(
            executor_id=session.executor_id,
            session_id=session.id,
            actions=session.actions,
            slots=session.slots.total,
            labels=session.labels,
            in_flight=_references(session),
            credit=credit,
            answers_inventory=True,
        )

    def _gather(self) -> Iterator[ConnectRequest]:
        """Yield the messages to send, until there are no more."""
        session = self._session
        while self._inventories:
            inventory = Inventory(engine_id=self._inventories.pop(0), in_flight=_references(session))
            yield ConnectRequest(inventory=inventory)
        while told := session.telling.take(self._engine):
            yield ConnectRequest(task_done=TaskDoneBatch(outcomes=told))
        while batch := session.outbox.take(self._engine):
            yield ConnectRequest(task_done=TaskDoneBatch(outcomes=batch))
        if self._goodbye is None and not session.leaving:
            more = session.slots.extend(self._engine, time.monotonic(), at_once=self._heartbeat_due)
            if more:
                yield ConnectRequest(credit=Credit(more=more))
        if self._heartbeat_due:
            self._heartbeat_due = False
            heartbeat = Heartbeat()
            heartbeat.now.GetCurrentTime()
            yield ConnectRequest(heartbeat=heartbeat)
        if self._goodbye is not None and not self._closed and self._may_close():
            self._closed = True
            session.disconnect(self._engine)
            self._silence_s = GOODBYE_WITHIN_S
            yield ConnectRequest(goodbye=self._goodbye)

    def _may_close(self) -> bool:
        return time.monotonic() >= self._goodbye_by_s or not self._session.outbox.carried_by(self._engine)

    async def _keep_time(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WELCOME_WITHIN_S):
                await self._begun.wait()
        while time.monotonic() - self._heard_s < self._silence_s:
            self._heartbeat_due = self.welcomed
            self._wake.set()
            # Earlier than required, because messages are delayed under load.
            await asyncio.sleep(min(0.8 * self._heartbeat_s, self._silence_s / 3))
        self.reason = f"no message for {self._silence_s:.1f} s"
        self._call.cancel()


def _references(session: Session) -> list[DeliveryReference]:
    return [DeliveryReference(action_execution_id=key[0], delivery=key[1]) for key in session.in_flight()]
