"""Hints for whoever follows: which executions have reached which revision. A slow reader just gets fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.states import ExecutionState

HINTS_MAX = 10_000
"""As many executions wait to be told of; beyond that the oldest are dropped: the store is the truth."""


class Hint(NamedTuple):
    """Where an execution has come to."""

    revision: int
    """0: it was deleted."""
    resting: bool = False
    """Whether it is PAUSED or at rest: those who only wait for that need not read it before."""


DELETED = Hint(0, True)


def hint_of(execution: Execution) -> Hint:
    """Where it is now."""
    return Hint(execution.revision, execution.is_at_rest or execution.state is ExecutionState.PAUSED)


class HintSubscriber:
    """One stream of hints."""

    def __init__(self) -> None:
        self._hints: dict[str, Hint] = {}
        self._filled = asyncio.Event()

    def tell(self, hints: Mapping[str, Hint]) -> None:
        """Executions have moved."""
        self._hints.update(hints)
        while len(self._hints) > HINTS_MAX:
            del self._hints[next(iter(self._hints))]
        self._filled.set()

    async def take(self, wait_s: float) -> dict[str, Hint]:
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
        self._subscribers: set[HintSubscriber] = set()

    def follow(self) -> HintSubscriber:
        """One more."""
        subscriber = HintSubscriber()
        self._subscribers.add(subscriber)
        return subscriber

    def leave(self, subscriber: HintSubscriber) -> None:
        """One less."""
        self._subscribers.discard(subscriber)

    def tell(self, hints: Mapping[str, Hint]) -> None:
        """A commit has moved these executions."""
        if hints:
            for subscriber in self._subscribers:
                subscriber.tell(hints)
