"""An engine as a process of its own, a scripted executor, and a client that submits."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.endpoints import REACHABLE
from tests.ports import free_port
from tests.processes import START_S
from tests.template import Forked, Program, start_forked

from dalsegno.rpc.call_end import CallEnd, error_of
from dalsegno.rpc.channel import open_channel
from dalsegno.store.opening import open_store
from dalsegno.store.records import JournalChange
from dalsegno.v1 import (
    engine_service_pb2,
    engine_service_pb2_grpc,
    executor_service_pb2,
    executor_service_pb2_grpc,
)

wire = executor_service_pb2
ROOT = Path(__file__).parents[2]


@dataclass
class EngineProcess:
    """`python -m dalsegno.engine` on a SQLite file."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: Forked | None = None
    program: str = "dalsegno.engine"
    """A module, or a file."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/store.db"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start, on the same port as before, and wait until it is ready."""
        self.launch()
        assert self.process is not None
        ends_s = time.monotonic() + START_S
        async with open_channel(self.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < ends_s:
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(service="dalsegno.v1.EngineService"))
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.aio.AioRpcError:
                    assert self.process.returncode is None, (self.folder / "engine.log").read_text()
                await asyncio.sleep(0.02)
        raise AssertionError("the engine is not ready")

    def launch(self) -> None:
        """Start, on the same port as before, without waiting."""
        arguments = ["--listen", self.address, "--database", self.url, "--grace-s", "2", *self.options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "services"), **REACHABLE, **self.environment}
        self.process = start_forked(Program(self.program, tuple(arguments), self.folder / "engine.log", environment))

    async def kill(self) -> None:
        """Kill it, as a power failure does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.end()

    async def stop(self) -> int:
        """Stop it, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.end()

    async def end(self) -> int:
        """Wait until it has ended, and return the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait)


@asynccontextmanager
async def running_engine(folder: Path, *options: str) -> AsyncIterator[EngineProcess]:
    engine = EngineProcess(folder, options)
    await engine.start()
    try:
        yield engine
    finally:
        if engine.process is not None and engine.process.returncode is None:
            await engine.kill()


class Client:
    """Submits writes, as api does, and reads the store."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.channel = open_channel(engine.address)
        self.stub = engine_service_pb2_grpc.EngineServiceStub(self.channel)

    async def submit(self, name: str, request: Any) -> Any:
        """Submit one write; wait for the engine when it does not run yet."""
        answer = await self.stub.Submit(
            engine_service_pb2.SubmitRequest(actor="tester", **{name: request}), wait_for_ready=True, timeout=30
        )
        return getattr(answer, name)

    def read(self, look: Callable[[Any], Any]) -> Any:
        store = open_store(self.engine.url, read_only=True)
        try:
            with store.read() as queries:
                return look(queries)
        finally:
            store.close()

    def journal(self, execution_id: str) -> list[JournalChange]:
        return self.read(lambda queries: queries.journal(execution_id, limit=1_000_000))  # type: ignore[no-any-return]

    async def wait(self, execution_id: str, *states: str, timeout_s: float = 30.0) -> Any:
        """Return the row of an execution when it is in one of these states (none: completed)."""
        wanted = states or ("SUCCESS", "ERROR", "CANCELLED")
        for _ in range(int(timeout_s / 0.02)):
            row = self.read(lambda queries: queries.execution(execution_id))
            if row is not None and row.state in wanted:
                return row
            await asyncio.sleep(0.02)
        raise AssertionError(f"execution {execution_id} is {row.state if row else 'not there'}, not {wanted}")

    async def close(self) -> None:
        await self.channel.close()


@asynccontextmanager
async def client_of(engine: EngineProcess) -> AsyncIterator[Client]:
    client = Client(engine)
    try:
        yield client
    finally:
        await client.close()


Script = Callable[[wire.RunAction], wire.TaskDone | None]


def succeed(run: wire.RunAction) -> wire.TaskDone:
    """Let every action succeed with null."""
    return done(run)


def done(run: wire.RunAction, outcome: int = wire.TASK_OUTCOME_SUCCEEDED, **more: Any) -> wire.TaskDone:
    return wire.TaskDone(
        action_execution_id=run.action_execution_id,
        delivery=run.delivery,
        outcome=outcome,  # type: ignore[arg-type]
        **more,
    )


