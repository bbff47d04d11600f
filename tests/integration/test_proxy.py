"""Envoy between client and api, and between executor and engine: streams that are quiet, a drain, restarts."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from tests.envoy import IDLE_S, Envoy
from tests.processes import System, state_of
from tests.tied import tied

from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as wire
from dalsegno.v1.execution_service_pb2_grpc import ExecutionServiceStub

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("proxy")]

CUT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
"""What a client sees when a proxy cuts a call."""

QUIET_S = IDLE_S + 2.5

WORKFLOWS = f"""
version: '2.0'
quiet:
  tasks:
    first: {{action: std.noop, on-success: [sleep]}}
    sleep: {{action: std.sleep seconds={QUIET_S}, on-success: [last]}}
    last: {{action: std.noop}}
posts:
  input: [url, name]
  tasks:
    post:
      with-items: number in <% range(40) %>
      concurrency: 4
      action: std.http
      input: {{method: POST, url: "<% $.url %>/<% $.name %>/<% $.number %>"}}
      on-success: [last]
    last: {{action: std.http, input: {{method: POST, url: "<% $.url %>/<% $.name %>/last"}}}}
"""


@dataclass
class Behind:
    """The services behind the proxy, and the api as clients see it."""

    system: System
    envoy: Envoy
    executions: ExecutionServiceStub

    async def wait(self, execution_id: str, within_s: float) -> execution_pb2.Execution:
        """Ask until the execution is at rest, as a client does whose call is cut. Fails the test when time is over."""
        request = wire.WaitExecutionRequest(execution_id=execution_id)
        self.cut: Counter[grpc.StatusCode] = Counter()
        async with asyncio.timeout(within_s):
            while True:
                try:
                    call: Any = self.executions.WaitExecution(request)
                    answer: wire.WaitExecutionResponse = await call
                except grpc.aio.AioRpcError as error:
                    if error.code() not in CUT:
                        raise
                    self.cut[error.code()] += 1
                    await asyncio.sleep(0.2)
                    continue
                if answer.reason != wire.WAIT_REASON_TIME_OVER:
                    return answer.execution


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Behind]:
    """Provide services whose client and executor only know the proxy."""
    folder = tmp_path_factory.mktemp("proxy")
    system = System(folder / "system", engine=("--heartbeat-s", "1"))
    envoy = Envoy(folder, system.api.address, system.engine.address)
    api, engine = envoy.addresses
    system.executor.arguments = ("--engine", engine, "--id", "executor-1", "--grace-s", "2")
    await envoy.start()
    try:
        async with system, open_channel(api) as channel:
            await system.define(WORKFLOWS)
            yield Behind(system, envoy, ExecutionServiceStub(channel))
    finally:
        envoy.stop()


@dataclass
class Watched:
    """What a watcher saw."""

    kinds: list[str] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    ends: list[grpc.StatusCode] = field(default_factory=list)
    """How its streams were cut."""


async def watch(executions: ExecutionServiceStub, execution_id: str, interval_s: int = 0) -> Watched:
    """Watch to the end; a stream that is cut is taken up where it was."""
    request = wire.WatchExecutionRequest(execution_id=execution_id, from_first_change=True)
    if interval_s:
        request.progress_interval.FromSeconds(interval_s)
    seen = Watched()
    while True:
        try:
            stream: Any = executions.WatchExecution(request)
            async for message in stream:
                request.resume_token = message.resume_token
                seen.kinds.append(str(message.WhichOneof("content")))
                seen.sequences += [each.sequence for each in message.changes.changes]
            return seen
        except grpc.aio.AioRpcError as error:
            if error.code() not in CUT:
                raise
            seen.ends.append(error.code())
            await asyncio.sleep(0.1)


async def test_quiet_streams_are_kept_and_cut_ones_resumed(behind: Behind) -> None:
    """Who asks for signs of life keeps one stream; who does not is cut, and resumes without a gap; a wait is cut, and
    asks again; commands come to the end; the executor, whose heartbeats the engine sets, stays connected."""
    system = behind.system
    system.show_logs()
    execution_id = await system.begin("quiet")
    asked, unasked, execution, printed, result = await asyncio.gather(
        watch(behind.executions, execution_id, interval_s=1),
        watch(behind.executions, execution_id),
        behind.wait(execution_id, 30),
        command(behind.envoy.addresses[0], "watch", execution_id),
        command(behind.envoy.addresses[0], "action", "run", "std.sleep", "-i", f"seconds={QUIET_S}", "-k", "state"),
    )
    revision = (await system.get(execution_id)).revision
    assert state_of(execution) == "SUCCESS"
    assert (asked.ends, asked.sequences) == ([], list(range(1, revision + 1)))
    assert asked.kinds.count("progress") >= QUIET_S - 2
    assert unasked.ends == [grpc.StatusCode.INTERNAL], "RST_STREAM"
    assert unasked.sequences == list(range(1, revision + 1))
    assert behind.cut == {grpc.StatusCode.UNAVAILABLE: 1}
    assert "SUCCESS" in printed
    assert "SUCCESS" in result
    assert "stream ended" not in system.executor.new_log()


async def test_an_interval_below_a_second_is_refused(behind: Behind) -> None:
    """Signs of life cost a read each, so that a watcher cannot ask for more than one a second."""
    request = wire.WatchExecutionRequest(execution_id=str(uuid.uuid4()))
    request.progress_interval.FromMilliseconds(999)
    stream: Any = behind.executions.WatchExecution(request)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stream.read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert read_failure(raised.value).violations[0].subject == "progress_interval"


async def test_restarts_disturb_no_work(behind: Behind) -> None:
    """While work runs the proxy is drained and restarted, and the engine behind it killed and started: every POST, none
    of which may be repeated, arrives once, and clients see the end."""
    system, envoy = behind.system, behind.envoy
    async with counting_server() as (url, arrived):
        names = ["a", "b", "c"]
        ids = [await system.begin("posts", {"url": url, "name": name}) for name in names]
        watching = [asyncio.ensure_future(watch(behind.executions, each, interval_s=1)) for each in ids]
        waiting = [asyncio.ensure_future(behind.wait(each, 60)) for each in ids]
        await asyncio.sleep(1)
        await envoy.drain()
        await asyncio.sleep(1)
        await envoy.restart()
        await asyncio.sleep(0.5)
        assert len(arrived) < len(names) * 41, "all is done before the engine is killed"
        await system.engine.kill_and_restart()
        ended = await asyncio.gather(*waiting)
        seen = await asyncio.gather(*watching)
    assert [state_of(each) for each in ended] == ["SUCCESS"] * len(ids), ended[0].state_info
    wanted = {f"/{name}/{number}" for name in names for number in (*range(40), "last")}
    assert arrived == dict.fromkeys(wanted, 1)
    for execution_id, one in zip(ids, seen, strict=True):
        revision = (await system.get(execution_id)).revision
        assert one.sequences == list(range(1, revision + 1))
        assert one.ends, "no stream was cut"
    assert system.findings() == []


async def command(server: str, *arguments: str) -> str:
    """Run `dalsegno` at this server, and return what it prints. Fails the test if it fails."""
    process = await asyncio.create_subprocess_exec(
        *tied(sys.executable, "-m", "dalsegno.cli.main", "--server", server, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


@asynccontextmanager
async def counting_server() -> AsyncIterator[tuple[str, Counter[str]]]:
    """Serve POSTs that take a while; yield the URL, and how often each path was posted to."""
    arrived: Counter[str] = Counter()

    async def take(request: web.Request) -> web.Response:
        arrived[request.path] += 1
        await asyncio.sleep(0.5)
        return web.json_response(time.time())

    application = web.Application()
    application.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", arrived
    finally:
        await runner.cleanup()
