"""The workload W13: many delegates that wait for third parties, and what completing them costs."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services, resident_mb, settle
from tests.benchmarks.texts import Language
from tests.benchmarks.workloads import AT_REST_S, STARTS_AT_ONCE, measured, tell

Given = TypeVar("Given")
Got = TypeVar("Got")

WAITING = 100_000
COMPLETED = 10_000
CALLERS = 50
FIRST = 500
"""So many are started and completed before anything is measured."""
AT_ONCE = 500
"""So many are started before they are waited for: memory at the end is that of actions that wait, not that of the
largest number of executions that were at work at once."""
LOOK_S = 0.05


async def measure_delegates(
    services: Services, client: Client, language: Language, waiting: int = WAITING, completed: int = COMPLETED
) -> AsyncIterator[Result]:
    """W13: the memory of the services without delegates, with so many that wait, and after all services were started
    again; then 50 callers complete some of them, each with its next call when it has the answer of the one before."""
    await client.define(language.asking, language.document_name("asking"))
    await _complete(client, await ask(services, client, FIRST))
    await asyncio.sleep(AT_REST_S)
    yield Result(f"W13 none waits{language.suffix}", 0, rss_mb=resident_mb(services.pids))
    tell(f"W13: {waiting:,} delegates")
    with measured(services) as spent:
        asked = await ask(services, client, waiting)
    await asyncio.sleep(AT_REST_S)
    yield _with_memory(services, spent.result(f"W13 wait{language.suffix}", waiting, waiting))
    await _restart(services)
    yield Result(f"W13 wait, new services{language.suffix}", waiting, rss_mb=resident_mb(services.pids))
    chosen = asked[:: max(1, waiting // completed)][:completed]
    tell(f"W13: {CALLERS} callers complete {len(chosen):,}")
    with measured(services) as spent:
        spent.times_s = await _complete(client, chosen)
    await _check(client, chosen)
    yield _with_memory(services, spent.result(f"W13 completed{language.suffix}", len(chosen), len(chosen)))


def _with_memory(services: Services, result: Result) -> Result:
    return replace(result, rss_mb=resident_mb(services.pids))


async def _restart(services: Services) -> None:
    """Stop all services and start them again, on the same store."""
    await asyncio.to_thread(services.stop)
    services.spawn()
    await settle(services)


async def ask(services: Services, client: Client, count: int) -> list[str]:
    """Start so many executions, and return the ids of their actions once all wait for a third party."""
    before = _count_waiting(services)
    started: list[str] = []
    while len(started) < count:
        portion = range(min(AT_ONCE, count - len(started)))
        started += await together(STARTS_AT_ONCE, portion, lambda _: client.start("asking"))
        while True:
            await asyncio.sleep(LOOK_S)
            if _count_waiting(services) == before + len(started):
                break
    return [f"{execution_id}.1.0.1" for execution_id in started]


def _count_waiting(services: Services) -> int:
    with closing(sqlite3.connect(f"file:{services.database}?mode=ro", uri=True)) as connection:
        statement = "SELECT count(*) FROM attempts WHERE delegated AND state = 'RUNNING'"
        return int(connection.execute(statement).fetchone()[0])


async def _complete(client: Client, actions: list[str]) -> list[float]:
    """Complete actions, 50 at once. Return how long each call took, in seconds."""

    async def complete(action: str) -> float:
        began_s = time.perf_counter()
        await client.complete(action)
        return time.perf_counter() - began_s

    return await together(CALLERS, actions, complete)


async def together(callers: int, given: Iterable[Given], call: Callable[[Given], Awaitable[Got]]) -> list[Got]:
    """Call for each of these, so many at once. Return what the calls gave, in the order of the list."""
    left: Iterator[tuple[int, Given]] = iter(enumerate(given))
    got: dict[int, Got] = {}

    async def work() -> None:
        for number, each in left:
            got[number] = await call(each)

    await asyncio.gather(*(work() for _ in range(callers)))
    return [got[number] for number in range(len(got))]


async def _check(client: Client, actions: list[str]) -> None:
    """RuntimeError unless the executions of these actions have succeeded."""
    await together(CALLERS, actions, lambda action: client.wait(action.partition(".")[0]))
