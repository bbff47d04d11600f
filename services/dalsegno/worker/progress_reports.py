"""Progress reports of actions for the engines: the latest of each action, at most one a second.

Reports on a broken stream are lost: the next report of the action is newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dalsegno.v1.executor_service_pb2 import TaskDone
from dalsegno.worker.outbox import BATCH_COUNT, Key

TELL_EVERY_S = 1.0


class ProgressReports:
    """Collects the reports. Use it on one event loop only."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        """`wake` is called with an engine's address when there is a report for its stream."""
        self._wake = wake
        self._due: dict[str, dict[Key, TaskDone]] = {}
        """By engine: the reports to send now."""
        self._resting: dict[Key, TaskDone | None] = {}
        """By action: a report was sent less than a second ago; the newest report since."""

    def add(self, told: TaskDone, engine: str) -> None:
        """Send a report: now, or a second after the last one of this action."""
        key = told.action_execution_id, told.delivery
        if key in self._resting:
            self._resting[key] = told
            return
        self._resting[key] = None
        self._due.setdefault(engine, {})[key] = told
        self._wake(engine)
        asyncio.get_running_loop().call_later(TELL_EVERY_S, self._rested, key, engine)

    def take(self, engine: str) -> list[TaskDone]:
        """Return the reports that the engine's stream sends next."""
        due = self._due.get(engine)
        if not due:
            return []
        keys = list(due)[:BATCH_COUNT]
        return [due.pop(key) for key in keys]

    def forget(self, key: Key) -> None:
        """Drop the reports of an action that has its outcome."""
        self._resting.pop(key, None)
        for due in self._due.values():
            due.pop(key, None)

    def _rested(self, key: Key, engine: str) -> None:
        told = self._resting.pop(key, None)
        if told is not None:
            self.add(told, engine)
