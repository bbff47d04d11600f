"""Hints for whoever follows: which executions have reached which revision. A slow reader just gets fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

HINTS_MAX = 10_000
"""As many executions wait to be told of; beyond that the oldest are dropped: the store is the truth."""


class Follower:
    """One stream of hints."""

    def __init__(self) -> None:
        self._hints: dict[str, int] = {}
        self._filled = asyncio.Event()

    def tell(self, hints: Mapping[str, int]) -> None:
        """Executions have moved."""
        for execution_id, revision in hints.items():
            self._hints[execution_id] = revision
        while len(self._hints) > HINTS_MAX:
            del self._hints[next(iter(self._hints))]
        self._filled.set()

    async def take(self, wait_s: float) -> dict[str, int]:
        """The hints since the last time; none when nothing happened for so long."""
        try:
            await asyncio.wait_for(self._filled.wait(), wait_s)
        except TimeoutError:
            return {}
        self._filled.clear()
        taken, self._hints = self._hints, {}
        return taken


class Feed:
    """All who follow."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()

    def follow(self) -> Follower:
        """One more."""
        follower = Follower()
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """One less."""
        self._followers.discard(follower)

    def tell(self, hints: Mapping[str, int]) -> None:
        """A commit has moved these executions."""
        if hints:
            for follower in self._followers:
                follower.tell(hints)
