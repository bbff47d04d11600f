"""An engine within the test's own process, over the in-memory store, spoken to over the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings
from dalsegno.rpc.channel import open_channel
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import ExecutionRow, JournalChange
from dalsegno.v1 import (
    action_service_pb2,
    engine_service_pb2,
    engine_service_pb2_grpc,
    execution_service_pb2,
    workflow_service_pb2,
)
from dalsegno.workflow.states import COMPLETED_EXECUTION


@dataclass
class Desk:
    """An engine, its store, and a stub."""

    engine: Engine
    store: MemoryStore
    stub: Any

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.engine.port}"

    async def submit(self, name: str, request: Any) -> Any:
        write = engine_service_pb2.SubmitRequest(actor="tester", **{name: request})
        return getattr(await self.stub.Submit(write, timeout=60), name)

    async def create(self, text: str, **more: Any) -> Any:
        request = workflow_service_pb2.CreateDefinitionsRequest(text=text, **more)
        return await self.submit("create_definitions", request)

    async def start(self, workflow: str, **more: Any) -> Any:
        request = execution_service_pb2.StartExecutionRequest(workflow=workflow, **more)
        return (await self.submit("start_execution", request)).execution

    async def run(self, action: str, **more: Any) -> Any:
        request = action_service_pb2.RunActionRequest(action=action, **more)
        return (await self.submit("run_action", request)).action_execution

    def read(self, look: Callable[[Any], Any]) -> Any:
        with self.store.read() as queries:
            return look(queries)

    def execution(self, execution_id: str) -> ExecutionRow:
        row = self.read(lambda queries: queries.execution(execution_id))
        assert isinstance(row, ExecutionRow)
        return row

    def journal(self, execution_id: str) -> list[JournalChange]:
        return list(self.read(lambda queries: queries.journal(execution_id, limit=1_000_000)))

    async def wait(self, execution_id: str, *states: str, timeout_s: float = 10.0) -> ExecutionRow:
        """The execution, once it is in one of these states (none: completed)."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            row = self.execution(execution_id)
            if row.state in (states or COMPLETED_EXECUTION):
                return row
            await asyncio.sleep(0.01)
        raise AssertionError(f"it is {row.state}: {row.info}")


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    store = MemoryStore()
    engine = Engine(Settings(listen="127.0.0.1:0", grace_s=0.5), store, is_only_engine=True)
    await engine.start()
    async with open_channel(f"127.0.0.1:{engine.port}") as channel:
        yield Desk(engine, store, engine_service_pb2_grpc.EngineServiceStub(channel))
        await engine.stop()
