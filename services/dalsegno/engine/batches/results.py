"""What comes of a batch: what the event loop has to do after its commit, and why works could not be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dalsegno.engine.batches.batch import Cancel
from dalsegno.engine.batches.handing_out import Outgoing
from dalsegno.engine.batches.work import Work
from dalsegno.engine.feed import Hint
from dalsegno.store.records import NewMessage, Progress
from dalsegno.workflow.identity import AttemptKey


@dataclass(slots=True)
class Committed:
    """What a batch leaves for the event loop to do."""

    works: Sequence[Work]
    left: Sequence[Work] = ()
    """What it has not come to: first in the next batch."""
    left_slices: Sequence[Work] = ()
    deferred: Sequence[Work] = ()
    """What waits for values."""
    messages: list[NewMessage] = field(default_factory=list)
    outgoing: Outgoing = field(default_factory=dict)
    cancels: list[Cancel] = field(default_factory=list)
    hints: dict[str, Hint] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Executions that could not be stepped, and why: they are to be ended."""
    progress: dict[tuple[str, AttemptKey], Progress] = field(default_factory=dict)
    """How far attempts have come, as was said."""
    notices: list[NewMessage] = field(default_factory=list)
    """To be posted now."""


@dataclass(slots=True)
class Failed:
    """A work that cannot be done, and why."""

    work: Work
    error: BaseException


@dataclass(slots=True)
class Deferred:
    """A work that is put aside until the values are there that it has asked for, or for so long."""

    work: Work
    wait_s: float = 0.0


Result = Committed | Failed | Deferred


@dataclass(slots=True)
class Remainder:
    """The works that a batch has not done."""

    left: list[Work] = field(default_factory=list)
    """First in the next batch."""
    left_slices: list[Work] = field(default_factory=list)
    """Slices of items: one in each later batch."""
    deferred: list[Work] = field(default_factory=list)
    """Works that wait for values."""

    def __iter__(self) -> Iterator[Work]:
        """Iterate over all of them."""
        return chain(self.left, self.left_slices, self.deferred)


class DeferredPartway(Exception):
    """A work waits for values and has done something by then; the batch is done again without it."""

    def __init__(self, work: Work) -> None:
        super().__init__(work.name)
        self.work = work


class StoreLost(Exception):
    """The store does not answer: nothing is the fault of any work."""
