"""How long the writer of a store waits for the database at present, for health."""

from __future__ import annotations

import time
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

    def measured(self, phase: Phase) -> Wait:
        """Measure what is done within the `with`. A wait within a commit belongs to it."""
        return Wait(self, phase)

    def begin(self, phase: Phase) -> bool:
        """Begin a wait. Return False within another one."""
        if self._began is not None:
            return False
        self._began = (time.monotonic(), phase)
        return True

    def end(self) -> None:
        """End the present wait."""
        self._began = None

    def present(self) -> Stall:
        """Return the present wait. Called from any thread."""
        began = self._began
        if began is None:
            return NO_STALL
        return Stall(time.monotonic() - began[0], began[1].value)


class Wait:
    """Measures one wait. (A generator for the `with` takes four times as long, and each transaction waits twice.)"""

    __slots__ = ("_is_outer", "_phase", "_stalls")

    def __init__(self, stalls: Stalls, phase: Phase) -> None:
        self._stalls, self._phase = stalls, phase
        self._is_outer = False

    def __enter__(self) -> None:
        self._is_outer = self._stalls.begin(self._phase)

    def __exit__(self, *_: object) -> None:
        if self._is_outer:
            self._stalls.end()
