"""The workloads W7 to W9: what people ask of executions, one at a time, on a warm engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services
from tests.benchmarks.texts import Language
from tests.benchmarks.workloads import ROUNDS, Measure, Spent, measured, middle, tell

from dalsegno.v1 import execution_pb2

W7_ITEMS = (10, 10_000)
W7_ROUNDS = 3
W7_TIMES = 10
W7_FACTOR = 5.0
"""As many times what an item among few costs may one among many cost (the median times by the clock)."""
W8_TASKS = (10, 1_000)
W8_TIMES = 50
W9_TASKS = (100, 1_000)

FAILED = execution_pb2.EXECUTION_STATE_ERROR


async def measure_items(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W7: one item run again, of few and of many, each time until the execution is at rest again.

    First a rerun of it in an execution that has succeeded. Then a rerun with an input that makes it fail and the resume
    with one that mends it by turns, which are two operations.
    """
    await client.define(language.fan_out, language.document_name("fan_out"))
    executions = {items: (await client.run("fan_out", {"count": items})).id for items in W7_ITEMS}
    good = {language.echoes: 1}

    async def rerun(items: int, spent: Spent) -> None:
        with timed(spent):
            await client.rerun(executions[items], "each", {0: None})

    async def resume(items: int, spent: Spent) -> None:
        with timed(spent):
            await client.rerun(executions[items], "each", {1: {}}, end=FAILED)
        with timed(spent):
            await client.resume(executions[items], "each", {1: good})

    for name, once in (("W7 rerun of an item", rerun), ("W7 item failed, resumed", resume)):
        for items in W7_ITEMS:  # whatever is done for the first time
            await once(items, Spent())
        found = await _by_turns(services, f"{name}{language.suffix}", W7_ITEMS, W7_ROUNDS, W7_TIMES, once)
        for result in found:
            yield result
        few, many = (result.p50_ms or 0.0 for result in found)
        told = f"one among {W7_ITEMS[1]:,} takes {many / few:.2f} times what one among {W7_ITEMS[0]} takes"
        tell(f"{name}{language.suffix}: {told} (at most {W7_FACTOR:g})")


async def measure_pauses(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W8: pause, until it is PAUSED, and resume, of an execution that waits after so many tasks."""
    executions = {}
    for tasks in W8_TASKS:
        name = f"waiting_{tasks}"
        await client.define(language.waiting_chain(name, tasks), language.document_name(name))
        executions[tasks] = await client.start(name)
        await client.wait_for_delay(executions[tasks])

    async def pause(tasks: int, spent: Spent) -> None:
        with timed(spent):
            await client.pause(executions[tasks])
            await client.go_on(executions[tasks])

    for result in await _by_turns(services, f"W8 pause and resume{language.suffix}", W8_TASKS, ROUNDS, W8_TIMES, pause):
        yield result


async def measure_heads(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W9: a chain run again from its first task on. The times by the clock in the middle are those of the request."""
    executions = {}
    for tasks in W9_TASKS:
        name = f"chain_{tasks}"
        await client.define(language.chain(name, tasks), language.document_name(name))
        executions[tasks] = (await client.run(name)).id
    for tasks in W9_TASKS:
        runs = []
        for _ in range(ROUNDS):
            tell(f"W9{language.suffix}: {tasks:,} tasks again")
            spent = Spent()
            with measured(services, spent):
                with timed(spent):
                    await client.rerun(executions[tasks], "task_0", waits=False)
                await client.wait(executions[tasks])
            runs.append(spent)
        chosen = middle(runs)
        chosen.times_s = [time_s for run in runs for time_s in run.times_s]
        yield chosen.result(f"W9 rerun of a chain's head{language.suffix}", tasks, tasks)


WORKLOADS: dict[str, Measure] = {"W7": measure_items, "W8": measure_pauses, "W9": measure_heads}
"""Each is given new services."""


@contextmanager
def timed(spent: Spent) -> Iterator[None]:
    """Add the time that a block takes to the times of what is measured."""
    began_s = time.perf_counter()
    yield
    spent.times_s.append(time.perf_counter() - began_s)


async def _by_turns(
    services: Services,
    name: str,
    sizes: Sequence[int],
    rounds: int,
    times: int,
    once: Callable[[int, Spent], Awaitable[None]],
) -> list[Result]:
    """So many operations on the small and on the large by turns: a busy moment of the machine hits both alike."""
    found = {size: Spent() for size in sizes}
    for _ in range(rounds):
        for size, total in found.items():
            tell(f"{name}: {times} times, {size:,}")
            spent = Spent()
            with measured(services, spent):
                for _ in range(times):
                    await once(size, spent)
            total.wall_s += spent.wall_s
            total.cpu_s += spent.cpu_s
            total.times_s += spent.times_s
    return [total.result(name, size, len(total.times_s)) for size, total in found.items()]
