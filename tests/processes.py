"""Real services as processes on free ports and in a folder of the test's own: started, killed and started again by
their own process ids.

    async with System(tmp_path) as system:
        await system.define(text)
        execution = await system.run("chain")
        system.engine.kill()
        await system.engine.start()
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.endpoints import REACHABLE
from tests.ports import free_port
from tests.template import Forked, Program, start_forked

from dalsegno.access.bearer import TokenFile
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.credentials import ClientTls
from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.v1 import (
    action_service_pb2,
    action_service_pb2_grpc,
    change_pb2,
    environment_service_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    system_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

SOURCES = Path(__file__).resolve().parents[1] / "services"

START_S = 40.0
"""How long a service may take to be ready: long, for the machine may be busy with other tests."""

STOP_S = 20.0
LOG_LINES = 40
CALL_S = 30.0


class Service:
    """One service as a process, always on the same port."""

    def __init__(self, name: str, folder: Path, arguments: Iterable[str], tls: ClientTls | None = None) -> None:
        self.name = name
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self.arguments = tuple(arguments)
        """Of the next start."""
        self.launcher: tuple[str, ...] = ()
        """A file that runs the module, and its arguments before the name of the module."""
        self.tls = tls
        """How its health is asked."""
        self._process: Forked | None = None
        self._shown = 0

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running service."""
        assert self.is_running, f"{self.name} does not run"
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it and wait until its health says SERVING."""
        self.launch()
        await self.wait_ready()

    def launch(self) -> None:
        """Start it, without waiting."""
        assert not self.is_running, f"{self.name} runs already"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DALSEGNO_")}
        environment |= {"PYTHONPATH": str(SOURCES), "DALSEGNO_STATE_FOLDER": str(self.log.parent)} | REACHABLE
        words = (*self.launcher, f"dalsegno.{self.name}", "--listen", self.address, *self.arguments)
        self.log.touch()
        self._process = start_forked(Program(words[0], words[1:], self.log, environment))

    async def wait_ready(self) -> None:
        """Return once its health says SERVING. Fails the test, with its log, when it ends or does not get ready."""
        ends_s = time.monotonic() + START_S
        async with open_channel(self.address, tls=self.tls) as channel:
            while not await says_serving(channel):
                if not self.is_running:
                    raise AssertionError(f"{self.name} has ended\n{self.new_log()}")
                if time.monotonic() > ends_s:
                    raise AssertionError(f"{self.name} was not ready after {START_S:g} s\n{self.new_log()}")
                await asyncio.sleep(0.03)

    def kill(self) -> None:
        """kill -9, and return when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(STOP_S)

    def terminate(self) -> int:
        """Ask it to stop, and return its exit code when it has."""
        os.kill(self.pid, signal.SIGTERM)
        assert self._process is not None
        return self._process.wait(STOP_S)

    async def kill_and_restart(self) -> None:
        """kill -9, then the same service again on the same port."""
        self.kill()
        await self.start()

    def stop(self) -> None:
        """Make sure that it is gone; it may end by itself meanwhile."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(STOP_S)

    def new_log(self) -> str:
        """The last lines that it wrote since this was asked before."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._shown)
            text = log.read().decode("utf-8", "replace")
            self._shown = log.tell()
        lines = text.splitlines()[-LOG_LINES:]
        return "\n".join([f"--- {self.name} ({self.log})", *lines]) if lines else ""


