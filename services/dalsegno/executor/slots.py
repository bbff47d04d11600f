"""How an executor's slots are shared out to its engines as credit.

At any time the credit that engines hold and the actions that run are together at most the slots. Each engine is
entitled to an equal share. The share of an engine that is away is kept for it for a while, then the others have it;
credit once given cannot be taken back, so a returning engine gets its share as others use theirs up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

RESERVED_S = 15.0
"""How long the share of an engine that is away is kept for it, in seconds."""


class Slots:
    """Times are in seconds by any clock that does not go back; engines are known by their address."""

    def __init__(self, total: int, engines: Iterable[str], at_s: float) -> None:
        self.total = total
        self._running = dict.fromkeys(engines, 0)
        self._granted: dict[str, int] = {}
        self._away_since_s = dict.fromkeys(self._running, at_s)

    @property
    def running(self) -> int:
        """How many actions hold a slot."""
        return sum(self._running.values())

    def connect(self, engine: str, at_s: float) -> int:
        """An engine's stream opens: the credit to begin with."""
        self._away_since_s.pop(engine, None)
        self._granted[engine] = 0
        return self.extend(engine, at_s, at_once=True)

    def disconnect(self, engine: str, at_s: float) -> None:
        """The stream has ended, and with it the credit it held."""
        self._granted.pop(engine, None)
        self._away_since_s[engine] = at_s

    def take(self, engine: str) -> None:
        """An action came: a unit of credit becomes a slot in use."""
        self._running[engine] += 1
        if self._granted.get(engine, 0) > 0:
            self._granted[engine] -= 1

    def free(self, engine: str) -> None:
        """An action that came from this engine has ended."""
        self._running[engine] -= 1

    def extend(self, engine: str, at_s: float, *, at_once: bool = False) -> int:
        """How much more credit to send the engine now; it counts as sent.

        Unless `at_once`, none as long as what the engine still has is more than twice as much: a Credit for each
        action would double the messages.
        """
        held = self._granted.get(engine)
        if held is None:
            return 0
        room = min(
            self.total - self.running - sum(self._granted.values()),
            self._share(at_s) - held - self._running[engine],
        )
        if room <= 0 or (not at_once and room * 2 < held):
            return 0
        self._granted[engine] = held + room
        return room

    def starved(self) -> list[str]:
        """The engines whose streams are open and without credit."""
        return [engine for engine, held in self._granted.items() if held == 0]

    def _share(self, at_s: float) -> int:
        reserved = sum(1 for since_s in self._away_since_s.values() if at_s - since_s < RESERVED_S)
        return math.ceil(self.total / max(1, len(self._granted) + reserved))
