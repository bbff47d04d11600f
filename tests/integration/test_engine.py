"""The engine as a process on SQLite, over the wire."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engines import (
    Client,
    EngineProcess,
    ScriptedExecutor,
    client_of,
    done,
    running_engine,
    succeed,
    until,
)

from dalsegno.rpc.failure import read_failure
from dalsegno.store.records import AttemptRow
from dalsegno.v1 import action_service_pb2, execution_service_pb2, workflow_service_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import AttemptMoved
from dalsegno.workflow.identity import parse_attempt_id

CHAIN = """
version: '2.0'
chain:
  input: [count]
  output: {total: <% $.n %>}
  tasks:
    begin:
      publish: {n: 0}
      on-success: [count_up]
    count_up:
      action: std.echo output=<% $.n + 1 %>
      publish: {n: <% $.n + 1 %>}
      on-success:
        - count_up: <% $.n < $.count %>
"""


async def create(client: Client, text: str) -> None:
    await client.submit("create_definitions", workflow_service_pb2.CreateDefinitionsRequest(text=text))


async def start(client: Client, workflow: str, input_text: str = "", **more: object) -> str:
    request = execution_service_pb2.StartExecutionRequest(workflow=workflow, input=input_text, **more)  # type: ignore[arg-type]
    answer = await client.submit("start_execution", request)
    return str(answer.execution.id)


async def test_chain_runs_to_its_end(tmp_path: Path) -> None:
    """A workflow that is defined, started and worked on over the wire ends in SUCCESS with its output (P1-P6)."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client, ScriptedExecutor(engine.address):
        await create(client, CHAIN)
        execution_id = await start(client, "chain", '{"count": 20}')
        row = await client.wait(execution_id)
    assert (row.state, row.output) == ("SUCCESS", '{"total":20}')


async def test_killed_engine_loses_nothing(tmp_path: Path) -> None:
    """An engine that is killed again and again continues where it was: every task succeeds once in the journal."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        await create(client, CHAIN)
        async with ScriptedExecutor(engine.address):
            ids = [await start(client, "chain", '{"count": 100}') for _ in range(3)]
            for _ in range(4):
                await asyncio.sleep(0.15)
                await engine.kill()
                await engine.start()
            for execution_id in ids:
                row = await client.wait(execution_id)
                assert (row.state, row.output) == ("SUCCESS", '{"total":100}')
        for execution_id in ids:
            journal = client.journal(execution_id)
            ended = Counter(
                entry.change.key
                for entry in journal
                if isinstance(entry.change, AttemptMoved) and entry.change.state == "SUCCESS"
            )
            assert len(ended) == 101
            assert set(ended.values()) == {1}
            assert [entry.sequence for entry in journal] == list(range(1, len(journal) + 1))


UNSAFE = """
version: '2.0'
unsafe:
  tasks:
    risk:
      action: test.unsafe
      on-error: [mend]
    mend:
      action: std.noop
safe:
  tasks:
    only:
      action: std.noop