@dataclass
class ScriptedExecutor:
    """Answers actions as its script says, keeps outcomes until they are acknowledged, and reconnects until it is
    closed."""

    address: str
    script: Script = succeed
    executor_id: str = "scripted"
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    actions: tuple[tuple[str, bool], ...] = (("std.noop", True), ("std.echo", True), ("test.unsafe", False))
    slots: int = 100
    labels: dict[str, str] = field(default_factory=dict)
    beats: bool = True
    answers_inventory: bool = False
    tells_inventory: bool = True
    """Whether it does answer."""
    asked: list[str] = field(default_factory=list)
    """The ended engines of which it was asked what it has."""
    received: list[wire.RunAction] = field(default_factory=list)
    cancelled: list[wire.CancelAction] = field(default_factory=list)
    acks: list[wire.Ack] = field(default_factory=list)
    welcomes: list[wire.Welcome] = field(default_factory=list)
    errors: list[grpc.aio.AioRpcError] = field(default_factory=list)
    reported: dict[tuple[str, int], wire.TaskDone] = field(default_factory=dict)
    held: dict[tuple[str, int], wire.RunAction] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _call: Any = None
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> ScriptedExecutor:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        """End without a message."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def say(self, **message: Any) -> None:
        """Write one message to the open stream."""
        await self._write(self._call, wire.ConnectRequest(**message))

    async def _write(self, call: Any, message: wire.ConnectRequest) -> None:
        """Write one message at a time: grpc refuses a second write during one."""
        async with self._writing:
            await call.write(message)

    async def _run(self) -> None:
        while True:
            async with open_channel(self.address) as channel:
                call: Any = executor_service_pb2_grpc.ExecutorServiceStub(channel).Connect(wait_for_ready=True)
                end = CallEnd(call)
                try:
                    await self._serve(call)
                except grpc.aio.AioRpcError as error:
                    self.errors.append(await end.correct(error))
                except asyncio.InvalidStateError:
                    if (ended := await error_of(call)).code() is not grpc.StatusCode.OK:
                        self.errors.append(ended)
                if self.errors and self.errors[-1].code() is grpc.StatusCode.ABORTED:
                    return
            await asyncio.sleep(0.05)

    async def _serve(self, call: Any) -> None:
        self._call = call
        beating: asyncio.Task[None] | None = None
        try:
            await self._write(call, wire.ConnectRequest(hello=self._hello()))
            while (message := await call.read()) is not grpc.aio.EOF:
                if message.WhichOneof("message") == "welcome":
                    self.welcomes.append(message.welcome)
                    beating = asyncio.create_task(
                        self._beat(call, message.welcome.heartbeat.ToTimedelta().total_seconds())
                    )
                    if self.reported:
                        await self._write(call, self._batch(list(self.reported.values())))
                await self._take(call, message)
        finally:
            if beating is not None:
                beating.cancel()
            call.cancel()

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            executor_id=self.executor_id,
            session_id=self.session_id,
            actions=[
                wire.ActionDescription(name=name, safe_to_rerun=safe, accepts_any=True) for name, safe in self.actions
            ],
            slots=self.slots,
            labels=self.labels,
            credit=self.slots - len(self.held),
            in_flight=self._in_flight(),
            answers_inventory=self.answers_inventory,
        )

    def _in_flight(self) -> list[wire.DeliveryReference]:
        return [
            wire.DeliveryReference(action_execution_id=name, delivery=delivery)
            for name, delivery in [*self.held, *self.reported]
        ]

    async def _take(self, call: Any, message: wire.ConnectResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "run_action":
            await self._answer(call, message.run_action.actions)
        elif kind == "ack":
            for ack in message.ack.acks:
                self.acks.append(ack)
                self.reported.pop((ack.action_execution_id, ack.delivery), None)
        elif kind == "cancel_action":
            self.cancelled.append(message.cancel_action)
        elif kind == "inventory":
            self.asked.append(message.inventory.engine_id)
            if self.tells_inventory:
                answer = wire.Inventory(engine_id=message.inventory.engine_id, in_flight=self._in_flight())
                await self._write(call, wire.ConnectRequest(inventory=answer))
        elif kind == "drain":
            await self._write(call, wire.ConnectRequest(goodbye=wire.Goodbye()))

    async def _answer(self, call: Any, runs: Any) -> None:
        outcomes = []
        for run in runs:
            self.received.append(run)
            outcome = self.script(run)
            if outcome is None:
                self.held[run.action_execution_id, run.delivery] = run
            else:
                self.reported[run.action_execution_id, run.delivery] = outcome
                outcomes.append(outcome)
        if outcomes:
            await self._write(call, self._batch(outcomes))
            await self._write(call, wire.ConnectRequest(credit=wire.Credit(more=len(outcomes))))

    def _batch(self, outcomes: list[wire.TaskDone]) -> wire.ConnectRequest:
        return wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=outcomes))

    async def finish(self, run: wire.RunAction, outcome: wire.TaskDone) -> None:
        """Report an action that the script holds."""
        self.held.pop((run.action_execution_id, run.delivery), None)
        self.reported[run.action_execution_id, run.delivery] = outcome
        await self._write(self._call, self._batch([outcome]))
        await self._write(self._call, wire.ConnectRequest(credit=wire.Credit(more=1)))

    async def _beat(self, call: Any, every_s: float) -> None:
        while self.beats:
            await asyncio.sleep(every_s)
            await self._write(call, wire.ConnectRequest(heartbeat=wire.Heartbeat()))


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Return when the condition is true."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true in time")
