"""Real services that ask for tokens, with what two teams have in them, and callers with tokens of their own."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from tests.gateways import gateway_of
from tests.processes import Service, System
from tests.tokens import store_token, write_token
from tests.unit.api.conftest import stubs
from tests.unit.api.guarded import Caller

from dalsegno.rpc.call_end import CallEnd, error_of
from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import (
    environment_service_pb2,
    execution_service_pb2,
    executor_service_pb2_grpc,
    system_service_pb2_grpc,
    workflow_service_pb2,
)
from dalsegno.v1 import executor_service_pb2 as wire

WITHIN_S = 20.0
WORKFLOWS = """
version: '2.0'
{name}:
  input: [{{number: 0}}]
  tasks:
    pay: {{action: {action} sum=<% $.number %>}}
{name}_asks:
  tasks:
    ask: {{with-items: "n in <% [0, 1] %>", action: std.async_noop}}
"""
MARKS = ("bravo_payroll", "bravo_vault", "bravo-label", "bravo comment")
"""What only those who may see the namespace of the second team may read."""


class GuardedSystem:
    """An engine, an api and a gateway that ask for tokens; two teams, alpha and bravo, each with a namespace."""

    def __init__(self, system: System, gateway: Service, folder: Path, opened: AsyncExitStack) -> None:
        self.system = system
        self.gateway = gateway
        self.admin: Caller
        self.bravo = ""
        """The id of an execution of the second team."""
        self._folder = folder
        self._opened = opened

    def token(self, name: str, *grants: str) -> str:
        """Return a new token."""
        return store_token(self.system.database, name, *grants)

    async def caller(self, name: str, *grants: str) -> Caller:
        """Return the services as a new caller with these roles has them."""
        return await self.holder(self.token(name, *grants))

    async def holder(self, token: str) -> Caller:
        """Return the services as the holder of a token has them."""
        shown = write_token(self._folder / f"{uuid.uuid4()}.token", token)
        api = open_channel(self.system.api.address, token=shown)
        engine = open_channel(self.system.engine.address, token=shown)
        for each in (api, engine):
            self._opened.push_async_callback(each.close)
        return Caller(
            **stubs(api),
            system=system_service_pb2_grpc.SystemServiceStub(api),
            executor=executor_service_pb2_grpc.ExecutorServiceStub(engine),
            channel=api,
            engine=engine,
        )

    async def begin(self, workflow: str, namespace: str, **more: Any) -> str:
        """Start an execution as an admin. Return its id."""
        request = execution_service_pb2.StartExecutionRequest(workflow=workflow, namespace=namespace, **more)
        return str((await self.admin.executions.StartExecution(request)).execution.id)

    async def furnish(self) -> None:
        """Give each team a workflow, an environment and an execution."""
        self.admin = await self.caller("root", "admin")
        for team in ("alpha", "bravo"):
            text = WORKFLOWS.format(name=f"{team}_payroll", action=f"{team}.pay")
            define = workflow_service_pb2.CreateDefinitionsRequest(text=text, namespace=team, comment=f"{team} comment")
            await self.admin.workflows.CreateDefinitions(define)
            put = environment_service_pb2.PutEnvironmentRequest(
                name=f"{team}_vault", namespace=team, variables=json.dumps({"key": f"{team}_vault"})
            )
            await self.admin.environments.PutEnvironment(put)
        labels = {"team": "bravo-label"}
        self.bravo = await self.begin("bravo_payroll", "bravo", labels=labels, comment="bravo comment")


class Line:
    """The stream of an executor, written by hand."""

    def __init__(self, caller: Caller, executor_id: str, session_id: str = "") -> None:
        self.executor_id = executor_id
        self.session_id = session_id or str(uuid.uuid4())
        self.call: Any = caller.executor.Connect()
        self._end = CallEnd(self.call)

    async def greet(self, *actions: str, **more: Any) -> Any:
        """Say Hello. Return the Welcome."""
        described = [wire.ActionDescription(name=each, accepts_any=True) for each in actions]
        hello = wire.Hello(
            executor_id=self.executor_id, session_id=self.session_id, actions=described, slots=5, credit=5, **more
        )
        await self._say(wire.ConnectRequest(hello=hello))
        return await self.next("welcome")

    async def next(self, kind: str) -> Any:
        """Return the next message of this kind. Raises AioRpcError when the stream ends badly."""
        async with asyncio.timeout(WITHIN_S):
            while (message := await self.call.read()).WhichOneof("message") != kind:
                pass
        return getattr(message, kind)

    async def report(self, run: Any, result: str = "1") -> Any:
        """Report that an action has ended well. Return the Ack."""
        done = wire.TaskDone(
            action_execution_id=run.action_execution_id,
            delivery=run.delivery,
            outcome=wire.TASK_OUTCOME_SUCCEEDED,
            result=result,
        )
        await self._say(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[done])))
        return (await self.next("ack")).acks[0]

    async def _say(self, message: wire.ConnectRequest) -> None:
        """Write a message. Raises the AioRpcError of the server, also if it refuses the stream meanwhile."""
        try:
            await self.call.write(message)
        except grpc.aio.AioRpcError as error:
            raise await self._end.correct(error) from None
        except asyncio.InvalidStateError:
            raise await error_of(self.call) from None

    async def refusal(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ends."""
        async with asyncio.timeout(WITHIN_S):
            return await self.call.code(), await self.call.details()


@asynccontextmanager
async def guarded_services(folder: Path) -> AsyncIterator[GuardedSystem]:
    """Provide the services, with what the teams have."""
    database = f"sqlite:///{folder}/store.db"
    own = folder / "api.token"
    write_token(own, store_token(database, "api", "service"))
    asked = ("--auth", "tokens")
    system = System(
        folder, database=database, engine=asked, api=(*asked, "--token-file", str(own)), with_executor=False
    )
    gateway = gateway_of(system, folder, *asked)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(system)
        await gateway.start()
        opened.callback(gateway.stop)
        guarded = GuardedSystem(system, gateway, folder, opened)
        await guarded.furnish()
        yield guarded
        assert system.findings() == []
