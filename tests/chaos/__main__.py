"""`scripts/chaos`: reads the options, runs, tells what was found, and keeps everything when that is bad."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.databases import Database, open_database
from tests.chaos.faults import Plan
from tests.chaos.records import LEDGER
from tests.chaos.run import Chaos, Quota
from tests.postgres import NoPostgres


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. The exit code: 0, 1 if something is wrong, or 2 if it cannot begin."""
    given = _read(arguments)
    if given.check is not None:
        verdict = check(given.database, given.check)
        print(verdict.summary())
        return 0 if verdict.is_good else 1
    seed = given.seed or str(int(time.time()))
    plan = Plan(seed, given.minutes * 60, given.every, given.failovers)
    folder = Path(tempfile.mkdtemp(prefix="dalsegno-chaos-"))
    print(f"seed {seed}, {given.minutes:g} minutes on {given.database}, logs in {folder}", flush=True)
    try:
        with open_database(given.database, folder) as database:
            quota = Quota(given.kills, given.failovers * database.can_be_lost)
            return run(plan, quota, database, folder, at_once=given.at_once, is_kept=given.keep)
    except NoPostgres as reason:
        print(reason, file=sys.stderr)
        return 2


def run(plan: Plan, quota: Quota, database: Database, folder: Path, *, at_once: int, is_kept: bool = False) -> int:
    """Run and check; the exit code. Keeps the folder and the store when something is wrong."""
    chaos = Chaos(plan, quota, database, folder, at_once)
    is_good = False
    try:
        verdict = asyncio.run(chaos.run())
        is_good = verdict.is_good
        print(chaos.summary(), verdict.summary(), sep="\n")
    finally:
        if not is_good or is_kept:
            print(f"kept: logs in {folder}, the store in {database.keep(folder)}; seed {plan.seed}")
        else:
            shutil.rmtree(folder)
    return 0 if is_good else 1


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", default="")
    parser.add_argument("--database", default="postgresql")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--every", type=float, default=10.0)
    parser.add_argument("--failovers", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=60)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--check", type=Path)
    given = parser.parse_args(arguments)
    if given.check is not None and not (given.check / LEDGER).exists():
        parser.error(f"{given.check} is not what a run has kept: it has no {LEDGER}")
    return given


if __name__ == "__main__":
    sys.exit(main())
