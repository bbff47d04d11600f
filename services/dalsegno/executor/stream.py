"""The stream to one engine: opened again whenever it breaks, read in one task, written in another.

Hello ──▶ Welcome ──▶ RunAction, CancelAction, Ack … ◀──▶ … TaskDone, Credit, Heartbeat ──▶ Goodbye
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any, Protocol

import grpc

from dalsegno.rpc import convert
from dalsegno.rpc.channel import call_metadata, open_channel
from dalsegno.rpc.failure import describe
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2_grpc

_log = logging.getLogger("dalsegno.executor")

BACK_OFF_S = 0.1
BACK_OFF_S_MAX = 5.0
LEAVE_S = 2.0
"""How long an engine has to end the stream after a Goodbye."""


class Worker(Protocol):
    """What a stream needs of the executor that it belongs to."""

    def hello(self, engine: str) -> wire.Hello: ...
    def welcomed(self, engine: str, welcome: wire.Welcome) -> None: ...
    def run(self, engine: str, actions: list[wire.RunAction], clock_offset_s: float) -> None: ...
    def cancel(self, order: wire.CancelAction) -> None: ...
    def acknowledge(self, acks: list[wire.Ack]) -> None: ...
    def next_messages(self, engine: str) -> list[wire.ConnectRequest]: ...
    def broken(self, engine: str) -> None: ...


class Stream:
    """Works for one engine until it is told to leave."""

    def __init__(self, engine: str, worker: Worker) -> None:
        self.engine = engine
        self.is_open = False
        self.superseded = False
        """Whether a newer session of this executor has taken its place."""
        self._worker = worker
        self._filled = asyncio.Event()
        self._leaving = False
        self._heartbeat_s = 5.0
        self._offset_s = 0.0

    def wake(self) -> None:
        """There is something to write."""
        self._filled.set()

    def leave(self) -> None:
        """Say Goodbye once everything is written, and do not come back."""
        self._leaving = True
        self._filled.set()

    async def run(self) -> None:
        """Connect, work, and connect again until told to leave."""
        wait_s = BACK_OFF_S
        async with open_channel(self.engine) as channel:
            stub = executor_service_pb2_grpc.ExecutorServiceStub(channel)
            while not self._leaving and not self.superseded:
                if await self._connect(stub):
                    wait_s = BACK_OFF_S
                if self._leaving or self.superseded:
                    return
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))
                wait_s = min(wait_s * 2, BACK_OFF_S_MAX)

    async def _connect(self, stub: Any) -> bool:
        """One stream from Hello to its end. True when the engine had welcomed us."""
        call = stub.Connect(metadata=call_metadata())
        welcomed = False
        writing: asyncio.Task[None] | None = None
        try:
            await call.write(wire.ConnectRequest(hello=self._worker.hello(self.engine)))
            while (message := await call.read()) is not grpc.aio.EOF:
                if not welcomed:
                    self._greet(message)
                    welcomed = True
                    writing = asyncio.create_task(self._write(call))
                else:
                    self._take(message)
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                self._tell(code, await call.details())
        except grpc.aio.AioRpcError as error:
            self._tell(error.code(), describe(error))
        finally:
            call.cancel()
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            if welcomed:
                self.is_open = False
                self._worker.broken(self.engine)
        return welcomed

    def _greet(self, message: wire.ConnectResponse) -> None:
        welcome = message.welcome
        self._heartbeat_s = convert.length_s(welcome.heartbeat) or self._heartbeat_s
        self._offset_s = convert.seconds_of(welcome.now) - time.time() if welcome.HasField("now") else 0.0
        self.is_open = True
        _log.info("connected", extra={"engine": self.engine, "engine_id": welcome.engine_id})
        self._worker.welcomed(self.engine, welcome)

    def _take(self, message: wire.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "run_action":
                self._worker.run(self.engine, list(message.run_action.actions), self._offset_s)
                self._filled.set()
            case "ack":
                self._worker.acknowledge(list(message.ack.acks))
            case "cancel_action":
                self._worker.cancel(message.cancel_action)
            case "drain":
                _log.info("the engine is being stopped", extra={"engine": self.engine})
                self._filled.set()

    def _tell(self, code: grpc.StatusCode, details: str | None) -> None:
        self.superseded = code is grpc.StatusCode.ABORTED
        level = logging.ERROR if self.superseded else logging.INFO
        _log.log(level, "stream ended: %s", details or code.name, extra={"engine": self.engine, "code": code.name})

    async def _write(self, call: Any) -> None:
        """Write what there is, as much as there is; a heartbeat when there has been nothing."""
        while True:
            self._filled.clear()
            for message in self._worker.next_messages(self.engine):
                await call.write(message)
            if self._leaving:
                await call.write(wire.ConnectRequest(goodbye=wire.Goodbye(reason="the executor is being stopped")))
                await asyncio.sleep(LEAVE_S)
                call.cancel()
                return
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._filled.wait()
            except TimeoutError:
                now = convert.timestamp(time.time() + self._offset_s)
                await call.write(wire.ConnectRequest(heartbeat=wire.Heartbeat(now=now)))
