"""What expressions and large definitions cost: `scripts/bench --expressions`, `--definitions`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

from tests.benchmarks import expressions
from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services
from tests.benchmarks.texts import Language, orquesta_converging_text, orquesta_layers_text
from tests.benchmarks.workloads import measured, tell
from tests.world import Played, World, described, play_standard

from dalsegno.definitions.document import read
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt

TASKS = (1_000, 10_000)
LAYERS = (20, 10)
"""Layers of tasks, and the tasks of each, that all lead to all of the next."""
CONVERGING_TASKS = 200
PUBLISHING_TASKS = 1_000
PART = 200
"""As many tasks at the beginning of a chain are compared with as many at its end."""
PARTS = (("first", slice(0, PART)), ("last", slice(-PART, None)))


def measure_expressions() -> Iterator[Result]:
    """One line per expression over a small and over a large context; cpu_us_per_task is what one evaluation costs."""
    for line in expressions.measure_expressions():
        limit = f" (limit {line.limit_us:g} us)" if line.limit_us else ""
        yield Result(f"{line.expression}{limit}", 3, cpu_us_per_task=line.small_us)
        yield Result(f"{line.expression} in a large context", expressions.LARGE + 3, cpu_us_per_task=line.large_us)
    compile_s = expressions.measure_compilation(1_000)
    yield Result("compiling expressions of tasks", 1_000, wall_s=compile_s, cpu_us_per_task=compile_s * 1e3)


def measure_compilation(language: Language) -> Iterator[Result]:
    """Reading, checking and compiling a definition of many tasks, in this process. RuntimeError for a wrong one."""
    read(language.publishing_chain("warm", 10))  # the library's parser is built once per process
    for tasks in TASKS:
        yield _compilation(f"a definition{language.suffix}", language.publishing_chain("large", tasks), tasks)
    if language.name == "orquesta":
        layers, width = LAYERS
        text = orquesta_layers_text(layers, width)
        yield _compilation(f"{width} to the power of {layers} routes", text, layers * width)
        yield _compilation("tasks that lead to one", orquesta_converging_text(CONVERGING_TASKS), CONVERGING_TASKS)


def _compilation(what: str, text: str, tasks: int) -> Result:
    tell(f"compiling {what}, {tasks:,} tasks, {len(text) / 1024:,.0f} KiB")
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    document = read(text)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    if document.problems or len(document.members) != 1:
        raise RuntimeError(f"a wrong definition: {document.problems[:3]}")
    return Result(f"compiling {what}", tasks, wall_s, cpu_s, tasks / wall_s, cpu_s / tasks * 1e6)


def measure_publishing_core(language: Language) -> Iterator[Result]:
    """The same chain through the core and the journal's encoding alone, where nothing else on the machine counts."""
    world = World()
    world.actions["core.echo"] = described("core.echo", "message")
    world.define(language.publishing_chain("publishing", PUBLISHING_TASKS), name=language.document_name("publishing"))
    tell(f"a chain of {PUBLISHING_TASKS:,} tasks that publish, in the core alone")
    runs = []
    for _ in range(5):
        moments_s: list[float] = []

        def play(execution: Execution, attempt: Attempt, seen: list[float] = moments_s) -> Played:
            seen.append(time.process_time())
            return _play(execution, attempt)

        world.player = play
        world.start("publishing")
        world.run()
        world.executions.clear()
        runs.append(moments_s)
    for name, part in PARTS:
        cpu_s = min(moments_s[part][-1] - moments_s[part][0] for moments_s in runs)
        yield Result(
            f"in the core{language.suffix}, {name} {PART} tasks", PART, cpu_s=cpu_s, cpu_us_per_task=cpu_s / PART * 1e6
        )


def _play(execution: Execution, attempt: Attempt) -> Played:
    """What the standard actions do, and StackStorm's echo."""
    if attempt.action != "core.echo":
        return play_standard(execution, attempt)
    given = attempt.input.data
    assert isinstance(given, dict)
    return Played(result={"stdout": given["message"], "stderr": "", "failed": False, "succeeded": True})


async def measure_publishing(services: Services, client: Client, language: Language) -> list[Result]:
    """A chain whose tasks publish a variable each: the time and the bytes of its first tasks and of its last."""
    await client.define(language.publishing_chain("publishing", PUBLISHING_TASKS), language.document_name("publishing"))
    await client.run("publishing")
    tell(f"a chain of {PUBLISHING_TASKS:,} tasks that publish")
    with measured(services) as spent:
        execution = await client.run("publishing")
    times_s = [await _task_times_s(client, execution.id)]
    results = [spent.result(f"publishing chain{language.suffix}", PUBLISHING_TASKS, PUBLISHING_TASKS)]
    for _ in range(4):  # the machine may have been busy with something else in one part of one run
        execution = await client.run("publishing")
        times_s.append(await _task_times_s(client, execution.id))
    sizes = _journal_bytes(services, execution.id)
    for name, part in PARTS:
        wall_s = min(each[part][-1] - each[part][0] for each in times_s)
        told = f"publishing chain{language.suffix}, {name} {PART} tasks"
        results.append(Result(told, PART, wall_s, tasks_per_s=PART / wall_s))
    count = len(sizes) // 5
    first, last = sum(sizes[:count]) / count, sum(sizes[-count:]) / count
    tell(f"bytes in the journal per step: {first:,.0f} in the first fifth, {last:,.0f} in the last")
    if last > first * 1.1:
        raise RuntimeError("the journal's steps grow with the number of published variables")
    return results


async def _task_times_s(client: Client, execution_id: str) -> list[float]:
    """When each task was created, in order."""
    tasks = await client.list_tasks(execution_id)
    return [task.created_at.seconds + task.created_at.nanos / 1e9 for task in tasks]


def _journal_bytes(services: Services, execution_id: str) -> list[int]:
    """The size of each row of the journal with the texts that it refers to, in order."""
    database = sqlite3.connect(f"file:{services.database}?mode=ro", uri=True)
    try:
        query = "SELECT length(entries) + length(changes) FROM journal WHERE execution_id = ? ORDER BY last"
        return [size for (size,) in database.execute(query, (execution_id,))]
    finally:
        database.close()
