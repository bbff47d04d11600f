"""The port by which a batch hands out READY actions: what the conductor needs of the dispatcher.

executors/dispatcher.py implements it. Batches know no executors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.care import Part
from dalsegno.engine.batches.work import Work
from dalsegno.v1 import executor_service_pb2 as wire


class Receiver(Protocol):
    """A stream to an executor, to which actions are sent after the commit."""

    session_id: str
    executor_id: str
    is_open: bool
    """Whether it can still be written to."""

    def run(self, actions: list[wire.RunAction]) -> None:
        """Send these actions."""
        ...

    def __hash__(self) -> int: ...


Outgoing = Mapping[Receiver, list[wire.RunAction]]
"""What a batch hands out, by stream."""


class HandOut(Protocol):
    """Gives READY actions to executors with credit. Runs in the conductor's thread, but for the two properties."""

    @property
    def waiting_count(self) -> int:
        """Return how many attempts wait for credit."""
        ...

    @property
    def has_news(self) -> bool:
        """Return whether waiting attempts may be handed out now."""
        ...

    def begin(self) -> bool:
        """Apply what the event loop has called. Return whether anything that waits can now be handed out."""
        ...

    def pick(self, part: Part) -> set[str]:
        """Choose what there is credit for. Return the executions to be claimed for it."""
        ...

    def hand_out(self, batch: Batch, load_max_s: float) -> None:
        """Give what was picked, and what the batch made READY, to streams with credit. When loading executions for it
        has taken so long, the rest waits for the next batch."""
        ...

    def commit(self, batch: Batch) -> Outgoing:
        """Note that the batch is stored. Return what is to be sent."""
        ...

    def roll_back(self) -> None:
        """Undo what the batch did: it has failed."""
        ...

    def take_back(self) -> list[Work]:
        """Return the works that withdraw what the batch hands out, should a commit that failed have happened."""
        ...
