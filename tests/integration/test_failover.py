"""The store fails over while two engines work on it: the primary is killed, cut off, frozen; its standby is frozen,
slow or away. Nothing is lost and nothing is done twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from tests.cutting import Cutter
from tests.postgres import NoPostgres, Pair, Server, run_pair
from tests.processes import Service, System, says_serving, state_of

from dalsegno.engine.batches.readiness import HANGS_S
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import read_failure
from dalsegno.store.opening import open_store
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Store, StoreUnreachable

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("failover")]

ACTIONS = 4
CLIENTS = 4
PAUSE_S = 0.1
"""Between two starts of a client: what is started is waited for afterwards."""

LOAD_S = 60.0
"""What was begun before a fault may take as long as a call does, and is then begun again."""

WORKFLOW = """
version: '2.0'
chain:
  input: [n]
  output: {n: <% $.n %>}
  tasks:
    a: {action: std.echo output=<% $.n %>, on-success: [b, c]}
    b: {action: std.echo output=<% $.n %>, on-success: [d]}
    c: {action: std.echo output=<% $.n %>, on-success: [d]}
    d: {join: all, action: std.echo output=<% $.n %>}
"""


class Cluster(System):
    """Two engines on one pair of servers, an executor that knows both, an api."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        super().__init__(folder, database=pair.url)
        self.pair = pair
        (folder / "second").mkdir()
        self.second = Service("engine", folder / "second", self.engine.arguments)
        self.executor.arguments = (*self.executor.arguments, "--engine", self.second.address)
        self.services.insert(1, self.second)
        self.number = 0

    async def begin_one(self) -> str:
        """Start an execution, again and again until that is answered; its id."""
        self.number += 1
        request_id, number = f"request-{self.number}", self.number
        while True:
            try:
                return await self.begin("chain", {"n": number}, request_id=request_id)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[list[str]]:
        """Start executions all the time; afterwards each is at rest, and every action of it has run once."""
        begun: list[str] = []
        stopped = asyncio.Event()

        async def start_on() -> None:
            while not stopped.is_set():
                begun.append(await self.begin_one())
                await asyncio.sleep(PAUSE_S)

        async def look_at(execution_id: str) -> None:
            assert state_of(await self.wait(execution_id)) == "SUCCESS"
            assert sorted(attempt.attempt for attempt in await self.attempts(execution_id)) == [1] * ACTIONS

        starting = [asyncio.create_task(start_on()) for _ in range(CLIENTS)]
        try:
            await until(lambda: len(begun) > 10, LOAD_S)
            yield begun
            count = len(begun)
            await until(lambda: len(begun) > count + 10, LOAD_S)
        finally:
            stopped.set()
            await asyncio.gather(*starting)
        assert len(set(begun)) == len(begun)
        await asyncio.gather(*map(look_at, begun))
        assert self.findings() == []

    async def is_serving(self) -> list[bool]:
        """What the health of both engines and of the api says."""
        return [await _is_serving(each) for each in (self.engine, self.second, self.api)]


async def _is_serving(service: Service) -> bool:
    async with open_channel(service.address) as channel:
        return await says_serving(channel)


async def until(holds: Callable[[], bool | Awaitable[bool]], timeout_s: float) -> float:
    """Return after how many seconds it holds. Fails the test after `timeout_s`."""
    began_s = time.monotonic()
    while True:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return time.monotonic() - began_s
        assert time.monotonic() - began_s < timeout_s, "it did not come true in time"
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and its synchronous standby."""
    try:
        with run_pair() as running:
            yield running
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Services that use the pair."""
    running = Cluster(tmp_path_factory.mktemp("cluster"), pair)
    async with running:
        await running.define(WORKFLOW)
        yield running


async def test_a_killed_primary(cluster: Cluster) -> None:
    """After a kill -9 of the primary the services go on with the standby that is promoted."""
    async with cluster.load():
        cluster.pair.kill_primary()
        cluster.pair.promote()
    cluster.pair.rejoin()


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_primary_that_is_only_cut_off(cluster: Cluster, *, frozen: bool) -> None:
    """Nothing that the old primary is told counts, and within 10 s of the promotion nobody uses it, though it goes on
    running, or stands still and comes back."""
    async with cluster.load() as begun:
        cluster.pair.cut_primary(frozen=frozen)
        old = cluster.pair.promote()
        promoted_s = time.monotonic()
        count = len(begun)
        await until(lambda: len(begun) > count, 10.0)
        old.resume()
        await until(lambda: _strangers(old.ask(_CLIENTS)) == 0, 10.0 - (time.monotonic() - promoted_s))
    assert old.ask("SELECT count(*) FROM executions WHERE created_s > extract(epoch FROM now()) - 1") == 0
    cluster.pair.rejoin()


