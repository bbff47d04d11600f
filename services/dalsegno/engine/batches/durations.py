"""How long transactions take, for the thread that tells the other engines how patient they must be."""

from __future__ import annotations

import time


class Durations:
    """Measures transactions of one thread: what is done within `with`. Another thread reads the longest."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._longest_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        began_s, self._began_s = self._began_s, None
        if began_s is not None:
            self._longest_s = max(self._longest_s, time.monotonic() - began_s)

    def take_longest_s(self) -> float:
        """Return the longest duration since the last call, or that of the present transaction if it is longer."""
        began_s, longest_s = self._began_s, self._longest_s
        self._longest_s = 0.0
        return longest_s if began_s is None else max(longest_s, time.monotonic() - began_s)
