"""Ends attempts whose reports are refused: their executors report no more on them, so they fail."""

from __future__ import annotations

from collections.abc import Callable

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import DeliverEvent
from dalsegno.workflow.events import TaskDone, TaskOutcome, Verdict
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import COMPLETED_ATTEMPT


class FailRefused(DeliverEvent):
    """Fails the attempt with the reason if the session still has this delivery of it. Otherwise changes nothing."""

    __slots__ = ("_delivery", "_error", "_key", "_session_id")

    def __init__(
        self,
        about: tuple[str, AttemptKey],
        delivery: int,
        session_id: str,
        error: str,
        reply: Callable[[DeliverEvent, BaseException | None], None],
    ) -> None:
        """`delivery`: the number in the report; less than 1: any delivery that the session has."""
        super().__init__(about[0], None, reply)
        self._key = about[1]
        self._delivery = delivery
        self._session_id = session_id
        self._error = error

    @property
    def name(self) -> str:
        return type(self).__name__

    def carry_out(self, batch: Batch) -> None:
        self.verdict = Verdict.REFUSED
        if not batch.exists(self.execution_id) or batch.is_given_up(self.execution_id):
            return
        attempt = batch.open(self.execution_id).copy.execution.attempts.get(self._key)
        if attempt is None or attempt.state in COMPLETED_ATTEMPT or attempt.delegated:
            return
        is_named = self._delivery < 1 or self._delivery == attempt.delivery
        if is_named and attempt.session_id == self._session_id:
            failed = TaskDone(key=self._key, outcome=TaskOutcome.FAILED, delivery=attempt.delivery, error=self._error)
            batch.step(self.execution_id, failed)