"""


async def test_lost_executor_fails_what_is_not_safe(tmp_path: Path) -> None:
    """When a lease ends an action that is not safe to run twice fails and names the executor; on-error takes over."""
    async with (
        running_engine(tmp_path, "--lease-s", "2", "--heartbeat-s", "0.2") as engine,
        client_of(engine) as client,
    ):
        await create(client, UNSAFE)
        lost = ScriptedExecutor(engine.address, lambda run: None, executor_id="doomed")
        async with lost:
            await until(lambda: lost.welcomes)
            execution_id = await start(client, "unsafe")
            await until(lambda: lost.received)
            await lost.die()
        async with ScriptedExecutor(engine.address, executor_id="heir"):
            row = await client.wait(execution_id)
        assert row.state == "SUCCESS"
        attempts = client.read(lambda queries: queries.attempts(execution_id).rows)
        assert [(each.action, each.state, each.delivery) for each in attempts] == [
            ("test.unsafe", "ERROR", 1),
            ("std.noop", "SUCCESS", 1),
        ]
        assert "'doomed'" in attempts[0].error


async def test_lost_executor_hands_over_what_is_safe(tmp_path: Path) -> None:
    """When a lease ends an action that is safe to run twice goes to another executor, as the next delivery."""
    async with (
        running_engine(tmp_path, "--lease-s", "2", "--heartbeat-s", "0.2") as engine,
        client_of(engine) as client,
    ):
        await create(client, UNSAFE)
        lost = ScriptedExecutor(engine.address, lambda run: None, executor_id="doomed")
        async with lost:
            await until(lambda: lost.welcomes)
            execution_id = await start(client, "safe")
            await until(lambda: lost.received)
            await lost.die()
        async with ScriptedExecutor(engine.address, executor_id="heir") as heir:
            await client.wait(execution_id, "SUCCESS")
        assert [run.delivery for run in heir.received] == [2]


async def test_silent_executor_loses_its_lease(tmp_path: Path) -> None:
    """A stream that stays open without a sign of life does not keep a lease; a late answer is superseded."""
    async with (
        running_engine(tmp_path, "--lease-s", "2", "--heartbeat-s", "0.2") as engine,
        client_of(engine) as client,
    ):
        await create(client, UNSAFE)
        async with ScriptedExecutor(engine.address, lambda run: None, executor_id="mute", beats=False) as mute:
            await until(lambda: mute.welcomes)
            execution_id = await start(client, "safe")
            await until(lambda: mute.received)
            await until(lambda: len(mute.welcomes) > 1)
            first = mute.welcomes[1].superseded
            assert [(each.action_execution_id, each.delivery) for each in first] == [(f"{execution_id}.1.0.1", 1)]


async def test_executor_that_returns_within_its_lease_keeps_its_work(tmp_path: Path) -> None:
    """After a broken stream, what Hello lists stays; what it does not list was never received and is sent again."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        await create(client, UNSAFE)
        async with ScriptedExecutor(engine.address, lambda run: None) as executor:
            await until(lambda: executor.welcomes)
            kept = await start(client, "unsafe")
            await until(lambda: len(executor.received) == 1)
            missed = await start(client, "unsafe")
            await until(lambda: len(executor.received) == 2)
            del executor.held[f"{missed}.1.0.1", 1]  # as if it had never arrived
            await engine.kill()
            await engine.start()
            await until(lambda: len(executor.received) == 3)
            again = executor.received[2]
            assert (again.action_execution_id, again.delivery) == (f"{missed}.1.0.1", 2)
            for run in (executor.received[0], again):
                await executor.finish(run, done(run))
            await until(lambda: {ack.verdict for ack in executor.acks} == {wire.ACK_VERDICT_ACCEPTED})
            executor.script = succeed
            await client.wait(kept, "SUCCESS")
            await client.wait(missed, "SUCCESS")


