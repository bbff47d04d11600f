"""An engine and an api in the process of the test, over one in-memory store, called over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest_asyncio

from dalsegno.api.service import Api
from dalsegno.api.settings import Settings as ApiSettings
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings as EngineSettings
from dalsegno.store.memory import MemoryStore
from dalsegno.v1 import (
    access_service_pb2_grpc,
    action_service_pb2_grpc,
    environment_service_pb2_grpc,
    execution_service_pb2,
    execution_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)


@dataclass
class Front:
    """The public services of a whole system; no action runs unless a test runs it."""

    store: MemoryStore
    engine: Engine
    address: str
    workflows: Any
    executions: Any
    actions: Any
    environments: Any
    access: Any

    async def define(self, text: str, **more: Any) -> Any:
        return await self.workflows.CreateDefinitions(workflow_service_pb2.CreateDefinitionsRequest(text=text, **more))

    async def start(self, workflow: str, **more: Any) -> Any:
        request = execution_service_pb2.StartExecutionRequest(workflow=workflow, **more)
        return (await self.executions.StartExecution(request)).execution

    async def get(self, execution_id: str) -> Any:
        request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        return (await self.executions.GetExecution(request)).execution

    async def value(self, **request: Any) -> str:
        """Return a value, joined from its pieces."""
        stream = self.executions.ReadValue(execution_service_pb2.ReadValueRequest(**request))
        return "".join([message.piece async for message in stream])


def stubs(channel: grpc.aio.Channel) -> dict[str, Any]:
    """Return the public services by their names in Front."""
    return {
        "access": access_service_pb2_grpc.AccessServiceStub(channel),
        "workflows": workflow_service_pb2_grpc.WorkflowServiceStub(channel),
        "executions": execution_service_pb2_grpc.ExecutionServiceStub(channel),
        "actions": action_service_pb2_grpc.ActionServiceStub(channel),
        "environments": environment_service_pb2_grpc.EnvironmentServiceStub(channel),
    }


@pytest_asyncio.fixture
async def front() -> AsyncIterator[Front]:
    """Provide the services, ready; the client's channel has gRPC's default limits of 4 MiB."""
    store = MemoryStore()
    engine = Engine(EngineSettings(listen="127.0.0.1:0", grace_s=0.5), store, is_only_engine=True)
    await engine.start()
    api = Api(ApiSettings(listen="127.0.0.1:0", engines=(f"127.0.0.1:{engine.port}",), grace_s=0.5), store)
    await api.start()
    address = f"127.0.0.1:{api.port}"
    async with grpc.aio.insecure_channel(address) as channel:
        yield Front(store, engine, address, **stubs(channel))
    await api.stop()
    await engine.stop()
