"""kill -9 of each service, and of all at once, in the middle of 200 tasks: nothing is lost, nothing is done twice.

Each test stages one moment, on SQLite; test_chaos.py kills at random, on PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.endpoints import Endpoint
from tests.processes import Service, System, state_of

from dalsegno.store.opening import open_store
from dalsegno.v1 import change_pb2, execution_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("chaos")]

CHAINS, LENGTH = 11, 18
TASKS = CHAINS * LENGTH + 2
LEASE_S = 2.0
LEASE = ("--lease-s", str(LEASE_S), "--heartbeat-s", "0.3")

ACTION_SUCCESS = execution_pb2.ACTION_STATE_SUCCESS
TASK_SUCCESS = execution_pb2.TASK_STATE_SUCCESS


def busy() -> str:
    """A workflow of 200 tasks: a fan-out to chains, and a join. Each takes a few milliseconds and may run twice.

    Half way down each chain stands a gate, which nothing passes before the endpoint is released.
    """
    starts = ", ".join(f"c{chain}_0" for chain in range(CHAINS))
    tasks = [f"    begin: {{action: std.noop, on-success: [{starts}]}}"]
    for chain in range(CHAINS):
        for step in range(LENGTH):
            following = f"c{chain}_{step + 1}" if step + 1 < LENGTH else "gather"
            action = "action: std.echo output=1 delay=0.02"
            if step == LENGTH // 2:
                action = "action: std.http, input: {url: <% $.url %>}, safe-rerun: true"
            tasks.append(f"    c{chain}_{step}: {{{action}, on-success: [{following}]}}")
    tasks.append("    gather: {join: all, action: std.noop}")
    return "\n".join(["version: '2.0'", "busy:", "  input: [url]", "  tasks:", *tasks])


UNSAFE = """
version: '2.0'
reported:
  input: [url]
  output: {lost: <% $.lost %>}
  tasks:
    send:
      action: std.http
      input: {url: <% $.url %>, method: POST}
      publish-on-error: {lost: <% task().state_info %>}
      on-error: [mend]
    mend: {action: std.noop}
tried_again:
  input: [url]
  tasks:
    send:
      action: std.http
      input: {url: <% $.url %>, method: POST}
      retry: {count: 9, delay: 0}
"""


@pytest_asyncio.fixture(loop_scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    """Where the gates are."""
    async with Endpoint() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Services of which executors lose their lease after two seconds."""
    async with System(tmp_path_factory.mktemp("system"), engine=LEASE) as running:
        await running.define(busy())
        await running.define(UNSAFE)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def system(shared_system: System) -> AsyncIterator[System]:
    """The same, with all three running; afterwards every journal gives exactly the rows."""
    await shared_system.start()
    yield shared_system
    shared_system.show_logs()
    assert shared_system.findings() == []


async def in_the_middle(system: System, execution_id: str, share: float) -> None:
    """Return when this share of the tasks has succeeded."""
    succeeded: set[int] = set()

    def enough(change: change_pb2.Change) -> bool:
        if change.task_moved.state == TASK_SUCCESS:
            succeeded.add(change.task_moved.task_number)
        return len(succeeded) >= share * TASKS

    await system.until(execution_id, enough)


def stored_state(system: System, execution_id: str) -> str:
    """The state in the store, whether or not any service runs."""
    store = open_store(system.database, read_only=True)
    try:
        with store.read() as queries:
            row = queries.execution(execution_id)
    finally:
        store.close()
    assert row is not None
    return row.state


def killed(system: System, names: str) -> list[Service]:
    """Kill these services and say which."""
    services = [service for service in system.services if names in (service.name, "all")]
    for service in services:
        service.kill()
    return services


async def assert_done_once(system: System, execution_id: str) -> None:
    """It has succeeded, and its journal has each task and each attempt end in SUCCESS exactly once."""
    execution = await system.wait(execution_id)
    assert state_of(execution) == "SUCCESS", execution.state_info
    journal = await system.journal(execution_id)
    assert [change.sequence for change in journal] == list(range(1, execution.revision + 1))
    attempts = Counter(
        (moved.task_number, moved.item, moved.attempt)
        for moved in (change.attempt_moved for change in journal)
        if moved.state == ACTION_SUCCESS
    )
    tasks = Counter(
        moved.task_number for moved in (change.task_moved for change in journal) if moved.state == TASK_SUCCESS
    )
    assert len(attempts) == TASKS
    assert set(attempts.values()) == {1}
    assert len(tasks) == TASKS
    assert set(tasks.values()) == {1}
    names = Counter(task.name for task in await system.tasks(execution_id))
    assert len(names) == TASKS
    assert set(names.values()) == {1}