async def test_new_session_ends_the_old_one(tmp_path: Path) -> None:
    """An executor that starts again takes the place of its old session, which is told so and does not come back."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        await create(client, UNSAFE)
        async with ScriptedExecutor(engine.address, lambda run: None, executor_id="one") as old:
            await until(lambda: old.welcomes)
            execution_id = await start(client, "safe")
            await until(lambda: old.received)
            async with ScriptedExecutor(engine.address, executor_id="one"):
                await client.wait(execution_id, "SUCCESS", timeout_s=5)
                await until(lambda: old.errors)
                assert read_failure(old.errors[-1]).reason == "SESSION_SUPERSEDED"


async def test_outcomes_are_acknowledged_with_their_verdict(tmp_path: Path) -> None:
    """An exact repeat is a duplicate, another delivery superseded, what names nothing is refused (P24, P25)."""
    async with running_engine(tmp_path) as engine, client_of(engine) as client:
        await create(client, UNSAFE)
        async with ScriptedExecutor(engine.address) as executor:
            execution_id = await start(client, "safe")
            await client.wait(execution_id, "SUCCESS")
            run = executor.received[0]
            other = wire.TaskDone(
                action_execution_id=run.action_execution_id, delivery=7, outcome=wire.TASK_OUTCOME_FAILED
            )
            unknown = wire.TaskDone(
                action_execution_id=f"{execution_id}.9.0.1", delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED
            )
            nothing = wire.TaskDone(action_execution_id="nonsense", delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED)
            await until(lambda: executor.acks)
            executor.acks.clear()
            outcomes = [done(run), other, unknown, nothing]
            await executor.say(task_done=wire.TaskDoneBatch(outcomes=outcomes))
            await until(lambda: len(executor.acks) == 4)
        verdicts = {(ack.action_execution_id, ack.delivery): ack.verdict for ack in executor.acks}
        assert verdicts[run.action_execution_id, 1] == wire.ACK_VERDICT_DUPLICATE
        assert verdicts[run.action_execution_id, 7] == wire.ACK_VERDICT_SUPERSEDED
        assert verdicts[f"{execution_id}.9.0.1", 1] == wire.ACK_VERDICT_REFUSED
        assert verdicts["nonsense", 1] == wire.ACK_VERDICT_REFUSED


async def test_goodbye_with_release_gives_back_at_once(tmp_path: Path) -> None:
    """What an executor releases goes to another one without waiting for the lease."""
    async with running_engine(tmp_path, "--lease-s", "60") as engine, client_of(engine) as client:
        await create(client, UNSAFE)
        async with ScriptedExecutor(engine.address, lambda run: None, executor_id="leaving") as leaving:
            await until(lambda: leaving.welcomes)
            execution_id = await start(client, "safe")
            await until(lambda: leaving.received)
            async with ScriptedExecutor(engine.address, executor_id="staying") as staying:
                await until(lambda: staying.welcomes)
                await leaving.say(goodbye=wire.Goodbye(release=True))
                await client.wait(execution_id, "SUCCESS")


async def test_oversized_and_unfit_results_fail_their_action(tmp_path: Path) -> None:
    """A result that is no JSON, or over 4,000,000 bytes, is the failure that says so (dalsegno/README.md#contract)."""
    texts = {"std.noop": "{nonsense", "std.echo": '"' + "x" * (5 << 20) + '"'}
    async with (
        running_engine(tmp_path) as engine,
        client_of(engine) as client,
        ScriptedExecutor(engine.address, lambda run: done(run, result=texts[run.action])),
    ):
        ids = [await run_action(client, "std.noop"), await run_action(client, "std.echo", '{"output": 1}')]
        rows = [await ended_attempt(client, each) for each in ids]
    assert [row.state for row in rows] == ["ERROR", "ERROR"]
    assert "not JSON" in rows[0].error
    assert "result too large" in rows[1].error


async def test_an_executor_that_floods_is_read_slowly(tmp_path: Path) -> None:
    """300 MB of results for ids that name nothing, then 50,000 small ones: refused one by one, while others are
    served; the engine stays small, and the executor that it reads slowly keeps its lease."""
    unknown = "00000000-0000-7000-8000-000000000000"
    async with (
        running_engine(tmp_path, "--lease-s", "2", "--heartbeat-s", "0.5") as engine,
        client_of(engine) as client,
        ScriptedExecutor(engine.address, executor_id="flood", actions=(("test.other", True),)) as flood,
        ScriptedExecutor(engine.address),
    ):
        await create(client, UNSAFE)
        await until(lambda: flood.welcomes)
        flooding = asyncio.create_task(_flood(flood, unknown))
        taken_s = []
        while not flooding.done():
            began_s = time.monotonic()
            await client.wait(await start(client, "safe"), "SUCCESS")
            taken_s.append(time.monotonic() - began_s)
            await asyncio.sleep(0.1)
        await flooding
        await until(lambda: len(flood.acks) == 50_300, timeout_s=60)
        assert {ack.verdict for ack in flood.acks} == {wire.ACK_VERDICT_REFUSED}
        assert len(flood.welcomes) == 1
        assert max(taken_s) < 5
        assert memory_peak_mib(engine) < 400


async def _flood(flood: ScriptedExecutor, unknown: str) -> None:
    large = '"' + "x" * 1_000_000 + '"'
    for number in range(20):
        outcomes = [
            wire.TaskDone(
                action_execution_id=f"{unknown}.{number}.{item}.1",
                delivery=1,
                outcome=wire.TASK_OUTCOME_SUCCEEDED,
                result=large,
            )
            for item in range(15)
        ]
        await flood.say(task_done=wire.TaskDoneBatch(outcomes=outcomes))
    for number in range(100):
        outcomes = [
            wire.TaskDone(
                action_execution_id=f"{unknown}.{number}.{item}.1", delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED
            )
            for item in range(500)
        ]
        await flood.say(task_done=wire.TaskDoneBatch(outcomes=outcomes))


def memory_peak_mib(engine: EngineProcess) -> float:
    """The most that an engine has taken."""
    assert engine.process is not None
    status = Path(f"/proc/{engine.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


async def test_stop_drains_the_streams(tmp_path: Path) -> None:
    """SIGTERM sends Drain, lets executors bring what they have, and ends with exit code 0."""
    async with running_engine(tmp_path) as engine, client_of(engine), ScriptedExecutor(engine.address) as executor:
        await until(lambda: executor.welcomes)
        assert await asyncio.wait_for(engine.stop(), 10) == 0


async def test_second_engine_on_the_same_file_refuses_to_start(tmp_path: Path) -> None:
    """One engine serves a SQLite file."""
    async with running_engine(tmp_path):
        with pytest.raises(AssertionError, match="another engine"):
            await EngineProcess(tmp_path).start()


async def run_action(client: Client, name: str, input_text: str = "", **more: Any) -> str:
    request = action_service_pb2.RunActionRequest(action=name, input=input_text, **more)
    answer = await client.submit("run_action", request)
    return str(answer.action_execution.id)


async def ended_attempt(client: Client, action_execution_id: str) -> AttemptRow:
    execution_id, key = parse_attempt_id(action_execution_id)
    await client.wait(execution_id)
    row = client.read(lambda queries: queries.attempt(execution_id, key))
    assert isinstance(row, AttemptRow)
    return row
