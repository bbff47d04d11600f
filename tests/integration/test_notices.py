"""Notices from a real engine to a web server of the test, also when the engine dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from tests.integration.engines import Client, EngineProcess, ScriptedExecutor, client_of, running_engine, until

from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import execution_service_pb2, workflow_service_pb2
from dalsegno.workflow.value import encode

TEXT = """
version: '2.0'
outer:
  output: {sum: 17}
  tasks:
    call: {workflow: inner}
inner:
  tasks:
    t: {action: std.noop}
"""


@dataclass
class Receiver:
    """A web server that keeps the notices."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """What it answers to the next notices; then 200."""
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Unless this is set it takes notices in and does not answer."""
    told: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Keep one notice."""
        self.told.append(await request.json())
        self.ids.append(request.headers["Dalsegno-Notice"])
        await self.answering.wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    def events(self) -> list[str]:
        """Return the events of the outer or the inner execution."""
        return [f"{each['event']} {each['workflow_name']}" for each in self.told]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Provide a receiver that accepts each notice."""
    made = Receiver()
    made.answering.set()
    application = web.Application()
    application.router.add_post("/hook", made.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    made.answering.set()
    await runner.cleanup()


async def start(client: Client, url: str, *event_types: str) -> str:
    """Start the outer workflow with a receiver of these events."""
    await client.submit("create_definitions", workflow_service_pb2.CreateDefinitionsRequest(text=TEXT))
    params = {"notify": [{"type": "webhook", "url": url, "event_types": list(event_types)}]}
    request = execution_service_pb2.StartExecutionRequest(workflow="outer", params=encode(params))
    answer = await client.submit("start_execution", request)
    return str(answer.execution.id)


def waiting(client: Client) -> int:
    """Return how many messages, with notices, the store holds."""
    import sqlite3

    path = client.engine.url.removeprefix("sqlite:///")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
        return int(count)
    finally:
        connection.close()


async def test_a_run_is_told_and_nothing_is_left(tmp_path: Path, receiver: Receiver) -> None:
    """Each event of parent and child arrives once, and the rows of the notices go away."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client, ScriptedExecutor(engine.address):
        execution_id = await start(client, receiver.url, "WORKFLOW_LAUNCHED", "WORKFLOW_SUCCEEDED", "TASK_SUCCEEDED")
        await client.wait(execution_id, "SUCCESS")
        await until(lambda: len(receiver.told) == 6)
        await until(lambda: waiting(client) == 0)

    of_outer = [each for each in receiver.events() if each.endswith("outer")]
    of_inner = [each for each in receiver.events() if each.endswith("inner")]
    assert of_outer == ["WORKFLOW_LAUNCHED outer", "TASK_SUCCEEDED outer", "WORKFLOW_SUCCEEDED outer"]
    assert of_inner == ["WORKFLOW_LAUNCHED inner", "TASK_SUCCEEDED inner", "WORKFLOW_SUCCEEDED inner"]
    last = next(each for each in receiver.told if each["event"] == "WORKFLOW_SUCCEEDED" and each["id"] == execution_id)
    assert (last["state"], last["output"]) == ("SUCCESS", {"sum": 17})


async def test_a_notice_is_posted_until_it_is_taken(tmp_path: Path, receiver: Receiver) -> None:
    """A receiver that fails twice is told a third time, of the same notice."""
    receiver.answers = [500, 503]
    async with running_engine(tmp_path) as engine, client_of(engine) as client, ScriptedExecutor(engine.address):
        await start(client, receiver.url, "WORKFLOW_LAUNCHED")
        await until(lambda: receiver.events().count("WORKFLOW_LAUNCHED outer") >= 2 and waiting(client) == 0)

    again = [id for id in set(receiver.ids) if receiver.ids.count(id) > 1]
    assert again
    assert len(receiver.ids) == 4  # two notices, two failures


async def _kill_before_it_is_taken(engine: EngineProcess, client: Client, receiver: Receiver) -> str:
    receiver.answering.clear()
    execution_id = await start(client, receiver.url, "WORKFLOW_LAUNCHED")
    await until(lambda: "WORKFLOW_LAUNCHED outer" in receiver.events())
    await engine.kill()
    receiver.answering.set()
    return execution_id


async def test_a_killed_engine_leaves_its_notices_to_the_next(tmp_path: Path, receiver: Receiver) -> None:
    """Killed after the commit and before the receiver had taken it: the notice comes again, once, by the same id."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        execution_id = await _kill_before_it_is_taken(engine, client, receiver)
        receiver.told.clear()
        await engine.start()
        async with ScriptedExecutor(engine.address):
            await client.wait(execution_id, "SUCCESS")
            await until(lambda: "WORKFLOW_LAUNCHED outer" in receiver.events(), timeout_s=40)
            await until(lambda: waiting(client) == 0, timeout_s=40)

    assert sorted(receiver.events()) == ["WORKFLOW_LAUNCHED inner", "WORKFLOW_LAUNCHED outer"]
    assert receiver.ids.count(receiver.ids[0]) == 2


async def test_a_start_with_a_wrong_receiver_is_refused(tmp_path: Path, receiver: Receiver) -> None:
    """The caller is told which field is wrong."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await start(client, receiver.url, "WORKFLOW_STARTED")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    failure = read_failure(caught.value)
    assert failure is not None
    assert [each.subject for each in failure.violations] == ["params.notify[0].event_types"]
