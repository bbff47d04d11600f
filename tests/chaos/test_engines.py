"""Several engines on one PostgreSQL: which of them dies, stands still or starts again changes no work.

By hand with more of everything: DALSEGNO_POSTS=12000 DALSEGNO_KILLS=8, DALSEGNO_CHAINS=300 DALSEGNO_ROUNDS=20.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.chaos.pairs import Pair
from tests.cutting import Cutter
from tests.endpoints import Endpoint
from tests.integration.engines import until
from tests.postgres import NoPostgres, run_postgres

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("engines"),
    pytest.mark.timeout(3600),
]

POSTS = int(os.environ.get("DALSEGNO_POSTS", "600"))
KILLS = int(os.environ.get("DALSEGNO_KILLS", "3"))
CHAINS = int(os.environ.get("DALSEGNO_CHAINS", "60"))
ROUNDS = int(os.environ.get("DALSEGNO_ROUNDS", "1"))
LENGTH = 5
MESSAGES = 20

WORKFLOWS = """
version: '2.0'
posts:
  input: [url, first, last]
  tasks:
    post:
      with-items: n in <% range($.first, $.last) %>
      action: std.http
      input: {url: <% $.url %>/slow/<% $.n %>, method: POST}
short:
  input: [url]
  tasks:
    post: {action: std.http, input: {url: <% $.url %>, method: POST}}
chain:
  input: [url]
  tasks:
