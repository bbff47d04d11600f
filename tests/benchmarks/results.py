"""What was measured: one line per workload and size, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. What a workload does not measure is None."""

    workload: str
    n: int
    wall_s: float | None = None
    cpu_s: float | None = None
    """The processor time of engine, executor and api together, without that of the client."""
    tasks_per_s: float | None = None
    cpu_us_per_task: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mb: float | None = None
    executions: int | None = None
    """How many executions are in the store."""
    rows: int | None = None
    """How many rows all tables of the store have."""
    disk_mb: float | None = None


COLUMNS = (
    ("n", 7, 0),
    ("wall_s", 9, 3),
    ("cpu_s", 9, 3),
    ("tasks_per_s", 12, 0),
    ("cpu_us_per_task", 16, 1),
    ("p50_ms", 11, 2),
    ("p99_ms", 11, 2),
    ("rss_mb", 8, 1),
    ("executions", 12, 0),
    ("rows", 8, 0),
    ("disk_mb", 9, 2),
)


def percentiles_ms(times_s: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile of some times, in milliseconds."""
    ordered = sorted(times_s)
    return statistics.median(ordered) * 1e3, ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3


def write_table(results: Sequence[Result]) -> str:
    """The results for people."""
    width = max([len("workload"), *(len(result.workload) for result in results)])
    lines = [f"{'workload':{width}}" + "".join(f"{name:>{size}}" for name, size, _ in COLUMNS)]
    for result in results:
        cells = ((getattr(result, name), size, digits) for name, size, digits in COLUMNS)
        told = (f"{'' if value is None else f'{value:,.{digits}f}':>{size}}" for value, size, digits in cells)
        lines.append(f"{result.workload:{width}}{''.join(told)}".rstrip())
    return "\n".join(lines)


def write_json(results: Sequence[Result], path: Path) -> None:
    """The results for programs."""
    content = {"machine": describe_machine(), "commit": find_commit(), "results": [asdict(each) for each in results]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def describe_machine() -> str:
    """What the numbers depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} x {model or platform.machine()}, {platform.system()} {platform.release()}, {python}"


def find_commit() -> str:
    """The commit that was measured, with a + when files have been changed since; empty outside of a clone."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