async def test_a_network_that_swallows_everything(cluster: Cluster) -> None:
    """The primary goes on and its connections stay open, and nothing comes from it any more: once the standby is
    promoted, what waits there is given up, and the next transaction is the new primary's. It stays so when everything
    flows again."""
    pair = cluster.pair
    async with Cutter(f"127.0.0.1:{pair.primary.port}") as hole, Cutter(f"127.0.0.1:{pair.standby.port}") as other:
        store = open_store(f"postgresql://tester@{hole.address},{other.address}/postgres")
        await asyncio.to_thread(settle, store, "before")
        hole.flows.clear()
        waiting = asyncio.create_task(asyncio.to_thread(settle, store, "lost"))
        await until(lambda: store.stall().lasts_s > 0.5, 10.0)
        pair.cut_primary()
        pair.promote()
        with pytest.raises(StoreUnreachable):
            await asyncio.wait_for(waiting, 10.0)
        await asyncio.to_thread(settle, store, "during")
        hole.flows.set()
        await asyncio.to_thread(settle, store, "after")
        store.close()
    found = pair.primary.ask("SELECT string_agg(key, ' ' ORDER BY key) FROM settings WHERE value = 'swallowed'")
    assert found == "after before during"
    pair.rejoin()


def settle(store: Store, key: str) -> None:
    """Write something in a transaction of its own."""
    with store.write() as transaction:
        transaction.settle(key, "swallowed")


async def test_readers_that_prefer_the_standby(cluster: Cluster) -> None:
    """With target_session_attrs=prefer-standby what reads, as the tools do, asks the standby; what writes has the
    primary all the same; and without a standby the primary is read."""
    pair = cluster.pair
    url = pair.url.replace("read-write", "prefer-standby")
    store = SqlStore(url)
    await asyncio.to_thread(settle, store, "prefers")
    with store.inspect() as connection:
        assert connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
    store.close()
    tool = (sys.executable, "-m", "dalsegno.store", "--database", url, "check")
    await asyncio.to_thread(subprocess.run, tool, check=True, timeout=60)
    pair.standby.stop()
    store = SqlStore(url)
    with store.inspect() as connection:
        assert not connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
    store.close()
    pair.standby.start()


_CLIENTS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dalsegno%' AND wait_event IS DISTINCT FROM"
    " 'SyncRep' AND application_name <> 'dalsegno watch'"
)
"""Who is connected to a server, without those who look whether it is the primary, and without sessions that wait for
its standby: a server does not notice meanwhile that their clients have left."""


def _strangers(count: object) -> int:
    assert isinstance(count, int)
    return count


async def test_a_commit_that_hangs(cluster: Cluster) -> None:
    """While the standby stands still, health soon says NOT_SERVING, starts are refused with a time to repeat
    them, and afterwards everything goes on: no engine and no lease has ended, and no commit was cancelled."""
    async with cluster.load():
        cluster.pair.standby.freeze()
        try:
            await until(lambda: _none(cluster), 10.0)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await cluster.begin("chain", {"n": 0})
            failure = read_failure(caught.value)
            why = "the store is not written at present: a commit does not end; the database waits for its synchronous"
            told = f"not ready: the engine at {cluster.engine.address}: {why} standby"
            await until(lambda: told in cluster.api.log.read_text(), 10.0)
        finally:
            cluster.pair.standby.resume()
        await until(lambda: _all(cluster), 10.0)
    assert (failure.code, failure.retry_s) == (grpc.StatusCode.UNAVAILABLE, 1.0)
    assert not any("has ended" in engine.log.read_text() for engine in (cluster.engine, cluster.second))


async def _none(cluster: Cluster) -> bool:
    return not any(await cluster.is_serving())


async def _all(cluster: Cluster) -> bool:
    return all(await cluster.is_serving())


@contextmanager
def _away(primary: Server) -> Iterator[None]:
    primary.stop()
    yield
    primary.start()


@contextmanager
def _read_only(primary: Server) -> Iterator[None]:
    primary.alter("default_transaction_read_only = on")
    yield
    primary.alter("default_transaction_read_only = off")


@contextmanager
def _full(primary: Server) -> Iterator[None]:
    primary.ask(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
    )
    primary.ask("CREATE TRIGGER full_disk BEFORE INSERT ON journal EXECUTE FUNCTION full_disk()")
    yield
    primary.ask("DROP FUNCTION full_disk CASCADE")


@pytest.mark.parametrize("outage", [_away, _read_only, _full])
async def test_a_store_that_cannot_be_written(
    cluster: Cluster, outage: Callable[[Server], AbstractContextManager[None]]
) -> None:
    """While the database is away, read-only or full the services stay up and refuse with a time to repeat, and then
    they go on."""
    pids = [service.pid for service in cluster.services]
    async with cluster.load():
        with outage(cluster.pair.primary):
            code = None
            while code is None:
                try:
                    await cluster.begin("chain", {"n": 0})
                except grpc.aio.AioRpcError as error:
                    code = error.code()
            await asyncio.sleep(1.0)
        await until(lambda: _all(cluster), 10.0)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert pids == [service.pid for service in cluster.services]


async def test_a_slow_store(cluster: Cluster) -> None:
    """With commits of 2 s all stay SERVING, starts are stored, and no engine takes another one for dead."""
    pair = cluster.pair
    pids = [service.pid for service in cluster.services]
    async with cluster.load() as begun:
        pair.standby.alter("recovery_min_apply_delay = '2s'")
        pair.primary.alter("synchronous_commit = remote_apply")
        count, began_s = len(begun), time.monotonic()
        serving: list[bool] = []
        while len(begun) < count + CLIENTS or time.monotonic() - began_s < HANGS_S + 1.0:
            serving += await cluster.is_serving()
            await asyncio.sleep(0.5)
        pair.primary.alter("synchronous_commit = on")
        pair.standby.alter("recovery_min_apply_delay = 0")
    assert all(serving)
    assert pids == [service.pid for service in cluster.services]
