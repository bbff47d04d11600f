"""Deferred evaluation: works that wait for values are carried out again when all values exist.

Other events of the same execution are stepped meanwhile. If they change the inputs of the values three times, they wait
until the work is done, so that every work finishes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import MappingProxyType

from dalsegno.engine.batches.evaluations import STALE_MAX, Evaluations
from dalsegno.engine.batches.work import Work
from dalsegno.expressions.pool.jobs import Evaluation, SchemaCheck
from dalsegno.expressions.pool_client import POOL, Moment, Overrun
from dalsegno.workflow.scope import Scope, Suspended

NO_OVERRUNS: Mapping[Moment, Overrun] = MappingProxyType({})


class WorkEvaluator:
    """Evaluates in other processes for the work of the conductor's thread (expressions/pool_client.py)."""

    def __init__(self, on_ready: Callable[[Work], None]) -> None:
        """`on_ready` is called, from any thread, when all values that a work asked for exist."""
        self._on_ready = on_ready
        self._work: Work | None = None
        self.overruns: Mapping[Moment, Overrun] = NO_OVERRUNS
        """Those of the current work when it was carried out before."""

    def begin(self, work: Work) -> None:
        """Begin a work."""
        self._work = work
        if work.evaluations is not None:
            work.evaluations.begin()
            self.overruns = work.evaluations.overruns

    def end(self) -> None:
        """End the current work."""
        self._work = None
        self.overruns = NO_OVERRUNS

    def keep_overrun(self, moment: Moment, overrun: Overrun) -> None:
        """Keep an overrun for when the current work is carried out again."""
        if self._work is not None:
            self._evaluations(self._work).overruns[moment] = overrun

    def wait(self, future: Future[object]) -> None:
        """Make the current work, if there is one, wait for the future. Always raises Suspended."""
        if self._work is not None:
            self._evaluations(self._work).wait(future)
        raise Suspended

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        """Return the value if it is known. Raises EvaluationError and Suspended."""
        work = self._work
        assert work is not None, "nothing is evaluated outside of a work"
        return self._evaluations(work).value(job, scope)

    def _evaluations(self, work: Work) -> Evaluations:
        if work.evaluations is None:
            work.evaluations = Evaluations(POOL, work.execution_id or work.name, lambda: self._on_ready(work))
            work.evaluations.begin()
        return work.evaluations


class DeferredWorks:
    """The works that wait. Used on the event loop only."""

    def __init__(self, give_back: Callable[[Work], None]) -> None:
        """`give_back` takes a work to carry out before all others."""
        self._give_back = give_back
        self._waiting: set[Work] = set()
        self._first: dict[str, Work] = {}
        """By execution id: the work that all other works of the execution wait for."""
        self._held: dict[str, deque[Work]] = {}
        """By execution id: the works that wait for that work, in order."""
        self._postponed: list[Work] = []
        """The works that wait for a time, in order."""

    def __bool__(self) -> bool:
        """Return whether any work waits."""
        return bool(self._waiting or self._held or self._postponed)

    def put(self, work: Work) -> None:
        """Defer a work until all values that it asked for exist."""
        evaluations = work.evaluations
        assert evaluations is not None
        work.defer()
        if evaluations.stale_count >= STALE_MAX and work.execution_id:
            self._first.setdefault(work.execution_id, work)
        self._waiting.add(work)
        if evaluations.end():
            self.take_up(work)

    def postpone(self, work: Work, wait_s: float) -> None:
        """Defer a work for this time, or until those that already wait continue."""
        work.defer()
        if not self._postponed:
            asyncio.get_running_loop().call_later(wait_s, self._take_up_postponed)
        self._postponed.append(work)

    def _take_up_postponed(self) -> None:
        works, self._postponed = self._postponed, []
        for work in reversed(works):
            if work.is_wanted:
                self._give_back(work)
            else:
                self.drop(work)

    def take_up(self, work: Work) -> None:
        """Continue a work: all values that it asked for exist."""
        if work not in self._waiting:
            return
        self._waiting.discard(work)
        if work.is_wanted:
            self._give_back(work)
        else:
            self.drop(work)

    def holds_back(self, work: Work) -> bool:
        """Return whether the work waits for another one of its execution. If so, it is kept here."""
        first = self._first.get(work.execution_id) if self._first else None
        if first is None or first is work or work.ends_by_force:
            return False
        self._held.setdefault(work.execution_id, deque()).append(work)
        return True

    def drop(self, work: Work) -> None:
        """Drop a work that nobody wants any more."""
        if work.evaluations is not None:
            work.evaluations.withdraw()
        self.forget(work)

    def forget(self, work: Work) -> None:
        """Continue what waited for this work: it is done, or given up."""
        work.evaluations = None  # they refer to each other, so that large values would stay until the collector runs
        if not self._first or self._first.get(work.execution_id) is not work:
            return
        del self._first[work.execution_id]
        for held in reversed(self._held.pop(work.execution_id, deque())):
            self._give_back(held)
