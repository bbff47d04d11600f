"""The simulation of several engines: its seeds, that they repeat, and that it finds faults. More: README.md."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation import run
from tests.simulation.cluster import Outcome, Plan, simulate
from tests.simulation.covered import APART, functions_of
from tests.simulation.on_disk import on_disk
from tests.simulation.planted import FOUND_BY, names, planted_run

SEEDS = 10
"""How many seeds run here; scripts/simulate runs more of them."""
ROOT = Path(__file__).parents[2]


def _told(outcome: Outcome) -> str:
    return run.told_wrong(outcome)


def test_everything_happens_once_with_several_engines() -> None:
    """Whatever happens to engines, executors, wires and the database, each execution ends, and everything once."""
    lines: list[str] = []
    total = run.run_many(range(SEEDS), lines.append)
    print("\n".join([*lines, *total.told()]))
    assert total.failed == []


def test_seeds_have_what_they_must_have() -> None:
    """Each seed has two engines, three executors, twenty executions and ten faults."""
    outcomes = [simulate(Plan(seed)) for seed in range(3)]
    assert [_told(each) for each in outcomes if each.wrong] == []
    assert min(each.executions for each in outcomes) >= 20
    assert min(each.engines for each in outcomes) >= 2
    assert min(each.faults.total() for each in outcomes) >= 10


def test_what_cannot_be_reached_is_there() -> None:
    """Each file and function that the report of lines names as out of reach is one of the engine."""
    room = ROOT / "services" / "dalsegno" / "engine"
    for place in APART:
        name, _, function = place.partition(" ")
        assert functions_of(room / name)[function], place


def test_a_seed_gives_the_same_twice() -> None:
    """Two processes with different hashes write the same journals, byte for byte."""
    code = "import sys, logging; from tests.simulation.cluster import Plan, simulate; logging.disable(50)\n"
    code += "sys.stdout.buffer.write(b'\\n\\n'.join(simulate(Plan(seed)).journals for seed in (1, 3)))"
    written = []
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT}"}
        found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, cwd=ROOT)
        written.append(found.stdout)
    assert len(written[0]) > 10_000
    assert written[0] == written[1]


def test_a_seed_runs_on_disk() -> None:
    """The same happens on a SQLite file that all engines share."""
    with on_disk() as store_of:
        outcome = simulate(Plan(1), store_of)
    assert not outcome.wrong, _told(outcome)


def test_a_failing_plan_is_made_smaller() -> None:
    """What is not needed for a failure is left out, and the command says what is left."""

    def fails(plan: Plan) -> bool:
        return plan.executions >= 3 and (plan.faults is None or 4 in plan.faults)

    small = run.shrink(Plan(17), fails)
    assert run.command_of(small) == (
        "python -m tests.simulation.run --seed 17 --faults 4 --executions 3 --operations 0"
    )


@pytest.mark.timeout(0)
def test_a_planted_fault_is_found() -> None:
    """Seeds find a fault that is planted in a copy of the services: one a day of those that were found."""
    planted = sorted(FOUND_BY)
    assert set(planted) <= set(names())
    today = datetime.datetime.now(datetime.UTC).date()
    name = os.environ.get("DALSEGNO_SIMULATION_MUTATION", planted[today.toordinal() % len(planted)])
    assert planted_run(name, "0:1000") == 0


@pytest.mark.parametrize("name", names())
def test_planted_faults_still_apply(name: str) -> None:
    """Each patch fits the services as they are."""
    patch = ROOT / "tests" / "simulation" / "mutations" / f"{name}.patch"
    tried = subprocess.run(
        ["patch", "--dry-run", "--quiet", "-p1", "-i", patch], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stdout
