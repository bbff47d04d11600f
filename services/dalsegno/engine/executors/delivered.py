"""Delivers what executors report, unless the action was handed to an executor of another caller."""

from __future__ import annotations

from collections.abc import Callable

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import DeliverEvent
from dalsegno.engine.executors.sessions import is_of_another
from dalsegno.workflow.events import TaskDone
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import PermissionDenied

FOREIGN = "this delivery was handed to an executor of another caller"


class DeliverReport(DeliverEvent):
    """Delivers an outcome. A session of another caller that has the attempt keeps it, also after its lease has ended:
    the outcome is refused."""

    __slots__ = ("_delivery", "_key", "_principal", "_session_id")

    def __init__(
        self,
        execution_id: str,
        event: TaskDone,
        session_id: str,
        principal: str,
        reply: Callable[[DeliverEvent, BaseException | None], None],
    ) -> None:
        """`session_id`, `principal`: of the executor that reports."""
        super().__init__(execution_id, event, reply)
        self._key = event.key
        self._delivery = event.delivery
        self._session_id = session_id
        self._principal = principal

    def carry_out(self, batch: Batch) -> None:
        if self._principal and batch.exists(self.execution_id) and not batch.is_given_up(self.execution_id):
            attempt = batch.open(self.execution_id).copy.execution.attempts.get(self._key)
            if attempt is not None and self._is_for_another(attempt):
                holder = batch.transaction.session(attempt.session_id)
                if holder is not None and is_of_another(holder, self._principal):
                    raise PermissionDenied(FOREIGN)
        super().carry_out(batch)

    def _is_for_another(self, attempt: Attempt) -> bool:
        """Return whether another session has this delivery. (An outcome of an older one is superseded anyway.)"""
        return attempt.session_id not in ("", self._session_id) and attempt.delivery == self._delivery