async def begin_busy(system: System, endpoint: Endpoint) -> str:
    """Start 200 tasks; its id."""
    return await system.begin("busy", {"url": f"{endpoint.url}/held/gate"})


@pytest.mark.parametrize("victims", ["engine", "executor", "api", "all"])
async def test_killed_in_the_middle(system: System, endpoint: Endpoint, victims: str) -> None:
    """kill -9 of one service or of all three amid 200 tasks: started again, every task is completed exactly once."""
    execution_id = await begin_busy(system, endpoint)
    await in_the_middle(system, execution_id, 0.25)
    assert killed(system, victims)
    assert stored_state(system, execution_id) == "RUNNING"
    endpoint.release.set()
    await system.start()
    await assert_done_once(system, execution_id)


async def test_executor_that_is_gone_for_good(system: System, endpoint: Endpoint) -> None:
    """When the killed executor does not come back its lease ends, and another one continues with what is safe."""
    execution_id = await begin_busy(system, endpoint)
    await endpoint.until_asked("/held/gate")  # so that there is certainly something that it takes along
    system.executor.kill()
    endpoint.release.set()
    known = system.executor.arguments
    try:
        system.executor.arguments = tuple("executor-2" if each == "executor-1" else each for each in known)
        await system.executor.start()
        await assert_done_once(system, execution_id)
        attempts = await system.attempts(execution_id)
        assert {each.executor_id for each in attempts} == {"executor-1", "executor-2"}
        assert any(each.delivery > 1 for each in attempts)
    finally:  # the next test has the first one back
        system.executor.arguments = known
        system.executor.terminate()


@pytest.mark.parametrize("victims", ["executor", "all"])
async def test_lost_action_that_is_not_safe(system: System, endpoint: Endpoint, victims: str) -> None:
    """Beside 200 safe tasks: a lost action that must not run twice is an ERROR that names the executor, was sent once,
    and on-error and retry take it from there."""
    beside = await begin_busy(system, endpoint)
    reported = await system.begin("reported", {"url": f"{endpoint.url}/held/reported"})
    tried = await system.begin("tried_again", {"url": f"{endpoint.url}/held/tried"})
    await endpoint.until_asked("/held/reported", "/held/tried")
    await in_the_middle(system, beside, 0.25)
    killed(system, victims)
    endpoint.release.set()
    await system.start()
    ended = await asyncio.gather(system.wait(reported), system.wait(tried))
    await assert_done_once(system, beside)
    assert [state_of(execution) for execution in ended] == ["SUCCESS", "SUCCESS"]
    assert "executor-1" in ended[0].output
    assert endpoint.calls["/held/reported"] == 1
    send, mend = await system.tasks(reported)
    assert (state_of(send), send.error_handled, state_of(mend)) == ("ERROR", True, "SUCCESS")
    assert "executor-1" in send.state_info
    # On a machine so busy that heartbeats come too late there may be more than one that was lost.
    *lost, last = await system.attempts(tried)
    assert lost
    assert {state_of(each) for each in lost} == {"ERROR"}
    assert all("executor-1" in each.error for each in lost)
    assert state_of(last) == "SUCCESS"
    assert {each.delivery for each in (*lost, last)} == {1}
    assert endpoint.calls["/held/tried"] == len(lost) + 1


async def test_lease_that_ends(system: System, endpoint: Endpoint) -> None:
    """Without an executor the lost action is an ERROR once the lease has ended, and not before."""
    execution_id = await system.begin("tried_again", {"url": f"{endpoint.url}/held/tried"})
    await endpoint.until_asked("/held/tried")
    system.executor.kill()
    assert (await system.get(execution_id)).active_count == 1
    lost = await system.until(
        execution_id, lambda change: change.attempt_moved.state == execution_pb2.ACTION_STATE_ERROR
    )
    assert "executor-1" in lost.attempt_moved.error
    first = (await system.attempts(execution_id))[0]
    took_s = (first.ended_at.ToNanoseconds() - first.started_at.ToNanoseconds()) / 1e9
    assert took_s >= 0.8 * LEASE_S
    endpoint.release.set()
    await system.executor.start()
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