""" + "\n".join(
    f"    p{each}: {{action: std.http, input: {{url: <% $.url %>/{each}, method: POST}}, on-success: [w{each}]}}\n"
    f"    w{each}: {{action: std.echo output=1 delay=0.1"
    + (f", on-success: [p{each + 1}]}}" if each + 1 < LENGTH else "}")
    for each in range(LENGTH)
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """PostgreSQL; without it the tests are skipped, with the reason."""
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest_asyncio.fixture(loop_scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    """Where POSTs arrive."""
    async with Endpoint() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_pair(server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Pair, Cutter]]:
    """Two engines and an executor, which reaches the first one through a connection that can hold messages back."""
    folder = tmp_path_factory.mktemp("pair")
    async with (
        Pair(folder, server, executor=("--slots", "200"), lease_s=10.0) as pair,
        Cutter(pair.engines[0].address) as cutter,
    ):
        executor = pair.add_executor("executor", through=(cutter.address, pair.engines[1].address))
        executor.launch()
        await pair.define(WORKFLOWS)
        yield pair, cutter


@pytest_asyncio.fixture(loop_scope="module")
async def pair(shared_pair: tuple[Pair, Cutter]) -> AsyncIterator[Pair]:
    """The same, with both engines running, and connected; afterwards every journal gives exactly the rows."""
    pair, cutter = shared_pair
    for engine in pair.engines:
        if not engine.is_running:
            await engine.start()
    for address in (cutter.address, pair.engines[1].address):
        await until(lambda: "stream open" in (executor_log(pair, address) or [""])[-1], 30)  # noqa: B023
    yield pair
    assert pair.findings() == []


@pytest.fixture
def cutter(shared_pair: tuple[Pair, Cutter]) -> Cutter:
    """The connection of the executor to the first engine."""
    return shared_pair[1]


def executor_log(pair: Pair, address: str) -> list[str]:
    """What the executor logged of the engine at this address."""
    log = pair.folder / "executor" / "executor.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if f'"{address}"' in line]


def assert_each_arrived_once(endpoint: Endpoint, expected: int) -> None:
    """So many different requests have arrived, none of them twice."""
    assert {path: count for path, count in endpoint.calls.items() if count != 1} == {}
    assert len(endpoint.calls) == expected


async def arrived(endpoint: Endpoint, count: int) -> None:
    """Return when so many requests have arrived."""
    await until(lambda: endpoint.calls.total() >= count, 300)


async def start_chains(pair: Pair, engine: int, url: str) -> None:
    """Start all chains at once."""
    await asyncio.gather(*(pair.start(engine, "chain", url=f"{url}.{each}") for each in range(CHAINS)))


async def test_a_hello_to_one_engine_loses_nothing_of_the_other(pair: Pair, endpoint: Endpoint) -> None:
    """POSTs that are not safe to repeat are handed out by one engine, while the other is killed and started again:
    each arrives once, because the Hello to the other speaks for its own stream only."""
    before = pair.states()
    for first in range(0, POSTS, 100):
        await pair.start(0, "posts", url=endpoint.url, first=first, last=min(POSTS, first + 100))
    for kill in range(KILLS):
        await arrived(endpoint, POSTS * (kill + 1) // (KILLS + 2))
        pair.engines[1].kill()
        await pair.engines[1].start()
    await pair.wait_ended(before.total() + -(-POSTS // 100), 600)
    assert pair.states()["SUCCESS"] == before["SUCCESS"] + -(-POSTS // 100)
    assert_each_arrived_once(endpoint, POSTS)


async def test_what_a_dead_engine_has_handed_out_is_done_by_the_others(pair: Pair, endpoint: Endpoint) -> None:
    """kill -9 of the engine that hands out, which is not started again: every chain ends, and each of its POSTs, which
    are not safe to repeat, arrives once: what was sent goes on, what was not is sent by the other engine."""
    for number in range(ROUNDS):
        before, arrivals = pair.states(), endpoint.calls.total()
        used = number % 2
        await start_chains(pair, used, f"{endpoint.url}/echo/{number}")
        await arrived(endpoint, arrivals + CHAINS * LENGTH // 4)
        pair.engines[used].kill()
        await pair.wait_ended(before.total() + CHAINS, 60)
        assert pair.states()["SUCCESS"] == before["SUCCESS"] + CHAINS, number
        assert_each_arrived_once(endpoint, arrivals + CHAINS * LENGTH)
        await pair.engines[used].start()


async def test_an_engine_that_stood_still_is_ended_and_stops(pair: Pair, endpoint: Endpoint) -> None:
    """SIGSTOP for longer than three seconds, in the middle of its batches: the other engine goes on with its work, also
    with what it had locked; when it continues it finds that it has ended, writes nothing, and stops with a clear line
    and exit code 1."""
    before = pair.states()
    await start_chains(pair, 0, f"{endpoint.url}/echo/s")
    await arrived(endpoint, CHAINS * LENGTH // 4)
    os.kill(pair.engines[0].pid, signal.SIGSTOP)
    await pair.wait_ended(before.total() + CHAINS, 60)
    await until(lambda: living_engines(pair) == 1, 30)
    os.kill(pair.engines[0].pid, signal.SIGCONT)
    process = pair.engines[0]._process
    assert process is not None
    assert await asyncio.to_thread(process.wait, 20) == 1
    assert "another engine has ended engine" in pair.engines[0].log.read_text()
    assert pair.states()["SUCCESS"] == before["SUCCESS"] + CHAINS
    assert_each_arrived_once(endpoint, CHAINS * LENGTH)
    assert living_engines(pair) == 1


def hello_engines(pair: Pair) -> list[str]:
    """To which engine each session said Hello last."""
    return [row.engine_id for row in pair.read(lambda queries: queries.sessions())]


async def hand_out(pair: Pair, cutter: Cutter, endpoint: Endpoint) -> list[str]:
    """Let the first engine hand out actions that do not arrive. Their executions."""
    cutter.flows.clear()
    urls = [f"{endpoint.url}/slow/{each}" for each in range(MESSAGES)]
    started = list(await asyncio.gather(*(pair.start(0, "short", url=url) for url in urls)))
    await until(lambda: sum(pair.read(lambda queries: queries.held_counts()).values()) == MESSAGES, 30)
    assert endpoint.calls.total() == 0
    return started


def living_engines(pair: Pair) -> int:
    """How many engines have not ended."""
    return sum(not row.ended for row in pair.read(lambda queries: queries.engines()).values())


def deliveries(pair: Pair, execution_ids: list[str]) -> Counter[int]:
    """How often actions were handed out."""
    rows = pair.read(lambda queries: queries.attempts_of([(each, (1, 0, 1)) for each in execution_ids]))
    return Counter(row.delivery for row in rows)


async def test_what_is_still_on_its_way_is_not_sent_again(pair: Pair, cutter: Cutter, endpoint: Endpoint) -> None:
    """While messages of one engine are on their way, the other one starts again, and the executor says Hello to it
    without them: they are not sent a second time."""
    before = pair.states()
    started = await hand_out(pair, cutter, endpoint)
    pair.engines[1].kill()
    await pair.engines[1].start()
    newest = max(pair.read(lambda queries: queries.engines()).items())[1].id
    await until(lambda: hello_engines(pair) == [newest], 30)
    await asyncio.sleep(1.0)
    cutter.flows.set()
    await pair.wait_ended(before.total() + MESSAGES, 30)
    assert pair.states()["SUCCESS"] == before["SUCCESS"] + MESSAGES
    assert_each_arrived_once(endpoint, MESSAGES)
    assert deliveries(pair, started) == {1: MESSAGES}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_never_arrived_is_sent_by_the_other_engine(
    pair: Pair, cutter: Cutter, endpoint: Endpoint, end: signal.Signals
) -> None:
    """What an engine has handed out and never sent, because it died or stands still, is sent by the other one, even
    though the executor is alive and keeps its lease, and the actions are not safe to repeat."""
    before = pair.states()
    started = await hand_out(pair, cutter, endpoint)
    os.kill(pair.engines[0].pid, end)
    await pair.wait_ended(before.total() + MESSAGES, 30)
    cutter.flows.set()
    assert pair.states()["SUCCESS"] == before["SUCCESS"] + MESSAGES
    assert_each_arrived_once(endpoint, MESSAGES)
    assert deliveries(pair, started) == {2: MESSAGES}
    if end is signal.SIGSTOP:
        pair.engines[0].kill()
