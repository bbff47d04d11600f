"""What the death of one of several engines costs under load: how long until every execution has moved."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

import psycopg
from tests.benchmarks.cluster import Cluster, Database, running_cluster, running_database
from tests.benchmarks.services import Client
from tests.benchmarks.texts import LANGUAGES
from tests.benchmarks.workloads import STARTS_AT_ONCE, tell

NOTE = """Medians, in seconds: how long until each of the executions under way has a further change or has ended; none
waits for anything but its turn. Without a kill: the load alone, just before."""

TASKS = 40
LOOK_S = 0.05
MOVED_MAX_S = 60.0
GOING = "SELECT id, revision FROM executions WHERE ended_s IS NULL"


async def measure_kills(engines: Sequence[int], executions: Sequence[int], times: int) -> str:
    """Return the table: the medians of so many kills with each number of executions and of engines, in turn."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    with running_database() as database:
        for _ in range(times):
            for count in engines:
                for size in executions:
                    async with running_cluster(database, count, 0.0) as (services, client):
                        found.setdefault((size, count), []).append(await _kill_one(database, services, client, size))
    lines = ["executions  engines  without a kill  after a kill"]
    for (size, count), runs in found.items():
        calm, killed = (statistics.median(each) for each in zip(*runs, strict=True))
        lines.append(f"{size:>10,}  {count:>7}  {calm:>14.2f}  {killed:>12.2f}")
    return "\n".join(lines)


async def _kill_one(database: Database, services: Cluster, client: Client, executions: int) -> tuple[float, float]:
    """Return how long it takes until all have moved, without a kill and after one."""
    language = LANGUAGES["mistral"]
    await client.define(language.chain("long", TASKS), language.document_name("long"))
    room = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start() -> None:
        async with room:
            await client.start("long")

    await asyncio.gather(*(start() for _ in range(executions)))
    calm_s = await _until_moved(database)
    services.kill("engine-1")
    killed_s = await _until_moved(database)
    tell(f"{executions:,} executions: all have moved after {calm_s:.2f} s, and after a kill {killed_s:.2f} s")
    return calm_s, killed_s


async def _until_moved(database: Database) -> float:
    """Wait until each execution that is under way now has a further change or has ended. Return how long that took."""
    loop = asyncio.get_running_loop()
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        began_s = loop.time()
        waiting = await (await connection.execute(GOING)).fetchall()
        count = len(waiting)
        while waiting:
            if loop.time() - began_s > MOVED_MAX_S:
                raise TimeoutError(f"{len(waiting):,} of {count:,} executions have not moved for {MOVED_MAX_S:g} s")
            await asyncio.sleep(LOOK_S)
            waiting = list(set(waiting).intersection(await (await connection.execute(GOING)).fetchall()))
        return loop.time() - began_s
