"""A minute of chaos: each kind of process is killed twenty times, and the primary of the database is lost once.

By hand: scripts/chaos.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from tests.chaos.__main__ import run
from tests.chaos.databases import open_database
from tests.chaos.faults import Plan
from tests.chaos.run import Quota
from tests.postgres import NoPostgres

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]

LASTS_S, KILLS_S = 60.0, 2.2
"""A minute has 20 kills of each kind, even if some find nothing to kill."""


def seed() -> str:
    """A fixed seed on even days of the year, one of the day on the others: what is new is tried, and what was found
    stays tried."""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"day {today}" if today.toordinal() % 2 else "dal segno"


def test_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    """Two engines, three executors, two apis and a gateway on a pair of PostgreSQL servers, under load from both
    languages: after the faults everything comes to rest, and logs, journal, rows and answers agree."""
    plan = Plan(seed(), lasts_s=LASTS_S, kills_s=KILLS_S, failovers=1)
    print(f"scripts/chaos --minutes {LASTS_S / 60} --seed '{plan.seed}' --every {KILLS_S} --failovers 1 --kills 20")
    folder = tmp_path / "chaos"
    folder.mkdir()
    try:
        with open_database("postgresql", folder) as database:
            assert run(plan, Quota(kills=20, failovers=1), database, folder, at_once=20) == 0
    except NoPostgres as reason:
        pytest.skip(str(reason))
