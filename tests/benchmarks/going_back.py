"""The workload W11: executions go back to a checkpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.benchmarks.operations import timed
from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services
from tests.benchmarks.texts import Language, signed_chain
from tests.benchmarks.workloads import ROUNDS, Spent, measured, middle, tell

SPAN = 1_000
"""So many tasks have ended behind the checkpoint."""
TASKS = (1_000, 20_000)
"""The tasks of the whole execution: of the second one nearly all lie before the checkpoint."""
ITEMS = 10_000


async def measure_going_back(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W11: back over 1,000 tasks of 1,000 and of 20,000, which have nothing to revert, from PAUSED, so that the
    execution is in memory; then over 10,000 items, each of which is reverted by an action, 100 at once. The way forward
    again is not measured."""
    for tasks in TASKS:
        name = f"signed_{tasks}"
        await client.define(signed_chain(language, name, tasks, SPAN), language.document_name(name))
        execution_id = await client.start(name)
        runs = []
        what = f"W11 back over {SPAN:,} tasks{language.suffix}"
        for _ in range(ROUNDS):
            await client.go_to(execution_id, "end")
            runs.append(await _measure_back(services, client, execution_id, "sign", f"{what}: {tasks:,}"))
        yield middle(runs).result(what, tasks, SPAN)
    await client.define(language.reversible_fan_out, language.document_name("reversible"))
    execution_id = (await client.run("reversible", {"count": ITEMS})).id
    runs = []
    what = f"W11 items reverted{language.suffix}"
    for _ in range(ROUNDS):
        runs.append(await _measure_back(services, client, execution_id, "start", f"{what}: {ITEMS:,}"))
        await client.go_on(execution_id)
        await client.wait(execution_id)
    yield middle(runs).result(what, ITEMS, ITEMS)


async def _measure_back(services: Services, client: Client, execution_id: str, name: str, what: str) -> Spent:
    """The way back to a checkpoint, once."""
    tell(what)
    spent = Spent()
    with measured(services, spent), timed(spent):
        await client.go_to(execution_id, name)
    return spent
