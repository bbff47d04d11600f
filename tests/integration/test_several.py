"""Several engines and several apis on one PostgreSQL: any may be killed or stopped, and work and callers go on.

The second engine and the second api are of a later version, whose migration only adds: all of this is a rolling upgrade
too.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import pytest_asyncio
from tests.gateways import call, curl, url_of
from tests.integration.engines import until
from tests.later import LATER, later_migrations
from tests.postgres import NoPostgres, run_postgres
from tests.processes import CALL_S, Service, says_serving

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import (
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("several")]

WORKFLOWS = """
version: '2.0'
steps:
  input: [count]
  tasks:
    begin:
      publish: {n: 0}
      on-success: [step]
    step:
      action: std.echo
      input: {output: <% $.n + 1 %>, delay: 0.05}
      publish: {n: <% task().result %>}
      on-success:
        - step: <% $.n < $.count %>
short:
  tasks:
    done: {action: std.noop}
"""
READY = system_service_pb2.ENGINE_STANDING_READY
AWAY = system_service_pb2.ENGINE_STANDING_AWAY


class Api(Service):
    """An api and its clients."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        super().__init__("api", folder, arguments)
        self.channel = open_channel(self.address)
        self.executions = execution_service_pb2_grpc.ExecutionServiceStub(self.channel)
        self.workflows = workflow_service_pb2_grpc.WorkflowServiceStub(self.channel)
        self.system = system_service_pb2_grpc.SystemServiceStub(self.channel)

    async def begin(self, workflow: str, **more: Any) -> str:
        """Start an execution with a request id; its id. Asks again only when this api is away."""
        request = execution_service_pb2.StartExecutionRequest(workflow=workflow, request_id=str(uuid.uuid4()), **more)
        answer = await self.executions.StartExecution(request, timeout=CALL_S, wait_for_ready=True)
        return answer.execution.id

    async def standings(self) -> dict[str, int]:
        """How the engines stand, by address."""
        answer = await self.system.ListEngines(system_service_pb2.ListEnginesRequest(), timeout=CALL_S)
        return {each.address: each.standing for each in answer.addresses}

    async def count(self, state: str) -> int:
        """How many executions of `short` are in a state."""
        request = execution_service_pb2.CountExecutionsRequest(filter=f"workflow=short state={state}")
        answer = await self.executions.CountExecutions(request, timeout=CALL_S)
        return sum(each.count for each in answer.counts)


