"""The workloads W1 to W6: what runs by itself. Each has services of its own."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.results import Result, percentiles_ms
from tests.benchmarks.services import Client, Services, processor_s, resident_mb, running_services
from tests.benchmarks.texts import Language

from dalsegno.v1 import execution_pb2

W1_TASKS = (100, 1_000)
W2_ITEMS = (100, 1_000, 10_000)
W3_WORKFLOWS = (200, 1_000)
W3_TASKS = 5
W4_TIMES = 200
ROUNDS = 3
LOOK_S = 0.02
W6_TIMES = 3

AT_REST_S = 2.0
"""So long the services are left alone before their memory at rest is read."""

STARTS_AT_ONCE = 200
"""As many starts the client has under way at once: more would only wait in its own queues."""


@dataclass
class Spent:
    """What a block took: filled in when it ends."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    """How long each workflow took, where that is of interest."""
    shares: dict[str, float] = field(default_factory=dict)
    """The processor time of each service."""

    def result(self, workload: str, n: int, tasks: int) -> Result:
        """As a line of the table, for so many tasks."""
        p50_ms, p99_ms = percentiles_ms(self.times_s) if self.times_s else (None, None)
        cpu_us = self.cpu_s / tasks * 1e6
        return Result(workload, n, self.wall_s, self.cpu_s, tasks / self.wall_s, cpu_us, p50_ms, p99_ms)


@contextmanager
def measured(services: Services, spent: Spent | None = None) -> Iterator[Spent]:
    """Measure a block: by the clock, and the processor time of the three services."""
    spent = spent or Spent()
    before, began_s = processor_s(services.pids), time.perf_counter()
    yield spent
    spent.wall_s = time.perf_counter() - began_s
    after = processor_s(services.pids)
    spent.shares = {name: after[name] - before[name] for name in after}
    spent.cpu_s = sum(spent.shares.values())
    shares = ", ".join(f"{name} {share:.2f} s" for name, share in spent.shares.items())
    tell(f"  {spent.wall_s:.2f} s; processor: {shares}")


async def measure_chains(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W1: one chain of no-op tasks."""
    for tasks in W1_TASKS:
        await client.define(language.chain(f"chain_{tasks}", tasks), language.document_name(f"chain_{tasks}"))
        await client.run(f"chain_{tasks}")

    async def run_once(tasks: int) -> Spent:
        return await _measure_run(services, client, f"chain_{tasks}", {})

    for tasks, runs in (await _interleaved(W1_TASKS, run_once)).items():
        yield middle(runs).result(f"W1 chain{language.suffix}", tasks, tasks)


