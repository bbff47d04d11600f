"""READY attempts that wait for an executor with credit. The order is fair over executions."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from dalsegno.workflow.identity import AttemptKey


class Requirement(NamedTuple):
    """What an executor must offer."""

    action: str
    target: str
    digest: str
    """The digest of the description from which the input was made."""
    given: tuple[str, ...] | None
    """The names of the given parameters, in order. None until an executor serves the action with another
    description."""


Entry = tuple[Requirement, str, AttemptKey]
"""A waiting attempt: its requirement, its execution, its key."""


def _any(execution_id: str) -> bool:
    return True


class Queue:
    """Attempts with one requirement. Executions take turns, each with its oldest attempt."""

    def __init__(self) -> None:
        self._executions: OrderedDict[str, deque[AttemptKey]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._executions)

    def add(self, execution_id: str, key: AttemptKey) -> None:
        """Add an attempt at the end."""
        waiting = self._executions.get(execution_id)
        if waiting is None:
            self._executions[execution_id] = deque((key,))
        else:
            waiting.append(key)

    def put_back(self, execution_id: str, key: AttemptKey) -> None:
        """Add an attempt at the beginning."""
        waiting = self._executions.get(execution_id)
        if waiting is None:
            self._executions[execution_id] = deque((key,))
        else:
            waiting.appendleft(key)
        self._executions.move_to_end(execution_id, last=False)

    def drop(self, names: Collection[tuple[str, AttemptKey]]) -> None:
        """Remove these attempts, where they wait here."""
        for execution_id in {execution_id for execution_id, _ in names} & self._executions.keys():
            left = deque(key for key in self._executions[execution_id] if (execution_id, key) not in names)
            if left:
                self._executions[execution_id] = left
            else:
                del self._executions[execution_id]

    def take(self, may_take: Callable[[str], bool]) -> tuple[str, AttemptKey] | None:
        """Take the next attempt of an execution that `may_take` accepts. None: there is none. Then other executions
        have their turns."""
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
    """All waiting attempts, each once."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Requirement, Queue] = OrderedDict()
        self._known: set[tuple[str, AttemptKey]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def kinds(self) -> list[Requirement]:
        """Return the requirements of the waiting attempts."""
        return list(self._queues)

    def add(self, entry: Entry) -> bool:
        """Add an attempt. Return False when it waits already."""
        kind, execution_id, key = entry
        if (execution_id, key) in self._known:
            return False
        self._known.add((execution_id, key))
        self._queue(kind).add(execution_id, key)
        return True

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Put attempts back that were taken and not handed out: they are first again, in this order."""
        for kind, execution_id, key in reversed(list(entries)):
            if (execution_id, key) not in self._known:
                self._known.add((execution_id, key))
                self._queue(kind).put_back(execution_id, key)

    def drop(self, names: Collection[tuple[str, AttemptKey]]) -> None:
        """Remove these attempts."""
        self._known.difference_update(names)
        for kind, queue in list(self._queues.items()):
            queue.drop(names)
            if not queue:
                del self._queues[kind]

    def take(
        self, counts: Mapping[Requirement, int], count: int, may_take: Callable[[str], bool] = _any
    ) -> list[Entry]:
        """Take up to `count` attempts, and for each requirement up to its number in `counts`.

        Requirements take turns, and for each the executions that `may_take` accepts.
        """
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
                self._queues.move_to_end(kind)  # its next turn comes after all others, in the next batch too
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
