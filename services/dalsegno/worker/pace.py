"""The pace of an action: at most so many starts in any period."""

from __future__ import annotations

from collections import deque

HORIZON_S = 1.0
"""An engine may send what can start within this time. So an action waits no longer in the worker, and the next ones in
the engine, which may give them to other workers meanwhile."""


class Pace:
    """Counts starts. Times are seconds of a monotonic clock."""

    def __init__(self, starts: int, period_s: float) -> None:
        self._starts = starts
        self.period_s = period_s
        self._newest: deque[float] = deque(maxlen=starts)

    def wait_s(self, at_s: float) -> float:
        """Return how long the next start must wait; 0: not at all."""
        if len(self._newest) < self._starts:
            return 0.0
        return max(0.0, self._newest[0] + self.period_s - at_s)

    def note(self, at_s: float) -> None:
        """Count a start."""
        self._newest.append(at_s)

    def ahead(self, at_s: float) -> int:
        """Return how many more may start within the horizon."""
        since_s = at_s + HORIZON_S - self.period_s
        return self._starts - sum(1 for each in self._newest if each > since_s)
