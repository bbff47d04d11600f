"""The three services as processes of their own on SQLite, and what they cost: processor time and resident memory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from tests.ports import free_address
from tests.tied import tied

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import (
    action_service_pb2,
    action_service_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    operation_pb2,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
RESULT_S = 600.0
LOOK_S = 0.02
TICKS = os.sysconf("SC_CLK_TCK")


class Client:
    """A person's program, which speaks to api alone. It is this process, whose processor time is not counted."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address)
        self._workflows = workflow_service_pb2_grpc.WorkflowServiceStub(self._channel)
        self._actions = action_service_pb2_grpc.ActionServiceStub(self._channel)
        self._executions = execution_service_pb2_grpc.ExecutionServiceStub(self._channel)

    async def define(self, text: str, name: str = "") -> None:
        """Create the workflows of a definition; waits for the services when they are not there yet.

        `name` is that of a workflow whose language does not say it in the text.
        """
        request = workflow_service_pb2.CreateDefinitionsRequest(text=text, name=name)
        await self._workflows.CreateDefinitions(request, wait_for_ready=True, timeout=READY_S)

    async def validate(self, text: str) -> int:
        """How many problems a definition has."""
        request = workflow_service_pb2.ValidateDefinitionsRequest(text=text, name="large")
        return len((await self._workflows.ValidateDefinitions(request, timeout=RESULT_S)).problems)

    async def rest(self, execution_id: str) -> execution_pb2.Execution:
        """The execution, once it is at rest, however it has ended."""
        request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
        return (await self._executions.WaitExecution(request, timeout=RESULT_S)).execution

    async def start(self, workflow: str, given: dict[str, object] | None = None) -> str:
        """Start an execution; its id."""
        request = execution_service_pb2.StartExecutionRequest(workflow=workflow, input=json.dumps(given or {}))
        answer = await self._executions.StartExecution(request, timeout=READY_S)
        return answer.execution.id

    async def get(self, execution_id: str) -> execution_pb2.Execution:
        """The execution as it is now."""
        request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        return (await self._executions.GetExecution(request, timeout=READY_S)).execution

    async def wait(
        self, execution_id: str, end: int = execution_pb2.EXECUTION_STATE_SUCCESS
    ) -> execution_pb2.Execution:
        """The execution, once it has come to this end. RuntimeError for any other."""
        request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
        answer = await self._executions.WaitExecution(request, timeout=RESULT_S)
        execution = answer.execution
        if execution.state != end:
            state = execution_pb2.ExecutionState.Name(execution.state)
            raise RuntimeError(f"execution {execution_id} is {state}: {execution.state_info}")
        return execution

    async def run(self, workflow: str, given: dict[str, object] | None = None) -> execution_pb2.Execution:
        """Start an execution and wait for its end."""
        return await self.wait(await self.start(workflow, given))

    async def rerun(
        self,
        execution_id: str,
        task: str,
        items: Mapping[int, Mapping[str, object] | None] | None = None,
        end: int = execution_pb2.EXECUTION_STATE_SUCCESS,
        waits: bool = True,
    ) -> None:
        """Run a task of an ended execution again, or only these items of it, with new inputs or those that they had."""
        chosen = operation_pb2.RerunTask(task=task, items=items or (), item_inputs=_inputs(items or {}))
        request = execution_service_pb2.RerunExecutionRequest(
            execution_id=execution_id, start_from=operation_pb2.RERUN_FROM_TASKS, tasks=[chosen]
        )
        await self._executions.RerunExecution(request, timeout=READY_S)
        if waits:
            await self.wait(execution_id, end)

    async def resume(self, execution_id: str, task: str, items: Mapping[int, Mapping[str, object] | None]) -> None:
        """Run these items of a failed task again, and wait for the success."""
        chosen = operation_pb2.ResumeTask(task=task, items=items, item_inputs=_inputs(items))
        request = execution_service_pb2.ResumeExecutionRequest(execution_id=execution_id, tasks=[chosen])
        await self._executions.ResumeExecution(request, timeout=READY_S)
        await self.wait(execution_id)

    async def pause(self, execution_id: str) -> None:
        """Pause an execution of which nothing is active, which is PAUSED at once. RuntimeError when it is not."""
        request = execution_service_pb2.PauseExecutionRequest(execution_id=execution_id)
        answer = await self._executions.PauseExecution(request, timeout=READY_S)
        if answer.execution.state != execution_pb2.EXECUTION_STATE_PAUSED:
            raise RuntimeError(f"execution {execution_id} is not PAUSED")

    async def go_on(self, execution_id: str) -> None:
        """Resume an execution that was paused."""
        request = execution_service_pb2.ResumeExecutionRequest(execution_id=execution_id)
        await self._executions.ResumeExecution(request, timeout=READY_S)

    async def go_to(self, execution_id: str, checkpoint: str) -> None:
        """Send an execution to a checkpoint, and wait until it stands there."""
        request = execution_service_pb2.GoToCheckpointRequest(execution_id=execution_id, name=checkpoint)
        await self._executions.GoToCheckpoint(request, timeout=RESULT_S)
        await self.wait(execution_id, execution_pb2.EXECUTION_STATE_PAUSED)

    async def newest_entry(self, execution_id: str) -> dict[str, object] | None:
        """The data of the newest entry of a checkpoint; None: it has none."""
        request = execution_service_pb2.ListCheckpointsRequest(execution_id=execution_id, page_size=1)
        entries = (await self._executions.ListCheckpoints(request, timeout=READY_S)).entries
        return json.loads(entries[0].data) if entries and entries[0].data else None

    async def wait_for_delay(self, execution_id: str) -> None:
        """Until a task of the execution waits for a time."""
        request = execution_service_pb2.ListTasksRequest(
            execution_id=execution_id, filter="state=RUNNING_DELAYED", page_size=1
        )
        while True:
            answer = await self._executions.ListTasks(request, timeout=READY_S)
            if answer.tasks:
                return
            await asyncio.sleep(LOOK_S)

    async def list_executions(self, chosen: str, count: int) -> list[execution_pb2.Execution]:
        """The newest executions, at most so many, that the filter chooses."""
        request = execution_service_pb2.ListExecutionsRequest(filter=chosen, page_size=min(count, 1000))
        executions: list[execution_pb2.Execution] = []
        while True:
            answer = await self._executions.ListExecutions(request, timeout=READY_S)
            executions += answer.executions
            if not answer.next_page_token or len(executions) >= count:
                return executions[:count]
            request.page_token = answer.next_page_token

    async def list_tasks(self, execution_id: str) -> list[execution_pb2.TaskExecution]:
        """All task executions in order of creation."""
        tasks: list[execution_pb2.TaskExecution] = []
        request = execution_service_pb2.ListTasksRequest(execution_id=execution_id, page_size=1000)
        while True:
            answer = await self._executions.ListTasks(request, timeout=READY_S)
            tasks += answer.tasks
            if not answer.next_page_token:
                return tasks
            request.page_token = answer.next_page_token

    async def complete(self, action_execution_id: str) -> None:
        """Complete an action that waits for a third party."""
        request = action_service_pb2.CompleteActionRequest(
            action_execution_id=action_execution_id,
            outcome=action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
            result='{"approved": true}',
        )
        await self._actions.CompleteAction(request, timeout=READY_S)

    async def close(self) -> None:
        """Let the connection go."""
        await self._channel.close()


