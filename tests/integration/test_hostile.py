"""Expressions that were written to do harm, in real services, beside a canary.

Nothing that a workflow says may stop the engine, freeze it or starve others.
"""

from __future__ import annotations

import asyncio
import time

import pytest
import pytest_asyncio
from tests.canary import NAME, TEXT, Canary, singing
from tests.hostile.engine import ENGINE_MIB, POOL_MIB, draw, resident_mib, run_in_engine
from tests.hostile.run import FIXED_SEED, seed_of_the_day
from tests.integration.hostile_texts import DATA, EXPRESSIONS, workflows
from tests.processes import System, state_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("hostile")]

WAIT_S = 5.0
"""No canary takes longer, on a machine that is busy with other tests."""
AT_ONCE = 40
"""So many hostile executions run at the same time."""
END_S = 120.0
EXAMPLES = 250
"""With each seed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The canary's workflow."""
    await shared_system.define(TEXT)


async def _canary_run(system: System) -> None:
    execution = await system.run(NAME)
    assert state_of(execution) == "SUCCESS", execution.state_info


async def _end_all(system: System, count: int) -> list[str]:
    """Run all hostile workflows, many at once; the states in which they end."""
    room = asyncio.Semaphore(AT_ONCE)

    async def run_one(number: int) -> str:
        async with room:
            execution = await system.wait(await system.begin(f"h{number}", {"data": DATA}), timeout_s=END_S)
        if state_of(execution) == "ERROR":
            assert execution.state_info.startswith("cannot "), execution.state_info
        return state_of(execution)

    return await asyncio.gather(*(run_one(number) for number in range(count)))


async def test_no_expression_stops_freezes_or_starves_the_engine(system: System) -> None:
    """Each hostile execution ends with a value or an expression error, the engine lives, and the canary is served."""
    await system.define(workflows(EXPRESSIONS))
    engine = system.engine.pid
    began = time.monotonic()
    canary: Canary
    async with singing(lambda: _canary_run(system)) as canary:
        states = await _end_all(system, len(EXPRESSIONS))
    took_s = time.monotonic() - began
    worst_s = max(canary.times_s)
    told = f"{len(states)} in {took_s:.1f} s, {states.count('ERROR')} errors"
    print(f"{told}; {len(canary.times_s)} canaries, the slowest took {worst_s:.2f} s")
    assert set(states) <= {"SUCCESS", "ERROR"}
    assert system.engine.is_running
    assert system.engine.pid == engine, "the engine has died and was started again"
    assert resident_mib(engine) < ENGINE_MIB
    assert worst_s < WAIT_S


@pytest.mark.parametrize("start", [FIXED_SEED, seed_of_the_day()], ids=["fixed", "of the day"])
async def test_expressions_of_a_grammar(system: System, start: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Over all functions and filters, at least half beyond their first operator, at least a tenth at a limit: each ends
    with a value or an expression error. More by hand: `python -m tests.hostile --engine --examples 10000`."""
    report = await run_in_engine(system, draw(EXAMPLES, start))
    with capsys.disabled():
        print(f"\nhostile expressions in services, seed {start}: {report}")
    assert report.ends.total() == EXAMPLES
    assert report.tally.share("beyond the first operator") >= 0.5
    assert report.tally.share("met a limit") >= 0.1
    assert report.engine_mib < ENGINE_MIB
    assert report.pool_mib < POOL_MIB
    assert report.canary_s(1) < WAIT_S
