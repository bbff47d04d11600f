"""Hints to the api: which executions have reached which revision. A slow reader gets fewer hints."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.states import ExecutionState

HINTS_MAX = 10_000
"""The number of executions that wait to be sent. Beyond it the oldest hints are dropped, because readers also compare
with the store."""


class Hint(NamedTuple):
    """The revision that an execution has reached."""

    revision: int
    """0: it was deleted."""
    resting: bool = False
    """Whether it is PAUSED or at rest. Readers who only wait for that need not read it before."""


DELETED = Hint(0, True)


def hint_of(execution: Execution) -> Hint:
    """Return the hint of an execution in its current state."""
    return Hint(execution.revision, execution.is_at_rest or execution.state is ExecutionState.PAUSED)


class HintSubscriber:
    """One stream of hints."""

    def __init__(self) -> None:
        self._hints: dict[str, Hint] = {}
        self._filled = asyncio.Event()

    def send(self, hints: Mapping[str, Hint]) -> None:
        """Add hints."""
        self._hints.update(hints)
        while len(self._hints) > HINTS_MAX:
            del self._hints[next(iter(self._hints))]
        self._filled.set()

    async def take(self, wait_s: float) -> dict[str, Hint]:
        """Return the hints since the last call. Empty when there are none within this time."""
        try:
            await asyncio.wait_for(self._filled.wait(), wait_s)
        except TimeoutError:
            return {}
        self._filled.clear()
        taken, self._hints = self._hints, {}
        return taken


class Feed:
    """All streams of hints."""

    def __init__(self) -> None:
        self._subscribers: set[HintSubscriber] = set()

    def follow(self) -> HintSubscriber:
        """Add a stream."""
        subscriber = HintSubscriber()
        self._subscribers.add(subscriber)
        return subscriber

    def leave(self, subscriber: HintSubscriber) -> None:
        """Remove a stream."""
        self._subscribers.discard(subscriber)

    def send(self, hints: Mapping[str, Hint]) -> None:
        """Send the hints of a commit to all streams."""
        if hints:
            for subscriber in self._subscribers:
                subscriber.send(hints)
