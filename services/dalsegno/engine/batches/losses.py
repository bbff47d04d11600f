"""What becomes of a batch when the store does not answer any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dalsegno.engine.batches.results import Committed, Result
from dalsegno.engine.batches.work import Work
from dalsegno.store.outages import is_outage
from dalsegno.store.store import Store
from dalsegno.workflow.scope import Unanswered


class StoreLost(Exception):
    """The store does not answer. No work is the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.results: list[Result] = []
        """What the parts of a divided batch came to that were over by then."""


def check_answers(store: Store, error: Exception) -> None:
    """Raise StoreLost if a transaction has failed because the store does not answer."""
    if is_outage(error) or not store.is_available():
        raise StoreLost(str(error)) from error


@contextmanager
def raise_causes() -> Iterator[None]:
    """Raise the error of the store because of which an expression had no answer."""
    try:
        yield
    except Unanswered as unanswered:
        raise unanswered.cause from None


@contextmanager
def keep_results(results: Sequence[Result]) -> Iterator[None]:
    """Keep the results of earlier parts of a batch if the store is lost in a later one: they are stored."""
    try:
        yield
    except StoreLost as lost:
        lost.results[:0] = results
        raise


def remaining(works: Sequence[Work], results: Sequence[Result]) -> list[Work]:
    """Return the works that no result tells of."""
    known: set[Work] = set()
    for result in results:
        if isinstance(result, Committed):
            known.update(result.works, result.left, result.left_slices)
        else:
            known.add(result.work)
    return [work for work in works if work not in known]
