"""Executors that are killed, frozen longer than their lease, cut off in the middle of messages, or answer twice, under
load: every action ends once, and the journal explains each.

By hand for a minute: DALSEGNO_EXECUTORS_S=60.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.chaos.pairs import LEASE_S, Pair
from tests.cutting import Cutter
from tests.endpoints import Endpoint
from tests.integration.engines import ScriptedExecutor, done, wire
from tests.postgres import NoPostgres, run_postgres
from tests.processes import Service

from dalsegno.workflow.changes import AttemptMoved
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("engines"),
    pytest.mark.timeout(600),
]

LASTS_S = float(os.environ.get("DALSEGNO_EXECUTORS_S", "8"))
AT_ONCE = 25
"""How many executions go on at a time."""

LOAD = """
version: '2.0'
load:
  input: [url]
  tasks:
    safe: {action: std.echo output=1 delay=0.05, on-success: [post]}
    post:
      action: std.http
      input: {url: <% $.url %>, method: POST}
      on-complete: [last]
    last: {action: std.echo output=2 delay=0.02}
"""


class AnswersTwice(ScriptedExecutor):
    """Reports each action three times: as it ended, exactly the same again, and at last that it failed."""

    async def _answer(self, call: Any, runs: Any) -> None:
        await super()._answer(call, runs)
        again = [done(run, result="1") for run in runs]
        wrong = [done(run, wire.TASK_OUTCOME_FAILED, error="told at last") for run in runs]
        await self._write(call, self._batch(again + wrong))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """PostgreSQL; without it the test is skipped, with the reason."""
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest_asyncio.fixture(loop_scope="module")
async def pair(server: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two engines and an executor that nobody disturbs."""
    async with Pair(tmp_path, server, executor=("--slots", "4")) as running:
        await running.define(LOAD)
        yield running
        assert running.findings() == []


@pytest_asyncio.fixture(loop_scope="module")
async def endpoint() -> AsyncIterator[Endpoint]:
    """Where POSTs arrive."""
    async with Endpoint() as running:
        yield running


async def kill_often(executor: Service) -> None:
    """kill -9, and start it again, with the same name."""
    while True:
        executor.launch()
        await asyncio.sleep(2.0)
        executor.kill()


async def freeze_often(executor: Service) -> None:
    """SIGSTOP for longer than the lease, then SIGCONT."""
    executor.launch()
    while True:
        await asyncio.sleep(1.5)
        os.kill(executor.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(LEASE_S + 1.5)
        finally:
            os.kill(executor.pid, signal.SIGCONT)


async def load(pair: Pair, endpoint: Endpoint) -> list[str]:
    """Start executions for the time of the test, by either engine. Their ids."""
    started: list[str] = []
    ends_s = time.monotonic() + LASTS_S
    while time.monotonic() < ends_s:
        states = await asyncio.to_thread(pair.states)
        for _ in range(AT_ONCE - states["RUNNING"]):
            url = f"{endpoint.url}/echo/{len(started)}"
            started.append(await pair.start(len(started) % 2, "load", url=url))
        await asyncio.sleep(0.05)
    return started


def faults(moves: Sequence[AttemptMoved]) -> list[str]:
    """What the journal does not explain about an attempt."""
    found: list[str] = []
    state, delivery, ends = AttemptState.READY, 0, 0
    for move in moves:
        if move.delivery:
            if state is not AttemptState.READY or move.delivery != delivery + 1 or not move.engine:
                found.append(f"delivery {move.delivery} of engine {move.engine} after {delivery} while {state}")
            delivery = move.delivery
        state = move.state
        ends += state in COMPLETED_ATTEMPT
        if state is AttemptState.ERROR and "was lost while it ran this action" not in move.error:
            found.append(f"failed with {move.error!r}")
    if ends != 1 or state not in COMPLETED_ATTEMPT:
        found.append(f"{ends} ends, at last {state}")
    return found


async def test_every_action_ends_once(pair: Pair, endpoint: Endpoint) -> None:
    """What a lost executor ran goes out again if that is safe, and fails with its name if not; no request that is not
    safe arrives twice; of several answers the first counts."""
    chance = random.Random(14)
    async with (
        Cutter(pair.engines[0].address, chance, 20_000) as first,
        Cutter(pair.engines[1].address, chance, 20_000) as second,
        AnswersTwice(
            pair.engines[0].address,
            lambda run: done(run, result="1"),
            actions=(("std.echo", True),),
            slots=3,
            executor_id="twice",
        ) as twice,
    ):
        killed, frozen = pair.add_executor("killed"), pair.add_executor("frozen")
        cut = pair.add_executor("cut", through=(first.address, second.address))
        cut.launch()
        disturbers = [asyncio.create_task(each) for each in (kill_often(killed), freeze_often(frozen))]
        try:
            started = await load(pair, endpoint)
        finally:
            for disturber in disturbers:
                disturber.cancel()
            await asyncio.gather(*disturbers, return_exceptions=True)
        await pair.wait_ended(len(started), 60)
        for each in (killed, frozen, cut):
            each.stop()
        assert first.cuts + second.cuts > 3
        verdicts = {ack.verdict for ack in twice.acks}
    assert {wire.ACK_VERDICT_ACCEPTED, wire.ACK_VERDICT_DUPLICATE, wire.ACK_VERDICT_SUPERSEDED} <= verdicts
    assert {path: count for path, count in endpoint.calls.items() if count > 1} == {}
    unexplained: dict[str, list[str]] = {}
    executors: set[str] = set()
    for execution_id in started:
        moves: dict[AttemptKey, list[AttemptMoved]] = defaultdict(list)
        for row in pair.journal(execution_id):
            if isinstance(row.change, AttemptMoved):
                moves[row.change.key].append(row.change)
                executors.add(row.change.executor_id)
        assert len(moves) == 3
        if found := [fault for each in moves.values() for fault in faults(each)]:
            unexplained[execution_id] = found
    assert unexplained == {}
    assert executors >= {"executor", "killed", "frozen", "cut", "twice"}
