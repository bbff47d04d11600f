"""An execution that kills the engine is ended after three deaths; others are not affected."""

from __future__ import annotations

import asyncio
import fnmatch
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from tests.integration.engines import Client, EngineProcess, ScriptedExecutor, client_of, done, until
from tests.integration.test_engine import CHAIN, create, start
from tests.postgres import NoPostgres, run_postgres

from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.v1 import workflow_service_pb2
from dalsegno.workflow.changes import AttemptMoved

FAMILY = """
version: '2.0'
parent:
  output-on-error: {told: <% task(below).state_info %>}
  tasks:
    below: {workflow: victim, on-error: [mend]}
    mend: {action: std.noop, on-success: [fail]}
victim:
  output-on-error: {never: true}
  tasks:
    ill: {action: std.noop, on-error: [handler]}
    each: {with-items: i in <% range(40) %>, action: std.noop, concurrency: 2}
    handler: {action: std.noop}
"""
ORQUESTA = """
version: 1.0
output: [{never: true}]
tasks:
  ill: {action: std.noop, next: [{when: <% failed() %>, do: handler}]}
  handler: {action: std.noop}
"""
ABORTED = -6
ENDED = {"ill": "CANCELLED", "each": "CANCELLED"}


class Mortal(EngineProcess):
    """An engine that is started again after each death."""

    database = ""

    def __init__(self, folder: Path, event: str, workflow: str = "victim") -> None:
        super().__init__(folder)
        self.program = str(Path(__file__).parent / "dying_engine.py")
        self.environment = {"DYING_WORKFLOW": workflow, "DYING_EVENT": event, "TMPDIR": str(folder)}
        self.deaths: list[int] = []

    @property
    def url(self) -> str:
        return self.database or super().url

    async def keep_up(self) -> None:
        """Start it again and again until this is cancelled."""
        while True:
            self.deaths.append(await self.end())
            with suppress(AssertionError, grpc.aio.AioRpcError):  # it has died while it was being started
                await self.start()


@asynccontextmanager
async def kept_up(engine: Mortal) -> AsyncIterator[Mortal]:
    await engine.start()
    keeper = asyncio.create_task(engine.keep_up())
    try:
        yield engine
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        if engine.process is not None and engine.process.returncode is None:
            await engine.kill()


async def start_surely(client: Client, workflow: str) -> str:
    """Start an execution and return its id, also if the engine dies before its answer."""
    while True:
        try:
            return await start(client, workflow, request_id="only-once")
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


async def live_through_deaths(engine: Mortal, tasks: dict[str, str]) -> None:
    """A victim amid chains: the victim, with these tasks, is ended with the reason after three deaths, its parent is
    told, all others finish, and every row is what its journal says."""
    async with (
        kept_up(engine),
        client_of(engine) as client,
        ScriptedExecutor(engine.address, lambda run: done(run, result=run.input.partition(":")[2].rstrip("}"))),
    ):
        await create(client, CHAIN)
        await create(client, FAMILY)
        chains = [await start(client, "chain", '{"count": 30}') for _ in range(5)]
        parent = await start_surely(client, "parent")
        row = await client.wait(parent, timeout_s=60)
        assert "died 3 times in a row" in row.info + row.output
        (child,) = client.read(lambda queries: queries.children(parent))
        victim = client.read(lambda queries: queries.execution(child.id))
        assert (victim.state, victim.deaths) == ("ERROR", 3)
        assert victim.output == f'{{"result":"{victim.info}"}}'
        assert "died 3 times in a row" in victim.info
        rows = client.read(lambda queries: queries.tasks(child.id).rows)
        assert {row.name: row.state for row in rows} == tasks
        for execution_id in chains:
            row = await client.wait(execution_id, timeout_s=60)
            assert (row.state, row.output) == ("SUCCESS", '{"total":30}')
            ended = [
                entry.change.key
                for entry in client.journal(execution_id)
                if isinstance(entry.change, AttemptMoved) and entry.change.state == "SUCCESS"
            ]
            assert len(ended) == len(set(ended)) == 31
        assert engine.deaths == [ABORTED] * 3
        told = (engine.folder / "engine.log").read_text()
        assert told.count("the engine died while it stepped execution") == 3
        store = open_store(engine.url, read_only=True)
        assert list(check(store)) == []
        store.close()


@pytest.mark.parametrize(("event", "tasks"), [("TaskDone", ENDED), ("StartRequested", {})])
async def test_three_deaths_in_the_engines_own_code(tmp_path: Path, event: str, tasks: dict[str, str]) -> None:
    """os.abort() whenever an event of one execution is stepped, though more of it is handed out in between."""
    await live_through_deaths(Mortal(tmp_path, event), tasks)


async def test_three_deaths_on_postgres(tmp_path: Path) -> None:
    """The same where the page is among the temporary files."""
    engine = Mortal(tmp_path, "TaskDone")
    try:
        with run_postgres() as url:
            engine.database = url
            await live_through_deaths(engine, ENDED)
            assert len(fnmatch.filter(os.listdir(tmp_path), "dalsegno-*.stepping")) == 1
    except NoPostgres as reason:
        pytest.skip(str(reason))


async def test_the_reason_is_the_error_of_an_orquesta_workflow(tmp_path: Path) -> None:
    """A language with a list of errors: no output, and the reason in the list."""
    async with (
        kept_up(Mortal(tmp_path, "TaskDone", "ill")) as engine,
        client_of(engine) as client,
        ScriptedExecutor(engine.address) as executor,
    ):
        await create_orquesta(client, ORQUESTA, "ill")
        execution_id = await start_surely(client, "ill")
        row = await client.wait(execution_id, timeout_s=60)
        assert (row.state, row.output) == ("ERROR", "null")
        assert row.errors == f'[{{"type":"error","message":"{row.info}"}}]'
        await until(lambda: executor.acks)  # what it still tells is answered, and kills nobody
        assert engine.deaths == [ABORTED] * 3


WORDS = """
version: '2.0'
words:
  output: {said: <% $.said %>}
  tasks:
    say: {action: std.noop, on-success: [count]}
    count: {action: "std.echo output=<% 'fatal'.len() %>", publish: {said: <% task().result %>}}
"""


async def test_one_death_in_an_expression(tmp_path: Path) -> None:
    """os.abort() when a certain expression is evaluated in the engine: the next one has it evaluated outside."""
    async with (
        kept_up(Mortal(tmp_path, "none")) as engine,
        client_of(engine) as client,
        ScriptedExecutor(engine.address, lambda run: done(run, result=run.input.partition(":")[2].rstrip("}"))),
    ):
        await create(client, WORDS)
        row = await client.wait(await start_surely(client, "words"), timeout_s=60)
        assert (row.state, row.output, row.deaths) == ("SUCCESS", '{"said":5}', 0)
        assert engine.deaths == [ABORTED]


async def create_orquesta(client: Client, text: str, name: str) -> None:
    await client.submit("create_definitions", workflow_service_pb2.CreateDefinitionsRequest(text=text, name=name))
