"""A queue that is fair over owners: each of them has its turn, however many things the others have in it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Things by owner, in the order in which they came; one of each owner in turn. Not for several threads at once."""

    __slots__ = ("_length", "_owners")

    def __init__(self) -> None:
        self._owners: OrderedDict[str, deque[T]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, owner: str, thing: T) -> None:
        """Add it behind all that this owner has here."""
        self._owners.setdefault(owner, deque()).append(thing)
        self._length += 1

    def put_back(self, owner: str, thing: T) -> None:
        """Make it the next that is taken."""
        self._owners.setdefault(owner, deque()).appendleft(thing)
        self._owners.move_to_end(owner, last=False)
        self._length += 1

    def take(self) -> T | None:
        """The next thing of the owner whose turn it is; None when there is nothing."""
        if not self._owners:
            return None
        owner, things = self._owners.popitem(last=False)
        thing = things.popleft()
        self._length -= 1
        if things:
            self._owners[owner] = things
        return thing
