"""What waits in the store when an engine dies: timers, children, deadlines; and several engines on one store."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.engines import Client, EngineProcess, ScriptedExecutor, client_of, done, running_engine, until
from tests.integration.test_engine import CHAIN, create, start
from tests.postgres import NoPostgres, run_postgres

from dalsegno.store.opening import open_store
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import AttemptMoved
from dalsegno.workflow.journal import replay

WAITING = """
version: '2.0'
waiting:
  tasks:
    first:
      action: std.noop
      wait-before: 1
      on-success: [second]
    second:
      action: test.flaky
      retry: {count: 3, delay: 1}
"""

FAMILY = """
version: '2.0'
parent:
  input: [names]
  output: {all: <% $.all %>}
  tasks:
    each:
      with-items: name in <% $.names %>
      workflow: child name=<% $.name %>
      publish: {all: <% task().result %>}
child:
  input: [name]
  output: {said: <% $.said %>}
  tasks:
    say:
      action: std.echo output=<% $.name %>
      publish: {said: <% task().result %>}
"""


async def test_delays_and_retries_survive_a_killed_engine(tmp_path: Path) -> None:
    """A timer is a row: a new engine finds it and fires it when it is due (S10)."""
    failures = iter([True, False])

    def script(run: wire.RunAction) -> wire.TaskDone:
        if run.action == "test.flaky" and next(failures):
            return done(run, wire.TASK_OUTCOME_FAILED, error="not yet")
        return done(run)

    actions = (("std.noop", True), ("test.flaky", True))
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        await create(client, WAITING)
        async with ScriptedExecutor(engine.address, script, actions=actions) as executor:
            await until(lambda: executor.welcomes)
            began_s = time.time()
            execution_id = await start(client, "waiting")
            await engine.kill()
            await engine.start()
            await until(lambda: len(executor.received) == 2)
            await engine.kill()
            await engine.start()
            row = await client.wait(execution_id)
    assert row.state == "SUCCESS"
    assert time.time() - began_s >= 2
    assert [run.action for run in executor.received] == ["std.noop", "test.flaky", "test.flaky"]


async def test_family_survives_a_killed_engine(tmp_path: Path) -> None:
    """Children that were created and not yet started, or whose end was not yet told, are found by a new engine."""
    names = [f"n{number}" for number in range(30)]
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        await create(client, FAMILY)

        def echo(run: wire.RunAction) -> wire.TaskDone:
            return done(run, result=run.input.partition(":")[2].rstrip("}"))

        async with ScriptedExecutor(engine.address, echo, slots=3):
            text = str(names).replace("'", '"')
            execution_id = await start(client, "parent", f'{{"names": {text}}}')
            for _ in range(3):
                await asyncio.sleep(0.02)
                await engine.kill()
                await engine.start()
            row = await client.wait(execution_id)
        assert row.state == "SUCCESS"
        for name in names:
            assert f'"{name}"' in row.output
        children = client.read(lambda queries: queries.children(execution_id))
        assert Counter(child.state for child in children) == {"SUCCESS": 30}
        for execution in (execution_id, *(child.id for child in children)):
            check_replay(client, execution)


async def test_deadline_ends_an_execution(tmp_path: Path) -> None:
    """An execution that is not completed by its deadline is ERROR, and whoever works on it is told."""
    async with (
        running_engine(tmp_path) as engine,
        client_of(engine) as client,
        ScriptedExecutor(engine.address, lambda run: None) as executor,
    ):
        await create(client, CHAIN)
        await until(lambda: executor.welcomes)
        due = Timestamp()
        due.FromNanoseconds(time.time_ns() + 3_000_000_000)
        execution_id = await start(client, "chain", '{"count": 1}', deadline=due)
        await until(lambda: executor.received)
        row = await client.wait(execution_id)
        assert (row.state, "deadline" in row.info) == ("ERROR", True)
        await until(lambda: executor.cancelled)


def check_replay(client: Client, execution_id: str) -> None:
    """Replaying the journal gives what the rows say."""
    replayed = replay(entry.change for entry in client.journal(execution_id))
    row = client.read(lambda queries: queries.execution(execution_id))
    assert (replayed.state, replayed.revision, replayed.active_count) == (row.state, row.revision, row.active_count)
    rows = client.read(lambda queries: queries.attempts(execution_id, size=1000).rows)
    assert {each.key: each.state for each in rows} == {key: each.state for key, each in replayed.attempts.items()}


class PostgresEngine(EngineProcess):
    """An engine on a PostgreSQL database."""

    database = ""

    @property
    def url(self) -> str:
        return self.database


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


async def test_two_engines_on_one_store(tmp_path: Path, postgres_url: str) -> None:
    """Any engine may handle any event: work at both, one of them killed, and everything happens once."""
    store = open_store(postgres_url)
    store.upgrade()
    store.close()
    engines = [PostgresEngine(tmp_path, ("--lease-s", "2", "--heartbeat-s", "0.2")) for _ in range(2)]
    for engine in engines:
        engine.database = postgres_url
        await engine.start()
    one, two = engines
    try:
        async with (
            client_of(one) as left,
            client_of(two) as right,
            ScriptedExecutor(one.address, executor_id="left", slots=10),
            ScriptedExecutor(two.address, executor_id="right", slots=10),
        ):
            await create(left, CHAIN)
            ids = []
            for number in range(20):
                ids.append(await start((left, right)[number % 2], "chain", '{"count": 10}'))
            await asyncio.sleep(0.3)
            await one.kill()
            for execution_id in ids:
                row = await right.wait(execution_id, timeout_s=60)
                assert (row.state, row.output) == ("SUCCESS", '{"total":10}')
            for execution_id in ids:
                succeeded = Counter(
                    entry.change.key
                    for entry in right.journal(execution_id)
                    if isinstance(entry.change, AttemptMoved) and entry.change.state == "SUCCESS"
                )
                assert (len(succeeded), set(succeeded.values())) == (11, {1})
                check_replay(right, execution_id)
    finally:
        for engine in engines:
            if engine.process is not None and engine.process.returncode is None:
                await engine.kill()
