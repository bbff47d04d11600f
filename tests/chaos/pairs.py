"""Two engines on one PostgreSQL and executors that know both, as processes that a test kills and stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import psycopg
from tests.processes import Service

from dalsegno.rpc.channel import open_channel
from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.v1 import (
    engine_service_pb2,
    engine_service_pb2_grpc,
    execution_service_pb2,
    workflow_service_pb2,
)


class Pair:
    """Use it with `async with`."""

    def __init__(self, folder: Path, server: str, *, lease_s: float, executor: Iterable[str] = ()) -> None:
        """`server`: the URL of PostgreSQL, in which it has a database of its own; `executor`: further options of all
        executors."""
        name = f"pair_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        self.database = f"{server.rpartition('/')[0]}/{name}"
        options = ("--database", self.database, "--grace-s", "2", "--lease-s", str(lease_s), "--heartbeat-s", "0.5")
        self.engines = [Service("engine", self._folder(folder, each), options) for each in "ab"]
        self._options = ("--grace-s", "1", *executor)
        self.folder = folder
        self.executors: list[Service] = []
        self._channels = [open_channel(each.address) for each in self.engines]
        self._stubs = [engine_service_pb2_grpc.EngineServiceStub(each) for each in self._channels]

    def _folder(self, folder: Path, name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    def add_executor(self, name: str, *options: str, through: Iterable[str] = ()) -> Service:
        """An executor, not started. `through`: the addresses by which it reaches the engines, if others than theirs."""
        addresses = list(through) or [each.address for each in self.engines]
        at = [word for address in addresses for word in ("--engine", address)]
        executor = Service("executor", self._folder(self.folder, name), [*at, "--id", name, *self._options, *options])
        self.executors.append(executor)
        return executor

    async def __aenter__(self) -> Pair:
        try:
            for each in self.engines:
                await each.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop everything, and show the logs."""
        for channel in self._channels:
            await channel.close()
        for each in (*self.executors, *self.engines):
            if each.is_running:
                os.kill(each.pid, signal.SIGCONT)
            each.stop()
        print(*(each.new_log() for each in (*self.engines, *self.executors)), sep="\n")

    async def submit(self, engine: int, **write: Any) -> Any:
        """Submit one write to this engine."""
        (name,) = write
        request = engine_service_pb2.SubmitRequest(actor="tester", **write)
        answer = await self._stubs[engine].Submit(request, wait_for_ready=True, timeout=60)
        return getattr(answer, name)

    async def define(self, text: str) -> None:
        """Store a document."""
        await self.submit(0, create_definitions=workflow_service_pb2.CreateDefinitionsRequest(text=text))

    async def start(self, engine: int, workflow: str, **input: object) -> str:
        """Start an execution by this engine; its id. Asks again when the engine is killed meanwhile."""
        execution_id = str(uuid.uuid4())
        request = execution_service_pb2.StartExecutionRequest(
            workflow=workflow, input=json.dumps(input), execution_id=execution_id
        )
        try:
            await self.submit(engine, start_execution=request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await self.submit(1 - engine, start_execution=request)
        return execution_id

    def read(self, look: Callable[[Any], Any]) -> Any:
        """What `look` finds in the store."""
        store = open_store(self.database, read_only=True)
        try:
            with store.read() as queries:
                return look(queries)
        finally:
            store.close()

    def states(self) -> Counter[str]:
        """How many executions are in each state."""
        return Counter(self.read(lambda queries: queries.count_executions()))

    async def wait_ended(self, count: int, timeout_s: float) -> None:
        """Return when this many executions have ended, and none goes on. Fails the test otherwise."""
        ends_s = time.monotonic() + timeout_s
        states: Counter[str] = Counter()
        while time.monotonic() < ends_s:
            states = await asyncio.to_thread(self.states)
            if sum(states[each] for each in ("SUCCESS", "ERROR", "CANCELLED")) == count == states.total():
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"after {timeout_s:g} s: {dict(states)}")

    def findings(self) -> list[str]:
        """How stored rows differ from what their journals give: nothing, if all is well."""
        store = open_store(self.database, read_only=True)
        try:
            return list(check(store))
        finally:
            store.close()
