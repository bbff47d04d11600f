"""Outcomes on their way to the engines: kept until one acknowledges them, and sent again when a stream breaks.

An outcome goes by the stream that its action came by, or by any other that is open: what an executor has belongs to
its session, which all engines know.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dalsegno.v1.executor_service_pb2 import TaskDone

BATCH_COUNT = 500
"""The most outcomes of one message."""

BATCH_BYTES = 1024 * 1024
"""A message gathers no more once it has this many bytes."""

Key = tuple[str, int]
"""An action execution's id and the delivery."""


@dataclass(slots=True, eq=False)
class _Outcome:
    message: TaskDone
    size: int
    engine: str | None
    """The engine whose stream carries it; None: no stream is open."""


class Outbox:
    """Outcomes not yet acknowledged. Engines are known by their address."""

    def __init__(self) -> None:
        self._outcomes: dict[Key, _Outcome] = {}
        self._queues: dict[str, deque[_Outcome]] = {}

    def __len__(self) -> int:
        return len(self._outcomes)

    def __contains__(self, key: Key) -> bool:
        return key in self._outcomes

    def keys(self) -> list[Key]:
        """The deliveries whose outcomes are not acknowledged."""
        return list(self._outcomes)

    def add(self, message: TaskDone, engine: str) -> str | None:
        """Keep and queue an outcome. Returns the engine whose stream carries it, None when none is open."""
        outcome = _Outcome(message, message.ByteSize() + 10, None)
        self._outcomes[message.action_execution_id, message.delivery] = outcome
        return self._queue(outcome, engine)

    def connect(self, engine: str) -> None:
        """The engine's stream is open: it carries whatever no other stream carries."""
        self._queues[engine] = deque()
        for outcome in self._outcomes.values():
            if outcome.engine is None:
                self._queue(outcome, engine)

    def disconnect(self, engine: str) -> list[str]:
        """The engine's stream has ended: what it carried goes by others. Returns the engines that have it now."""
        if self._queues.pop(engine, None) is None:
            return []
        moved = {self._queue(outcome, engine) for outcome in self._outcomes.values() if outcome.engine == engine}
        return [each for each in moved if each is not None]

    def take(self, engine: str) -> list[TaskDone]:
        """The next batch for the engine's stream; empty when there is nothing to send."""
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
        """The engine has not heard this outcome: send it once more."""
        self._queue(self._outcomes[key], engine)

    def forget(self, key: Key) -> bool:
        """The outcome is acknowledged or does not count. False when there is none."""
        return self._outcomes.pop(key, None) is not None

    def carried_by(self, engine: str) -> int:
        """How many outcomes wait for this engine's acknowledgement."""
        return sum(1 for outcome in self._outcomes.values() if outcome.engine == engine)

    def _queue(self, outcome: _Outcome, engine: str) -> str | None:
        target = engine if engine in self._queues else next(iter(self._queues), None)
        outcome.engine = target
        if target is not None:
            self._queues[target].append(outcome)
        return target
