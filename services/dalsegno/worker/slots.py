"""Divide an executor's slots among its engines, as credit.

At any time the credit of the engines and the running actions together are at most the slots. Each engine has an equal
share. The share of a disconnected engine is reserved for a while, then the others get it; credit cannot be taken back,
so an engine that reconnects gets its share while the others use theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

RESERVED_S = 15.0
"""The time for which the share of a disconnected engine is reserved, in seconds."""

PORTION = 50
"""So much credit is sent at once, even if the engine still has more. An engine without credit stores first that an
action is ready, and later that it is handed out: twice the work."""


class Slots:
    """The slots of an executor. Times are seconds of a monotonic clock; engines are identified by their address."""

    def __init__(
        self, total: int, engines: Iterable[str], at_s: float, ahead: Callable[[float], int] | None = None
    ) -> None:
        """`ahead` gives, for a time, how many actions may be on their way to be started; None: any number."""
        self.total = total
        self._ahead = ahead
        self._running = dict.fromkeys(engines, 0)
        self._granted: dict[str, int] = {}
        self._away_since_s = dict.fromkeys(self._running, at_s)

    @property
    def running(self) -> int:
        """Return the number of actions that use a slot."""
        return sum(self._running.values())

    def connect(self, engine: str, at_s: float) -> int:
        """Open an engine's stream; return its first credit."""
        self._away_since_s.pop(engine, None)
        self._granted[engine] = 0
        return self.extend(engine, at_s, at_once=True)

    def disconnect(self, engine: str, at_s: float) -> None:
        """Close an engine's stream, and drop its credit."""
        self._granted.pop(engine, None)
        self._away_since_s[engine] = at_s

    def take(self, engine: str) -> None:
        """Use a slot for an action of this engine, and one unit of its credit."""
        self._running[engine] += 1
        if self._granted.get(engine, 0) > 0:
            self._granted[engine] -= 1

    def free(self, engine: str) -> None:
        """Free the slot of an action of this engine."""
        self._running[engine] -= 1

    def extend(self, engine: str, at_s: float, *, at_once: bool = False) -> int:
        """Return how much more credit to send the engine now; it counts as sent.

        Unless `at_once`, it is 0 while it is less than a PORTION and the engine still has more than twice as much: a
        Credit for each action would double the messages.
        """
        held = self._granted.get(engine)
        if held is None:
            return 0
        room = min(
            self.total - self.running - sum(self._granted.values()),
            self._share(self.total, at_s) - held - self._running[engine],
        )
        if self._ahead is not None:
            ahead = self._ahead(at_s)
            room = min(room, ahead - sum(self._granted.values()), self._share(ahead, at_s) - held)
        if room <= 0 or (not at_once and room * 2 < held and room < PORTION):
            return 0
        self._granted[engine] = held + room
        return room

    def starved(self) -> list[str]:
        """Return the engines with open streams and without credit."""
        return [engine for engine, held in self._granted.items() if held == 0]

    def _share(self, total: int, at_s: float) -> int:
        reserved = sum(1 for since_s in self._away_since_s.values() if at_s - since_s < RESERVED_S)
        return math.ceil(total / max(1, len(self._granted) + reserved))