async def says_serving(channel: grpc.aio.Channel, service: str = "") -> bool:
    """Whether a server's health says SERVING."""
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(service=service), timeout=2
        )
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class System:
    """An engine, an executor and an api on one store, and a client of the api."""

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "",
        engine: Iterable[str] = (),
        executor: Iterable[str] = (),
        api: Iterable[str] = (),
        tls: ClientTls | None = None,
        token: TokenFile | None = None,
        with_executor: bool = True,
    ) -> None:
        """`database`: its URL, else a SQLite file in the folder; `engine`, `executor`, `api`: further options of
        those; `tls`: how engine and api are called; `token`: what the client shows to the api."""
        folder.mkdir(parents=True, exist_ok=True)
        self.database = database or f"sqlite:///{folder}/store.db"
        stored = ("--database", self.database)
        self.engine = Service("engine", folder, [*stored, "--grace-s", "2", *engine], tls)
        at = ("--engine", self.engine.address)
        self.executor = Service("executor", folder, [*at, "--id", "executor-1", "--grace-s", "2", *executor])
        self.api = Service("api", folder, [*at, *stored, "--grace-s", "2", *api], tls)
        # In the order in which they are started.
        self.services = [self.engine, *([self.executor] if with_executor else []), self.api]
        self.channel = open_channel(self.api.address, tls=tls, token=token)
        self.workflows = workflow_service_pb2_grpc.WorkflowServiceStub(self.channel)
        self.executions = execution_service_pb2_grpc.ExecutionServiceStub(self.channel)
        self.actions = action_service_pb2_grpc.ActionServiceStub(self.channel)
        self.system = system_service_pb2_grpc.SystemServiceStub(self.channel)
        self.environments = environment_service_pb2_grpc.EnvironmentServiceStub(self.channel)

    async def __aenter__(self) -> System:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start what does not run, and wait until all are ready."""
        for service in self.services:
            if not service.is_running:
                service.launch()
        for service in self.services:
            await service.wait_ready()

    async def close(self) -> None:
        """Stop everything, the last started first. Shows the logs, which pytest keeps to itself unless a test fails."""
        await self.channel.close()
        for service in reversed(self.services):
            service.stop()
        self.show_logs()

    def show_logs(self) -> None:
        """Print what the services wrote since this was called before."""
        print(*(text for service in self.services if (text := service.new_log())), sep="\n")

    # The store.

    def findings(self) -> list[str]:
        """How stored rows differ from what their journals give: nothing, if all is well."""
        store = open_store(self.database, read_only=True)
        try:
            return list(check(store))
        finally:
            store.close()

    # The public contract, shortened.

    async def define(self, text: str, namespace: str = "", name: str = "") -> None:
        """Store a document, under `name` when it has none itself."""
        request = workflow_service_pb2.CreateDefinitionsRequest(text=text, namespace=namespace, name=name)
        await self.workflows.CreateDefinitions(request, timeout=CALL_S)

    async def begin(self, workflow: str, input: object = None, **more: Any) -> str:
        """Start an execution; its id. `more` are further fields of the request."""
        text = "" if input is None else json.dumps(input)
        request = execution_service_pb2.StartExecutionRequest(workflow=workflow, input=text, **more)
        return (await self.executions.StartExecution(request, timeout=CALL_S)).execution.id

    async def wait(self, execution_id: str, timeout_s: float = 60.0) -> execution_pb2.Execution:
        """The execution at rest or paused. Waits through restarts of the api; fails the test after `timeout_s`."""
        request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
        ends_s = time.monotonic() + timeout_s
        while True:
            try:
                left_s = max(0.5, ends_s - time.monotonic())
                answer = await self.executions.WaitExecution(request, timeout=left_s, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > ends_s:
                    raise
                await asyncio.sleep(0.1)
                continue
            if answer.reason != execution_service_pb2.WAIT_REASON_TIME_OVER:
                return answer.execution
            assert time.monotonic() + 0.5 < ends_s, f"not at rest after {timeout_s:g} s:\n{answer.execution}"

    async def run(self, workflow: str, input: object = None, **more: Any) -> execution_pb2.Execution:
        """Start an execution and wait for its end."""
        return await self.wait(await self.begin(workflow, input, **more))

    async def cancel(self, execution_id: str) -> None:
        """Cancel an execution."""
        request = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id)
        await self.executions.CancelExecution(request, timeout=CALL_S)

    async def complete(self, action_execution_id: str, result: object = None) -> None:
        """End an action execution well, from outside, by its id."""
        request = action_service_pb2.CompleteActionRequest(
            action_execution_id=action_execution_id,
            outcome=action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
            result=json.dumps(result),
        )
        await self.actions.CompleteAction(request, timeout=CALL_S)

    async def get(self, execution_id: str) -> execution_pb2.Execution:
        """The current state of an execution."""
        request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        return (await self.executions.GetExecution(request, timeout=CALL_S)).execution

    async def until(self, execution_id: str, holds: Callable[[change_pb2.Change], object]) -> change_pb2.Change:
        """The first change of an execution for which this holds, once it is made. Fails the test if none comes."""
        request = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, from_first_change=True)
        stream = self.executions.WatchExecution(request, timeout=CALL_S)
        async for message in stream:
            for change in message.changes.changes:
                if holds(change):
                    stream.cancel()
                    return change
        raise AssertionError("the execution came to rest without that change")

    async def tasks(self, execution_id: str) -> list[execution_pb2.TaskExecution]:
        """All task executions, with their values."""
        request = execution_service_pb2.ListTasksRequest(execution_id=execution_id, full=True)
        found: list[execution_pb2.TaskExecution] = []
        while True:
            page = await self.executions.ListTasks(request, timeout=CALL_S)
            found += page.tasks
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def attempts(self, execution_id: str) -> list[execution_pb2.ActionExecution]:
        """All action executions of an execution, with their values."""
        request = action_service_pb2.ListActionExecutionsRequest(execution_id=execution_id, full=True)
        found: list[execution_pb2.ActionExecution] = []
        while True:
            page = await self.actions.ListActionExecutions(request, timeout=CALL_S)
            found += page.action_executions
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def journal(self, execution_id: str) -> list[change_pb2.Change]:
        """The whole journal."""
        request = execution_service_pb2.ListChangesRequest(execution_id=execution_id)
        found: list[change_pb2.Change] = []
        while True:
            page = await self.executions.ListChanges(request, timeout=CALL_S)
            found += page.changes
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found


def state_of(thing: execution_pb2.Execution | execution_pb2.TaskExecution | execution_pb2.ActionExecution) -> str:
    """Its state as one word."""
    if isinstance(thing, execution_pb2.Execution):
        return execution_pb2.ExecutionState.Name(thing.state).removeprefix("EXECUTION_STATE_")
    if isinstance(thing, execution_pb2.TaskExecution):
        return execution_pb2.TaskState.Name(thing.state).removeprefix("TASK_STATE_")
    return execution_pb2.ActionState.Name(thing.state).removeprefix("ACTION_STATE_")
