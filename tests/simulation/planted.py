"""Planted faults: each is a patch of the services. The simulation must find it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "mutations"
ROOT = Path(__file__).parents[2]

FOUND_BY = {
    "apply-twice": 0,
    "credit-lost": 30,
    "doubtful-forgotten": 30,
    "early-value-missed": 1,
    "forget-leases": 2,
    "goodbye-keeps": 30,
    "messages-not-adopted": 1,
    "nobody-asks": 6,
    "old-delivery-counts": 67,
    "ready-not-adopted": 9,
    "request-forgotten": 0,
    "reverted-child-forgotten": 104,
    "send-before-commit": 0,
    "skip-claim": 23,
}
"""The first seed that found each, when it was last looked for. It is tried first, to save time."""


def names() -> list[str]:
    """Return the names of the planted faults, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.patch"))


def planted_run(name: str, seeds: str) -> int:
    """Run seeds with a planted fault until one finds it. Return 0 if one does, otherwise 1."""
    first, _, last = seeds.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "services", copy / "services", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        subprocess.run(
            ["patch", "--quiet", "--no-backup-if-mismatch", "-p1", "-i", FOLDER / f"{name}.patch"], cwd=copy, check=True
        )
        numbers = f"{int(first)}, {int(last)}, {FOUND_BY.get(name)}"
        code = f"from tests.simulation.planted import find; raise SystemExit(find({numbers}))"
        environment = {**os.environ, "PYTHONPATH": f"{copy / 'services'}:{copy}"}
        found = subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True)
    print(f"{name}: {found.stdout.strip() or found.stderr[-2000:]}")
    return found.returncode


def find(first: int, last: int, likely: int | None = None) -> int:
    """Run seeds until one fails, and tell which: first the likely one. Return 0 if one does, otherwise 1."""
    import gc
    import logging

    from tests.simulation.cluster import Plan, simulate

    logging.disable(logging.CRITICAL)
    gc.set_threshold(500_000, 50, 100)  # as run_many does
    for number, seed in enumerate([*([] if likely is None else [likely]), *range(first, last)], 1):
        outcome = simulate(Plan(seed))
        if outcome.wrong:
            print(f"found by seed {seed}, number {number}: {outcome.wrong[0][-300:]}")
            return 0
    print(f"{last - first} seeds do not find it")
    return 1
