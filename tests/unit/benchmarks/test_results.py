"""What the benchmarks tell: numbers, table, JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.benchmarks import run
from tests.benchmarks.results import Result, percentiles_ms, write_json, write_table
from tests.benchmarks.services import processor_s, resident_mb
from tests.benchmarks.workloads import Spent, middle


def test_percentiles_are_of_the_ordered_times() -> None:
    """The median and the 99th percentile, in milliseconds, whatever order the times came in."""
    times_s = [number / 1000 for number in range(200, 0, -1)]

    assert percentiles_ms(times_s) == pytest.approx((100.5, 199.0))


def test_rates_are_per_task() -> None:
    """Tasks per second are by the clock, microseconds per task by the processor."""
    result = Spent(wall_s=2.0, cpu_s=1.0).result("W1 chain", 100, 1_000)

    assert (result.tasks_per_s, result.cpu_us_per_task) == (500.0, 1_000.0)


def test_the_middle_run_is_told() -> None:
    """Of several runs the one with the median time by the clock counts, with the median processor time."""
    chosen = middle([Spent(3.0, 0.1), Spent(1.0, 0.2), Spent(2.0, 0.9, [0.5])])

    assert chosen == Spent(2.0, 0.2, [0.5])


def test_the_file_has_every_field(tmp_path: Path) -> None:
    """The JSON names machine and commit, and each result has every field; what was not measured is null."""
    write_json([Result("W5 memory at rest", 0, rss_mb=12.5)], tmp_path / "results.json")

    written = json.loads((tmp_path / "results.json").read_text())
    assert set(written) == {"machine", "commit", "results"}
    absent = ("wall_s", "cpu_s", "tasks_per_s", "cpu_us_per_task", "p50_ms", "p99_ms", "executions", "rows", "disk_mb")
    assert written["results"] == [
        {"workload": "W5 memory at rest", "n": 0, **dict.fromkeys(absent), "rss_mb": 12.5},
    ]


def test_the_table_leaves_out_what_was_not_measured() -> None:
    """A line per result below the names of the columns, numbers with separators."""
    head, line = write_table([Result("W3 concurrent", 1_000, wall_s=1.5, tasks_per_s=3_333.3)]).splitlines()

    assert head.split()[:2] == ["workload", "n"]
    assert line.split() == ["W3", "concurrent", "1,000", "1.500", "3,333"]


def test_processes_are_measured() -> None:
    """This process has used some processor time and memory; one that is gone counts as nothing."""
    assert processor_s({"self": os.getpid()})["self"] > 0
    assert resident_mb({"self": os.getpid()}) > 1
    assert processor_s({"gone": 2**22 + 1}) == {"gone": 0.0}


def test_an_unknown_workload_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """--only with a name that does not exist says which there are, before anything is started."""
    with pytest.raises(SystemExit):
        run.main(["--only", "W1,W99"])

    assert "no such workload: W99; there are W1, W2, W3, W4, W5, W6, W7, W8, W9" in capsys.readouterr().err


def test_an_unknown_language_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """--language with a name that does not exist says which there are, before anything is started."""
    with pytest.raises(SystemExit):
        run.main(["--language", "mistral,piano"])

    assert "no such language: piano; there are mistral, orquesta" in capsys.readouterr().err
