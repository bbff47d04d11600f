"""How long something has taken, in time that the machine gave it, and a limit of a test in such time.

On a machine that has much else to do, the time on the clock says nothing: a run that is stopped for a minute, or waits
for a processor, takes no longer than it did. A run that does nothing but wait for what never comes takes time as ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

TICK_S = 0.05
LONGEST_TICK_S = 1.0
"""Of more than this between two looks at the clock, the machine had stopped both who looks and what it looks at."""
TOO_LONG = "took too long"
TOO_LONG_CODE = 75


class GivenTime:
    """The time of a process, which must be asked for every few hundredths of a second."""

    def __init__(self, process: int) -> None:
        self._path = Path(f"/proc/{process}/task/{process}/schedstat")
        self._seen_s = time.monotonic()
        self._waited_before_s = self._waited_s = _read_waited_s(self._path, 0.0)
        self._passed_s = 0.0

    def measure_s(self) -> float:
        """Return the seconds since this was made, without those in which the process waited for a processor or
        everything stood still."""
        now_s = time.monotonic()
        self._passed_s += min(now_s - self._seen_s, LONGEST_TICK_S)
        self._seen_s = now_s
        self._waited_s = _read_waited_s(self._path, self._waited_s)
        return max(0.0, self._passed_s - (self._waited_s - self._waited_before_s))


class TestLimit:
    """A plugin of pytest: measures tests; one that is given more than so many seconds ends the process, with
    `TOO_LONG_CODE`."""

    __test__ = False

    def __init__(self, limit_s: float = float("inf")) -> None:
        self.seconds: dict[str, float] = {}
        self._limit_s = limit_s
        self._log = os.dup(1)  # what pytest captures is not the log
        self._running: tuple[str, GivenTime] | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure the test."""
        given = GivenTime(os.getpid())
        self._running = item.nodeid, given
        try:
            return (yield)
        finally:
            self._running = None
            self.seconds[item.nodeid] = round(given.measure_s(), 3)

    def _watch(self) -> None:
        while True:
            time.sleep(TICK_S)
            running = self._running
            if running is not None and running[1].measure_s() > self._limit_s:
                os.write(self._log, f"\nnoticed by {running[0]} ({TOO_LONG})\n".encode())
                os._exit(TOO_LONG_CODE)


def _read_waited_s(path: Path, otherwise_s: float) -> float:
    """Return how long the process has waited for a processor so far; systems without that number do not say."""
    try:
        return int(path.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return otherwise_s
