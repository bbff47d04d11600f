"""The results of a batch: what the event loop does after the commit, and why works could not be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dalsegno.engine.batches.handing_out import Outgoing
from dalsegno.engine.batches.outbox import Cancel
from dalsegno.engine.batches.work import Work
from dalsegno.engine.feed import Hint
from dalsegno.store.records import NewMessage, Progress
from dalsegno.workflow.identity import AttemptKey


@dataclass(slots=True)
class Committed:
    """A batch that is stored, and what the event loop does next."""

    works: Sequence[Work]
    left: Sequence[Work] = ()
    """The works that it has not begun. They are first in the next batch."""
    left_slices: Sequence[Work] = ()
    deferred: Sequence[Work] = ()
    """The works that wait for values."""
    is_slow: bool = False
    """Whether a slow work is the reason for which works are left."""
    messages: list[NewMessage] = field(default_factory=list)
    outgoing: Outgoing = field(default_factory=dict)
    cancels: list[Cancel] = field(default_factory=list)
    hints: dict[str, Hint] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """The executions that could not be stepped, with the reason. They will be ended."""
    progress: dict[tuple[str, AttemptKey], Progress] = field(default_factory=dict)
    """The progress that attempts reported."""
    notices: list[NewMessage] = field(default_factory=list)
    """The notices to post now."""


@dataclass(slots=True)
class Failed:
    """A work that cannot be done, with the reason."""

    work: Work
    error: BaseException


@dataclass(slots=True)
class Deferred:
    """A work that waits until the values exist that it asked for, or for a time."""

    work: Work
    wait_s: float = 0.0


Result = Committed | Failed | Deferred


@dataclass(slots=True)
class Remainder:
    """The works that a batch has not done."""

    left: list[Work] = field(default_factory=list)
    """First in the next batch."""
    left_slices: list[Work] = field(default_factory=list)
    """Slices of items. Each later batch begins one."""
    deferred: list[Work] = field(default_factory=list)
    """Works that wait for values."""
    is_slow: bool = False
    """Whether a work was slow."""

    def __iter__(self) -> Iterator[Work]:
        """Iterate over all of them."""
        return chain(self.left, self.left_slices, self.deferred)


class DeferredPartway(Exception):
    """A work waits for values, but has done something before. The batch is repeated without it."""

    def __init__(self, work: Work) -> None:
        super().__init__(work.name)
        self.work = work