class Services:
    """One engine, one executor and one api, with their data and logs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "store.db"
        self._engine, self._api = free_address(), free_address()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def engine_address(self) -> str:
        """Where executors connect."""
        return self._engine

    @property
    def pids(self) -> dict[str, int]:
        """The process ids by the names of the services."""
        return {name: process.pid for name, process in self._processes.items()}

    def spawn(self) -> None:
        """Start all three at once; they find each other."""
        database = ("--database", f"sqlite:///{self.database}")
        self._spawn("engine", "--listen", self._engine, *database)
        self._spawn("executor", "--engine", self._engine, "--id", "executor-1")
        self._spawn("api", "--listen", self._api, "--engine", self._engine, *database)

    def spawn_gateway(self) -> str:
        """Start a gateway beside the others, and return its address."""
        address = free_address()
        self._spawn("gateway", "--listen", address, "--api", self._api)
        return address

    def open_client(self) -> Client:
        """A new client of api."""
        return Client(self._api)

    def stop(self) -> None:
        """Stop all, the last one first."""
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def tell_logs(self) -> str:
        """The ends of the logs, for whoever has to find out why a run failed."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"-- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def _spawn(self, name: str, *arguments: str) -> None:
        self._spawn_as(name, name, *arguments)

    def _spawn_as(self, name: str, program: str, *arguments: str) -> None:
        self._run(name, f"dalsegno.{program}", *arguments)

    def _run(self, name: str, module: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                tied(sys.executable, "-m", module, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'services'}{os.pathsep}{ROOT}"},
            )


SETTLE_MAX_S = 20.0
SETTLE_LEAST_S = 0.5
"""Starting takes more processor time than this."""
SETTLED_S = 0.06
"""Services that used less than this in a second have started."""


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[Client]:
    """Run services whose folder is deleted afterwards. If something ends the run, print the ends of the logs."""
    services.spawn()
    client = services.open_client()
    try:
        await settle(services)
        yield client
    except (grpc.RpcError, RuntimeError, TimeoutError):
        print(services.tell_logs(), file=sys.stderr)
        raise
    finally:
        await client.close()
        await asyncio.to_thread(services.stop)
        shutil.rmtree(services.folder, ignore_errors=True)


@asynccontextmanager
async def running_services() -> AsyncIterator[tuple[Services, Client]]:
    """Run one engine, executor and api on SQLite."""
    services = Services(Path(tempfile.mkdtemp(prefix="dalsegno-bench-")))
    async with running(services) as client:
        yield services, client


def _inputs(items: Mapping[int, Mapping[str, object] | None]) -> dict[int, str]:
    return {item: json.dumps(given) for item, given in items.items() if given is not None}


async def settle(services: Services) -> None:
    """Wait until what starts with the services, such as the processes that evaluate expressions, has started: no
    workload is to be charged for it."""
    deadline_s = time.monotonic() + SETTLE_MAX_S
    used_s = -1.0
    while time.monotonic() < deadline_s:
        before_s, used_s = used_s, sum(processor_s(services.pids).values())
        if before_s > SETTLE_LEAST_S and used_s - before_s < SETTLED_S:
            return
        await asyncio.sleep(1.0)


def processor_s(pids: dict[str, int]) -> dict[str, float]:
    """The processor time, in user and kernel mode, that each service and its children have used so far, in seconds."""
    return {name: sum(map(_own_processor_s, [pid, *_descendants(pid)])) for name, pid in pids.items()}


def resident_mb(pids: dict[str, int]) -> float:
    """The resident memory of the services and their children together, in MiB."""
    every = [each for pid in pids.values() for each in (pid, *_descendants(pid))]
    return sum(_resident_kib(pid) for pid in every) / 1024


def _own_processor_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # a child that has ended: its parent's numbers have its time
        return 0.0
    # The name, the second field, may contain anything. Then utime, stime, cutime and cstime are fields 14 to 17.
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def _resident_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def _descendants(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from _descendants(int(child))
