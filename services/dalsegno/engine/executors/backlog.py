"""READY attempts that wait for an executor with credit, and the order in which they get one: fair over executions."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from dalsegno.workflow.identity import AttemptKey


class Requirement(NamedTuple):
    """What an executor must offer."""

    action: str
    target: str
    digest: str
    """Of the description that the input was made by."""
    given: tuple[str, ...] | None
    """The parameters that are given, in order. None until an executor serves the action by another description."""


Entry = tuple[Requirement, str, AttemptKey]
"""A waiting attempt: its kind, its execution, its key."""


def _any(execution_id: str) -> bool:
    return True


class Queue:
    """Attempts of one kind: executions take turns, each with its oldest attempt."""

    def __init__(self) -> None:
        self._executions: OrderedDict[str, deque[AttemptKey]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._executions)

    def add(self, execution_id: str, key: AttemptKey) -> None:
        """Behind what waits."""
        waiting = self._executions.get(execution_id)
        if waiting is None:
            self._executions[execution_id] = deque((key,))
        else:
            waiting.append(key)

    def put_back(self, execution_id: str, key: AttemptKey) -> None:
        """Before what waits."""
        waiting = self._executions.get(execution_id)
        if waiting is None:
            self._executions[execution_id] = deque((key,))
        else:
            waiting.appendleft(key)
        self._executions.move_to_end(execution_id, last=False)

    def take(self, may_take: Callable[[str], bool]) -> tuple[str, AttemptKey] | None:
        """The next one of these executions, None when there is none; its execution's next turn comes after others'."""
        for execution_id, waiting in self._executions.items():  # noqa: B007 -- the first that may be taken
            if may_take(execution_id):
                break
        else:
            return None
        key = waiting.popleft()
        if waiting:
            self._executions.move_to_end(execution_id)
        else:
            del self._executions[execution_id]
        return execution_id, key


class Backlog:
    """All that wait, each once."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Requirement, Queue] = OrderedDict()
        self._known: set[tuple[str, AttemptKey]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def kinds(self) -> list[Requirement]:
        """The kinds of which there are any."""
        return list(self._queues)

    def add(self, entry: Entry) -> bool:
        """Let an attempt wait. False when it waits already."""
        kind, execution_id, key = entry
        if (execution_id, key) in self._known:
            return False
        self._known.add((execution_id, key))
        self._queue(kind).add(execution_id, key)
        return True

    def put_back(self, entries: Iterable[Entry]) -> None:
        """What was taken was not handed out after all: it comes first again, in this order."""
        for kind, execution_id, key in reversed(list(entries)):
            if (execution_id, key) not in self._known:
                self._known.add((execution_id, key))
                self._queue(kind).put_back(execution_id, key)

    def take(
        self, counts: Mapping[Requirement, int], count: int, may_take: Callable[[str], bool] = _any
    ) -> list[Entry]:
        """Up to so many, and of each kind up to as many as `counts` says: kinds in turn, and within each the executions
        that may be taken from."""
        taken: list[Entry] = []
        left = {kind: counts[kind] for kind in self._queues if counts.get(kind, 0) > 0}
        while left and len(taken) < count:
            for kind in list(left)[: count - len(taken)]:
                queue = self._queues[kind]
                found = queue.take(may_take)
                if found is None:
                    del left[kind]
                    continue
                execution_id, key = found
                self._known.discard((execution_id, key))
                taken.append((kind, execution_id, key))
                left[kind] -= 1
                self._queues.move_to_end(kind)  # its next turn comes after all others', in the next batch too
                if not queue:
                    del self._queues[kind]
                if not queue or not left[kind]:
                    del left[kind]
        return taken

    def _queue(self, kind: Requirement) -> Queue:
        queue = self._queues.get(kind)
        if queue is None:
            queue = self._queues[kind] = Queue()
        return queue
