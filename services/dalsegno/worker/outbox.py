"""Outcomes for the engines: stored until an engine acknowledges them, and sent again when a stream breaks.

An outcome is sent on the stream of its action, or on any other open stream: it belongs to the session of the executor,
which all engines know.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dalsegno.v1.executor_service_pb2 import TaskDone

BATCH_COUNT = 500
"""The most outcomes of one message."""

BATCH_BYTES = 1024 * 1024
"""A message of this size receives no more outcomes."""

Key = tuple[str, int]
"""An action execution's id and the delivery."""


@dataclass(slots=True, eq=False)
class _Outcome:
    message: TaskDone
    size: int
    engine: str | None
    """The engine whose stream carries it; None: no stream is open."""


class Outbox:
    """Outcomes that are not acknowledged. Engines are identified by their address."""

    def __init__(self) -> None:
        self._outcomes: dict[Key, _Outcome] = {}
        self._queues: dict[str, deque[_Outcome]] = {}

    def __len__(self) -> int:
        return len(self._outcomes)

    def __contains__(self, key: Key) -> bool:
        return key in self._outcomes

    def keys(self) -> list[Key]:
        """Return the deliveries whose outcomes are not acknowledged."""
        return list(self._outcomes)

    def add(self, message: TaskDone, engine: str) -> str | None:
        """Store and queue an outcome. Return the engine whose stream carries it, or None if no stream is open."""
        outcome = _Outcome(message, message.ByteSize() + 10, None)
        self._outcomes[message.action_execution_id, message.delivery] = outcome
        return self._queue(outcome, engine)

    def connect(self, engine: str) -> None:
        """Give an engine's open stream all outcomes that no other stream carries."""
        self._queues[engine] = deque()
        for outcome in self._outcomes.values():
            if outcome.engine is None:
                self._queue(outcome, engine)

    def disconnect(self, engine: str) -> list[str]:
        """Move the outcomes of an engine's ended stream to other streams. Return the engines of these."""
        if self._queues.pop(engine, None) is None:
            return []
        moved = {self._queue(outcome, engine) for outcome in self._outcomes.values() if outcome.engine == engine}
        return [each for each in moved if each is not None]

    def take(self, engine: str) -> list[TaskDone]:
        """Return the next batch for the engine's stream; empty when there is nothing to send."""
        queue = self._queues.get(engine)
        batch: list[TaskDone] = []
        size = 0
        while queue and len(batch) < BATCH_COUNT and size < BATCH_BYTES:
            outcome = queue.popleft()
            if not batch or size + outcome.size <= 3 * BATCH_BYTES:  # batches stay below 4 MiB
                batch.append(outcome.message)
                size += outcome.size
            else:
                queue.appendleft(outcome)
                break
        return batch

    def repeat(self, key: Key, engine: str) -> None:
        """Send an outcome again that the engine has not received."""
        self._queue(self._outcomes[key], engine)

    def forget(self, key: Key) -> bool:
        """Remove an outcome that is acknowledged or not accepted. Return False if there is none."""
        return self._outcomes.pop(key, None) is not None

    def carried_by(self, engine: str) -> int:
        """Return the number of outcomes that wait for this engine's acknowledgement."""
        return sum(1 for outcome in self._outcomes.values() if outcome.engine == engine)

    def _queue(self, outcome: _Outcome, engine: str) -> str | None:
        target = engine if engine in self._queues else next(iter(self._queues), None)
        outcome.engine = target
        if target is not None:
            self._queues[target].append(outcome)
        return target
