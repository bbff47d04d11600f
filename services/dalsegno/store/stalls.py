"""How long the writer of a store waits for the database at present, for health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What it waits for."""

    BEGIN = "a transaction does not begin"
    STATEMENT = "a statement does not end"
    COMMIT = "a commit does not end"


@dataclass(frozen=True, slots=True)
class Stall:
    """A wait that goes on."""

    lasts_s: float
    reason: str
    """What does not end; the same as long as it lasts."""


NO_STALL = Stall(0.0, "")


class Stalls:
    """Measures the waits of one thread. Another thread reads the present one."""

    def __init__(self) -> None:
        self._began: tuple[float, Phase] | None = None

    @contextmanager
    def measured(self, phase: Phase) -> Iterator[None]:
        """Measure a wait. One within a commit belongs to it."""
        before = self._began
        if before is None:
            self._began = (time.monotonic(), phase)
        try:
            yield
        finally:
            self._began = before

    def present(self) -> Stall:
        """Return the present wait. Called from any thread."""
        began = self._began
        if began is None:
            return NO_STALL
        return Stall(time.monotonic() - began[0], began[1].value)