async def measure_fan_outs(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W2: one workflow that fans out to many items and joins."""
    await client.define(language.fan_out, language.document_name("fan_out"))
    await client.run("fan_out", {"count": 10})

    async def run_once(items: int) -> Spent:
        return await _measure_run(services, client, "fan_out", {"count": items})

    for items, runs in (await _interleaved(W2_ITEMS, run_once)).items():
        yield middle(runs).result(f"W2 fan-out{language.suffix}", items, items)


async def measure_many(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W3: many workflows at once, started by as many calls.

    First the client looks every 20 ms whether any of them still runs; the times are those from creation to end as
    the services tell them. Then, as another line, it waits for each with a call of its own, which costs as much again;
    the times are those from asking for one to knowing its result.
    """
    await client.define(language.chain("steps", W3_TASKS), language.document_name("steps"))
    await client.run("steps")
    for name, run_all in (("W3 concurrent", _run_many), ("W3 each awaited", _await_many)):

        async def run_once(workflows: int, run_all: RunMany = run_all) -> Spent:
            tell(f"W3: {workflows:,} workflows of {W3_TASKS} tasks")
            with measured(services) as spent:
                times_s = await run_all(client, workflows)
            spent.times_s = times_s or await _told_times_s(client, workflows)
            return spent

        for workflows, runs in (await _interleaved(W3_WORKFLOWS, run_once)).items():
            yield middle(runs).result(f"{name}{language.suffix}", workflows, workflows * W3_TASKS)


async def measure_latency(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W4: from start to result of a one-task workflow, one at a time."""
    await client.define(language.one_task, language.document_name("one_task"))
    for _ in range(10):
        await client.run("one_task")
    tell(f"W4: {W4_TIMES} workflows of one task, one at a time")
    with measured(services) as spent:
        for _ in range(W4_TIMES):
            began_s = time.perf_counter()
            execution = await client.run("one_task")
            spent.times_s.append(time.perf_counter() - began_s)
            if "hello" not in execution.output:
                raise RuntimeError(f"a wrong result: {execution.output}")
    yield spent.result(f"W4 latency{language.suffix}", W4_TIMES, W4_TIMES)


async def measure_memory(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W5: the memory of the three, in services that have done nothing yet, and after the larger W3."""
    await client.define(language.chain("steps", W3_TASKS), language.document_name("steps"))
    await asyncio.sleep(AT_REST_S)
    yield Result(f"W5 memory at rest{language.suffix}", 0, rss_mb=resident_mb(services.pids))
    workflows = W3_WORKFLOWS[-1]
    tell(f"W5: {workflows:,} workflows of {W3_TASKS} tasks")
    with measured(services):
        await _run_many(client, workflows)
    await asyncio.sleep(AT_REST_S)
    yield Result(f"W5 memory after W3{language.suffix}", workflows, rss_mb=resident_mb(services.pids))


async def measure_first(language: Language, times: int = W6_TIMES) -> Result:
    """W6: from the start of the processes, with an empty folder, to the first finished workflow."""
    runs = []
    for _ in range(times):
        tell("W6: three new processes")
        began_s = time.perf_counter()
        async with running_services() as (services, client):
            await client.define(language.one_task, language.document_name("one_task"))
            await client.run("one_task")
            wall_s = time.perf_counter() - began_s
            runs.append(Spent(wall_s, sum(processor_s(services.pids).values())))
            tell(f"  {wall_s:.2f} s")
    spent = middle(runs)
    return Result(f"W6 first workflow{language.suffix}", 1, spent.wall_s, spent.cpu_s)


RunMany = Callable[[Client, int], Awaitable[list[float]]]
Measure = Callable[[Services, Client, Language], AsyncIterator[Result]]
WORKLOADS: dict[str, Measure] = {
    "W1": measure_chains,
    "W2": measure_fan_outs,
    "W3": measure_many,
    "W4": measure_latency,
    "W5": measure_memory,
}
"""Each is given new services; W6 starts its own."""


async def _measure_run(services: Services, client: Client, workflow: str, given: dict[str, object]) -> Spent:
    tell(f"{workflow} {' '.join(map(str, given.values()))}".strip())
    with measured(services) as spent:
        await client.run(workflow, given)
    return spent


async def _interleaved(sizes: Sequence[int], run_once: Callable[[int], Awaitable[Spent]]) -> dict[int, list[Spent]]:
    """Runs of each size in turn, the short ones oftener: a busy moment of the machine hits all of them alike."""
    runs: dict[int, list[Spent]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size, found in runs.items():
            for _ in range(3 if size < 1_000 else 1):
                found.append(await run_once(size))
    return runs


async def _start_many(client: Client, workflows: int) -> None:
    room = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start_one() -> None:
        async with room:
            await client.start("steps")

    await asyncio.gather(*(start_one() for _ in range(workflows)))


async def _run_many(client: Client, workflows: int) -> list[float]:
    """Start all, and look now and then whether any still runs. It knows no times."""
    await _start_many(client, workflows)
    while True:
        if not await client.list_executions("workflow=steps state=IDLE,RUNNING", 1):
            return []
        await asyncio.sleep(LOOK_S)


async def _told_times_s(client: Client, workflows: int) -> list[float]:
    """How long each of the newest executions took. RuntimeError when one of them is no success."""
    executions = await client.list_executions("workflow=steps", workflows)
    failed = [each.id for each in executions if each.state != execution_pb2.EXECUTION_STATE_SUCCESS]
    if failed or len(executions) != workflows:
        raise RuntimeError(f"{len(executions)} of {workflows} executions, and these are no success: {failed[:5]}")
    return [(each.ended_at.ToNanoseconds() - each.created_at.ToNanoseconds()) / 1e9 for each in executions]


async def _await_many(client: Client, workflows: int) -> list[float]:
    """How long each took, as the client sees it."""
    room = asyncio.Semaphore(STARTS_AT_ONCE)

    async def run_one() -> float:
        began_s = time.perf_counter()
        async with room:
            execution_id = await client.start("steps")
        await client.wait(execution_id)
        return time.perf_counter() - began_s

    return await asyncio.gather(*(run_one() for _ in range(workflows)))


def middle(runs: list[Spent]) -> Spent:
    """The run whose time by the clock is the median, with the median of the processor times."""
    chosen = sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
    return Spent(chosen.wall_s, statistics.median(run.cpu_s for run in runs), chosen.times_s)


def tell(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)
