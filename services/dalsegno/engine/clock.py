"""The store's time, without asking the store each time."""

from __future__ import annotations

import time
from collections.abc import Callable

MEASURE_EVERY_S = 60.0


class Clock:
    """Seconds since 1970 by the store's clock: an offset measured now and then, and the monotonic clock between.

    Never goes back: after a measurement that would set it back it stands until the store has caught up.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._offset_s = wall() - monotonic()
        self._measured_s: float | None = None
        self._last_s = 0.0

    def now_s(self) -> float:
        """The time now."""
        now = self._monotonic() + self._offset_s
        if now < self._last_s:
            return self._last_s
        self._last_s = now
        return now

    @property
    def is_stale(self) -> bool:
        """Whether the offset should be measured again."""
        return self._measured_s is None or self._monotonic() - self._measured_s > MEASURE_EVERY_S

    def measure(self, ask: Callable[[], float]) -> None:
        """Take the offset from the store's answer; half of the time it took belongs to the way back."""
        before = self._monotonic()
        answer = ask()
        after = self._monotonic()
        self._offset_s = answer - (before + after) / 2
        self._measured_s = after