class Several:
    """Two engines, an executor, two apis and a gateway. The second one of each is of a later version."""

    def __init__(self, folder: Path, database: str) -> None:
        def inside(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        self.database = database
        stored = ["--database", database, "--grace-s", "2"]
        leases = ["--lease-s", "3", "--heartbeat-s", "0.5"]
        self.engines = [Service("engine", inside(each), [*stored, *leases]) for each in ("engine-a", "engine-b")]
        at = ["--engine", ",".join(each.address for each in self.engines)]
        self.executor = Service("executor", inside("executor"), [*at, "--id", "executor-1", "--grace-s", "2"])
        self.apis = [Api(inside(each), [*at, *stored]) for each in ("api-a", "api-b")]
        over = ["--api", ",".join(each.address for each in self.apis), "--grace-s", "2"]
        self.gateway = Service("gateway", inside("gateway"), over)
        later_migrations(folder)
        for service in (self.engines[1], self.apis[1]):
            service.launcher = (*LATER, str(folder))
        self.services: list[Service] = [*self.engines, self.executor, *self.apis, self.gateway]

    async def start(self) -> None:
        """Start what does not run, and wait until all are ready."""
        if not self.engines[0].is_running:
            await self.engines[0].start()  # before the later version comes to its store
        for each in self.services:
            if not each.is_running:
                each.launch()
        for each in self.services[:-1]:
            await each.wait_ready()
        await until_true(self._gateway_is_ready)
        for each in self.apis:
            await until_true(lambda api=each: has_standings(api, READY, READY))  # type: ignore[misc]

    async def _gateway_is_ready(self) -> bool:
        return (await curl(f"{url_of(self.gateway)}/healthz")).status == 200

    async def close(self) -> None:
        """Stop everything, and show the logs."""
        for api in self.apis:
            await api.channel.close()
        for each in reversed(self.services):
            each.stop()
        print(*(each.new_log() for each in self.services), sep="\n")


async def until_true(holds: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Return when this holds."""
    for _ in range(int(timeout_s / 0.05)):
        if await holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come true in time")


async def has_standings(api: Api, *standings: int) -> bool:
    """Whether an api finds its engines like this."""
    return list((await api.standings()).values()) == list(standings)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """PostgreSQL; without it the tests are skipped, with the reason."""
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Several]:
    """All services, with the definitions."""
    name = f"several_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    several = Several(tmp_path_factory.mktemp("several"), f"{server.rpartition('/')[0]}/{name}")
    try:
        await several.start()
        with psycopg.connect(several.database) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
        request = workflow_service_pb2.CreateDefinitionsRequest(text=WORKFLOWS)
        await several.apis[0].workflows.CreateDefinitions(request, timeout=CALL_S)
        yield several
    finally:
        await several.close()


@pytest_asyncio.fixture(loop_scope="module")
async def several(shared: Several) -> Several:
    """The same, all running and ready."""
    await shared.start()
    return shared


class Watching:
    """Watches an execution to its end, at one api after the other."""

    def __init__(self, apis: list[Api], execution_id: str) -> None:
        self.sequences: list[int] = []
        self.streams = 0
        self._apis = apis
        self._id = execution_id
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        token = ""
        while True:
            request = execution_service_pb2.WatchExecutionRequest(
                execution_id=self._id, from_first_change=True, resume_token=token
            )
            api = self._apis[self.streams % len(self._apis)]
            self.streams += 1
            try:
                async for message in api.executions.WatchExecution(request, timeout=60):
                    token = message.resume_token
                    self.sequences += [each.sequence for each in message.changes.changes]
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


async def waited(api: Api, execution_id: str) -> str:
    """The state in which an execution comes to rest, by one call."""
    request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
    answer = await api.executions.WaitExecution(request, timeout=60)
    return execution_pb2.ExecutionState.Name(answer.execution.state).removeprefix("EXECUTION_STATE_")


async def test_engines_are_killed_and_stopped(several: Several) -> None:
    """One engine is killed and the other one is stopped, each comes back: no writer with a request id gets an error,
    nothing is started twice, a watcher and a waiter go on in their calls, and the apis say what is away."""
    first, second = several.engines
    api, other_api = several.apis
    execution_id = await api.begin("steps", input='{"count": 60}')
    watching = Watching([api], execution_id)
    waiting = asyncio.create_task(waited(other_api, execution_id))
    before, begun, over = await api.count("SUCCESS"), [0], asyncio.Event()

    async def write(at: Api) -> None:
        while not over.is_set():
            await at.begin("short")
            begun[0] += 1

    writers = [asyncio.create_task(write(each)) for each in several.apis for _ in range(4)]
    await until(lambda: begun[0] > 50)
    first.kill()
    await until_true(lambda: has_standings(api, AWAY, READY))
    assert await says_serving(api.channel)
    reached = begun[0]
    await until(lambda: begun[0] > reached + 50)
    await first.start()
    await until_true(lambda: has_standings(api, READY, READY))
    await until_true(lambda: has_standings(other_api, READY, READY))
    await asyncio.to_thread(second.terminate)
    reached = begun[0]
    await until(lambda: begun[0] > reached + 50)
    over.set()
    await asyncio.gather(*writers)
    assert await waiting == "SUCCESS"
    await watching.task
    assert watching.sequences == list(range(1, watching.sequences[-1] + 1))
    assert watching.streams == 1
    await until_true(lambda: _is(api.count("SUCCESS"), before + begun[0]))
    with psycopg.connect(several.database) as connection:
        assert connection.execute("SELECT DISTINCT colour FROM executions").fetchall() == [("none",)]
    assert "the tables of the store are of a later version" in first.log.read_text()
    assert f"the engine at {first.address} is not ready: it cannot be reached" in api.log.read_text()


async def _is(count: Awaitable[int], expected: int) -> bool:
    found = await count
    assert found <= expected
    return found == expected


async def test_apis_are_killed_and_stopped(several: Several) -> None:
    """One api is killed, then the other is stopped: a watcher resumes at the other one without a gap, and a caller of
    the gateway needs to ask again at most once for each."""
    api, other = several.apis
    execution_id = await api.begin("steps", input='{"count": 40}')
    watching = Watching(several.apis, execution_id)
    await until(lambda: watching.sequences)

    async def read_all(times: int) -> int:
        refused = 0
        for _ in range(times):
            reply = await call(several.gateway, "ExecutionService/GetExecution", {"executionId": execution_id})
            assert reply.status in (200, 503), reply.body
            refused += reply.status == 503
        return refused

    api.kill()
    refused = await read_all(10)
    told = f"the api at {api.address} is ready"
    before = several.gateway.log.read_text().count(told)
    await api.start()
    await until_true(lambda: has_standings(api, READY, READY))
    await until(lambda: several.gateway.log.read_text().count(told) > before)
    await asyncio.to_thread(other.terminate)
    refused += await read_all(10)
    assert refused <= 2
    await watching.task
    assert watching.sequences == list(range(1, watching.sequences[-1] + 1))
    assert watching.streams >= 2


async def test_no_engine_is_there(several: Several) -> None:
    """Without any engine an api is not ready and says which are away; reads go on, and a write is made by the first
    engine that is back."""
    (api, _), (first, second) = several.apis, several.engines
    for engine in several.engines:
        engine.kill()
    await until_true(lambda: _not(says_serving(api.channel)))
    await until_true(lambda: has_standings(api, AWAY, AWAY))
    told = f"not ready: the engine at {first.address}: it cannot be reached; the engine at {second.address}: it cannot"
    await until(lambda: told in api.log.read_text())
    writing = asyncio.create_task(api.begin("short"))
    await second.start()
    execution_id = await writing
    assert await waited(api, execution_id) == "SUCCESS"
    await until_true(lambda: says_serving(api.channel))


async def _not(holds: Awaitable[bool]) -> bool:
    return not await holds
