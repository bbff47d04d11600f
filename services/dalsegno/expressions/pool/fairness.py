"""A queue that is fair to owners: they take turns, regardless of how many entries each has."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Entries by owner in order of arrival; the owners take turns. Not thread-safe."""

    __slots__ = ("_length", "_owners")

    def __init__(self) -> None:
        self._owners: OrderedDict[str, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, owner: str, thing: T) -> None:
        """Add it after all entries of this owner."""
        self._owners.setdefault(owner, deque()).append(thing)
        self._length += 1

    def put_back(self, owner: str, thing: T) -> None:
        """Make it the next entry."""
        self._owners.setdefault(owner, deque()).appendleft(thing)
        self._owners.move_to_end(owner, last=False)
        self._length += 1

    def take(self) -> T | None:
        """Return the next entry of the owner whose turn it is; None if the queue is empty."""
        if not self._owners:
            return None
        owner, things = self._owners.popitem(last=False)
        thing = things.popleft()
        self._length -= 1
        if things:
            self._owners[owner] = things
        return thing
