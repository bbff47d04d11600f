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
        code = f"from tests.simulation.planted import find; raise SystemExit(find({int(first)}, {int(last)}))"
        environment = {**os.environ, "PYTHONPATH": f"{copy / 'services'}:{copy}"}
        found = subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True)
    print(f"{name}: {found.stdout.strip() or found.stderr[-2000:]}")
    return found.returncode


def find(first: int, last: int) -> int:
    """Run seeds until one fails, and tell which. Return 0 if one does, otherwise 1."""
    import logging

    from tests.simulation.cluster import Plan, simulate

    logging.disable(logging.CRITICAL)
    for number, seed in enumerate(range(first, last), 1):
        outcome = simulate(Plan(seed))
        if outcome.wrong:
            print(f"found by seed {seed}, the {number}th: {outcome.wrong[0][-300:]}")
            return 0
    print(f"{last - first} seeds do not find it")
    return 1
