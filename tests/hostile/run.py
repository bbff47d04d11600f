"""Many hostile expressions one after the other."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, seed, settings
from tests.hostile.exam import Case, Examiner, Tally, assert_right
from tests.hostile.texts import cases

FIXED_SEED = 20_251


def seed_of_the_day() -> int:
    """Another one each day, the same all day."""
    return int(datetime.now(UTC).strftime("%Y%m%d"))


def run(examples: int, start: int, seconds: float = float("inf"), *, only_here: bool = False) -> Tally:
    """Examine so many expressions, or fewer when the seconds are over. `only_here`: see Examiner.examine.

    Raises AssertionError for the first that is wrong, made as short as it can be.
    """
    tally, examiner, end_s = Tally(), Examiner(), time.monotonic() + seconds

    @seed(start)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def examine(case: Case) -> None:
        if time.monotonic() > end_s:
            return
        ours, plain = examiner.examine(case, only_here=only_here)
        tally.note(case, ours)
        assert_right(case, ours, plain)

    try:
        examine()
    finally:
        examiner.close()
    return tally
