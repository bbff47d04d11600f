"""kill -9 of the engine in the middle of its batches, again and again: no execution is taken for what killed it.

DALSEGNO_DEATHS=500 makes it a test of twenty minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from tests.integration.engines import Client, EngineProcess, ScriptedExecutor, client_of, done, running_engine, until
from tests.integration.test_engine import CHAIN, create, start

from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store

KILLS = int(os.environ.get("DALSEGNO_DEATHS", "15"))
FEW = 4

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(120 + 10 * KILLS)]


async def report(executor: ScriptedExecutor) -> None:
    """End what the executor holds, a moment after it came: the executions continue, but do not grow without bounds."""
    while True:
        await asyncio.sleep(0.01)
        for run in list(executor.held.values()):
            result = run.input.partition(":")[2].rstrip("}") or "null"
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # it is said again once the engine is back
                await executor.finish(run, done(run, result=result))


async def test_kills_in_the_middle_end_nobody(tmp_path: Path) -> None:
    """A kill within 1.2 s of each start, over the same few executions: deaths are counted, and all continue."""
    chance = random.Random(7)
    async with (
        running_engine(tmp_path) as engine,
        client_of(engine) as client,
        ScriptedExecutor(engine.address, lambda run: None) as executor,
    ):
        await create(client, CHAIN)
        ids = [await start(client, "chain", '{"count": 1000000}') for _ in range(FEW)]
        reporter = asyncio.create_task(report(executor))
        before = revisions(client, ids)
        number = 0
        while number < KILLS or (not deaths(engine) and number < 4 * KILLS):
            number += 1
            await asyncio.sleep(chance.uniform(0, 1.2))
            await engine.kill()
            await engine.start()
        after = revisions(client, ids)
        assert all(later > sooner + KILLS for sooner, later in zip(before, after, strict=True))
        await until(lambda: all(b > a for a, b in zip(after, revisions(client, ids), strict=True)), 60)
        rows = client.read(lambda queries: queries.executions_of(ids))
        assert {row.state for row in rows.values()} == {"RUNNING"}
        reporter.cancel()
    counted = deaths(engine)
    assert counted, "no kill met a step"
    print(f"{len(counted)} of {number} kills were deaths in a step, at most {max(counted)} in a row")
    store = open_store(engine.url, read_only=True)
    assert list(check(store)) == []
    store.close()


def revisions(client: Client, ids: list[str]) -> list[int]:
    found = client.read(lambda queries: queries.standings(ids))
    return [found[each].revision for each in ids]


def deaths(engine: EngineProcess) -> list[int]:
    """How many deaths in a row each engine that found any has counted."""
    told = (engine.folder / "engine.log").read_text()
    return [int(count) for count in re.findall(r"it has now done so (\d+) times in a row", told)]
