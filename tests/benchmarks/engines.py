"""What more engines cost on one PostgreSQL: W3 on each number of engines in turn, the database's work included."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cluster import IN_FLIGHT, Cluster, Database, running_cluster, running_database
from tests.benchmarks.services import TICKS, Client
from tests.benchmarks.texts import LANGUAGES
from tests.benchmarks.workloads import W3_TASKS, Spent, measured, tell

NOTE = """Medians. us/task: processor time of engines, executor, apis and PostgreSQL together, without the client.
A batch is a transaction of an engine. rows: those that PostgreSQL has read from tables.
busy: how many of the machine's processors worked, for whatever: when all do, more engines cannot do more."""

MARK_EVERY = 50
"""One of so many is looked at, to know how many are under way."""

LOOK_S = 0.05
RUN_MAX_S = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took."""

    spent: Spent
    tasks: int
    statements: int
    batches: int
    rows: int
    busy_s: float
    """How much of the machine's processors' time was used, by these and all other processes."""


async def measure_engines(engines: Sequence[int], workflows: Sequence[int], times: int, delay_ms: float) -> str:
    """Return the table: the medians of so many runs of each size on each number of engines, which take turns."""
    runs: dict[tuple[int, int], list[Run]] = {(size, count): [] for size in workflows for count in engines}
    with running_database() as database:
        for _ in range(times):
            for count in engines:
                async with running_cluster(database, count, delay_ms) as (services, client):
                    await _warm_up(client, count)
                    for size in workflows:
                        tell(f"{count} engines: {size:,} workflows of {W3_TASKS} tasks")
                        runs[size, count].append(await _measure(database, services, client, size))
    return _write_table(runs)


async def _warm_up(client: Client, engines: int) -> None:
    """Let each engine read the definition."""
    language = LANGUAGES["mistral"]
    await client.define(language.chain("steps", W3_TASKS), language.document_name("steps"))
    for _ in range(2 * engines):
        await client.run("steps")


async def _measure(database: Database, services: Cluster, client: Client, workflows: int) -> Run:
    before, busy_before_s = database.work(), _busy_s()
    with measured(services) as spent:
        await _run_many(client, workflows)
    after, busy_s = database.work(), _busy_s() - busy_before_s
    counts = after.statements - before.statements, after.batches - before.batches, after.rows - before.rows
    return Run(spent, workflows * W3_TASKS, *counts, busy_s)


def _busy_s() -> float:
    """Return for how long the processors of the machine have worked so far, in seconds of one of them."""
    user, nice, system, _, _, *others = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + sum(others[:2])) / TICKS


async def _run_many(client: Client, workflows: int) -> None:
    """Run so many workflows, at most IN_FLIGHT at once. All of these may be starts that wait for their answers: a start
    takes as long as a task, so a lower limit of starts would limit how many workflows run."""
    begun = 0
    marks: deque[tuple[int, str]] = deque()
    ended = 0

    async def start_one(number: int) -> None:
        execution_id = await client.start("steps")
        if number % MARK_EVERY == 0:
            marks.append((number, execution_id))

    starts: set[asyncio.Task[None]] = set()
    late = asyncio.get_running_loop().time() + RUN_MAX_S
    while begun < workflows:
        while begun < workflows and begun - ended < IN_FLIGHT:
            task = asyncio.create_task(start_one(begun))
            starts.add(task)
            task.add_done_callback(starts.discard)
            begun += 1
        while marks:
            number, execution_id = marks[0]
            if not (await client.get(execution_id)).HasField("ended_at"):
                break
            marks.popleft()
            ended = max(ended, number)
        await asyncio.sleep(LOOK_S)
        if asyncio.get_running_loop().time() > late:
            raise TimeoutError(f"{ended:,} of {workflows:,} have ended after {RUN_MAX_S:g} s")
    await asyncio.gather(*starts)
    while True:
        if not await client.list_executions("workflow=steps state=IDLE,RUNNING", 1):
            return
        await asyncio.sleep(LOOK_S)


COLUMNS: tuple[tuple[str, int, Callable[[Run], float]], ...] = (
    ("tasks/s", 0, lambda run: run.tasks / run.spent.wall_s),
    ("us/task", 0, lambda run: run.spent.cpu_s / run.tasks * 1e6),
    ("of postgresql", 0, lambda run: run.spent.shares["postgresql"] / run.tasks * 1e6),
    ("statements/batch", 1, lambda run: run.statements / max(1, run.batches)),
    ("statements/task", 1, lambda run: run.statements / run.tasks),
    ("rows/task", 1, lambda run: run.rows / run.tasks),
    ("tasks/batch", 1, lambda run: run.tasks / max(1, run.batches)),
    ("busy", 2, lambda run: run.busy_s / run.spent.wall_s),
)


def _write_table(runs: Mapping[tuple[int, int], Sequence[Run]]) -> str:
    lines = ["  ".join(("workflows", "engines", *(name for name, _, _ in COLUMNS)))]
    for (size, count), found in runs.items():
        cells = [f"{size:>9,}", f"{count:>7}"]
        for name, digits, value_of in COLUMNS:
            cells.append(f"{statistics.median(map(value_of, found)):>{len(name)},.{digits}f}")
        lines.append("  ".join(cells))
    return "\n".join(lines)
