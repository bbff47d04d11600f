"""The progress that actions report. The latest report of each is kept in memory, and written to its row once a second.

Progress is no event, no change and no journal entry. A hundred reports in a second cost one write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice

from msgspec import structs

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import Work
from dalsegno.store.records import NewProgress, Progress
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.running.masking import masks
from dalsegno.workflow.value import UnfitValue, Value, byte_length, checked

TEXT_CHARACTERS_MAX = 1_000
DETAILS_BYTES_MAX = 65_536

WRITTEN_AT_ONCE = 1_000
"""The maximum number of attempts whose progress is written at once. The others follow a second later."""

Place = tuple[str, AttemptKey]


def wrong_progress(reported: execution_pb2.ActionProgress) -> Iterator[tuple[str, str]]:
    """Yield each field of a report that violates the contract, with the reason."""
    if len(reported.text) > TEXT_CHARACTERS_MAX:
        yield "text", f"has {len(reported.text):,} characters; at most {TEXT_CHARACTERS_MAX:,} are allowed"
    if reported.HasField("fraction") and not 0 <= reported.fraction <= 1:  # false for NaN too
        yield "fraction", f"must be from 0 to 1, not {reported.fraction:g}"
    if not reported.details:
        return
    try:
        checked(reported.details, DETAILS_BYTES_MAX)
    except UnfitValue as unfit:
        size = byte_length(reported.details)
        yield "details", str(unfit) if size > DETAILS_BYTES_MAX else f"must be JSON: {unfit}"


def read_progress(reported: execution_pb2.ActionProgress, delivery: int, at_s: float) -> Progress:
    """Read a report of this delivery, received at this time."""
    fraction = reported.fraction if reported.HasField("fraction") else None
    return Progress(reported.text, fraction, reported.details, at_s, delivery)


class Board:
    """The latest progress of each attempt that is not written yet. Used on the event loop only."""

    def __init__(self) -> None:
        self._news: dict[Place, Progress] = {}

    def __len__(self) -> int:
        return len(self._news)

    def note(self, execution_id: str, key: AttemptKey, progress: Progress) -> None:
        """Keep the latest report."""
        self._news[execution_id, key] = progress

    def due(self) -> list[NewProgress]:
        """Return the reports to write now. They stay until `written`."""
        return [NewProgress(*place, progress) for place, progress in islice(self._news.items(), WRITTEN_AT_ONCE)]

    def written(self, reported: Collection[NewProgress]) -> None:
        """Remove these reports, unless newer ones have arrived since."""
        for each in reported:
            place = each.execution_id, each.key
            if self._news.get(place) is each.progress:
                del self._news[place]


def _without_secrets(batch: Batch, reported: NewProgress) -> NewProgress:
    """Return the report without the secrets that the action was given."""
    progress = reported.progress
    execution = batch.look_at(reported.execution_id) if progress.text or progress.details else None
    attempt = None if execution is None else execution.attempts.get(reported.key)
    if execution is None or attempt is None:
        return reported
    found = masks(execution, attempt, batch.lookups.ciphers.of(execution.created.namespace))
    if found is None:
        return reported
    details = found.value(Value(text=progress.details)).text if progress.details else ""
    return replace(reported, progress=structs.replace(progress, text=found.text(progress.text), details=details))


class WriteProgress(Work):
    """Writes the progress that the board holds."""

    __slots__ = ("_board", "_reports")

    def __init__(self, board: Board) -> None:
        self._board = board
        self._reports = board.due()

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> Collection[str]:
        """Claim the executions, so that no other engine writes these rows in a different order at the same time."""
        return {each.execution_id for each in self._reports}

    def carry_out(self, batch: Batch) -> None:
        there = (each for each in self._reports if batch.exists(each.execution_id))
        batch.transaction.save_progress([_without_secrets(batch, each) for each in there])

    def done(self) -> None:
        self._board.written(self._reports)
