"""The workload W12: an execution without end that keeps a part of its history (decision 24)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services, processor_s, resident_mb
from tests.benchmarks.texts import Language
from tests.benchmarks.workloads import tell

ROUNDS = 100_000
FIRST = 1_000
"""So many rounds have gone by before anything is measured."""
SPAN = 1_000
"""Times are those of so many rounds."""
TASKS = 2
"""The tasks of a round: one that runs a sub-workflow, and the one of that."""
LOOK_S = 0.2


async def measure_endless(
    services: Services, client: Client, language: Language, rounds: int = ROUNDS
) -> AsyncIterator[Result]:
    """W12: an endless workflow that keeps five rounds, after 1,000 rounds, at several places, and at the end. Each line
    tells of the rounds before it."""
    for name, text in language.endless:
        await client.define(text, name)
    execution_id = await client.start("endless", {"rounds": rounds})
    for place in sorted({FIRST, *(rounds * part // 4 for part in (1, 2, 3)), rounds - SPAN}):
        if FIRST <= place <= rounds - SPAN:
            yield await measure_span(services, client, execution_id, place, f"W12 endless{language.suffix}")
    await client.wait(execution_id)


async def measure_span(
    services: Services, client: Client, execution_id: str, place: int, workload: str, span: int = SPAN
) -> Result:
    """What so many rounds cost from this place on, and what there is then."""
    tell(f"{workload}: from round {place:,}")
    first, began_s = await _reached(client, execution_id, place)
    before = processor_s(services.pids)
    last, ended_s = await _reached(client, execution_id, first + span - span // 20)
    cpu_s = sum(processor_s(services.pids).values()) - sum(before.values())
    tasks = (last - first) * TASKS
    return Result(
        workload,
        last,
        ended_s - began_s,
        cpu_s,
        tasks / (ended_s - began_s),
        cpu_s / tasks * 1e6,
        p50_ms=(ended_s - began_s) / (last - first) * 1e3,
        rss_mb=resident_mb(services.pids),
        executions=count_rows(services.database, "executions"),
        rows=count_rows(services.database),
        disk_mb=bytes_on_disk(services.database) / 2**20,
    )


async def _reached(client: Client, execution_id: str, rounds: int) -> tuple[int, float]:
    """Wait until the execution has gone round so often. Return how often it has, and when that was, in seconds."""
    while True:
        found = await client.newest_entry(execution_id)
        now_s = time.perf_counter()
        if found is not None and int(str(found["n"])) >= rounds:
            return int(str(found["n"])), now_s
        await asyncio.sleep(LOOK_S)


def count_rows(database: Path, table: str = "") -> int:
    """How many rows a table has; without one, all of them together."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        every = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        names = [table] if table else [name for (name,) in every]
        return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names)


def bytes_on_disk(database: Path) -> int:
    """How large the files of a database are together."""
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))
