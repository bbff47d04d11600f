"""The answers of one batch.

What they show is what a read gives after everything is written. It is read from the rows, except what is in memory
anyway: an execution that the batch has changed, and what an action execution shows of its execution and its task. Many
may be started, and many delegates completed, together, and each read is a round trip to the database. Answers to
repeatable requests are stored in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from dalsegno.engine.batches.staged import StagedExecution
from dalsegno.rpc import sizes, views
from dalsegno.rpc.messages import EXECUTION_VALUES
from dalsegno.store.records import RequestRow, Resource
from dalsegno.store.rows import execution_record, task_counts
from dalsegno.store.store import Queries, Transaction
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.identity import AttemptKey

Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class ShownExecution:
    """An answer shows an execution."""

    execution_id: str
    into: execution_pb2.Execution
    """The part of the response to fill in."""


@dataclass(frozen=True, slots=True)
class ShownAction:
    """An answer shows an action execution."""

    execution_id: str
    key: AttemptKey
    into: execution_pb2.ActionExecution
    """The part of the response to fill in."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Response]):
    """An answer to a client."""

    response: Response
    """What it shows is filled in after everything is written."""
    shown: ShownExecution | ShownAction | None = None
    about: tuple[Resource, ...] = ()
    """The resources that it tells of. When one of them is deleted, a repeated request does not get this answer."""


AnyAnswer = Answer[Any]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that is kept for a repeated request."""

    body_hash: str
    answer: AnyAnswer
    write: Callable[[], bytes]
    """Encodes the response for the store."""


class BatchAnswers:
    """All answers of one batch."""

    def __init__(self) -> None:
        self._given: list[AnyAnswer] = []
        self._kept: dict[tuple[str, str], KeptAnswer] = {}

    def give(self, answer: AnyAnswer) -> None:
        """Add an answer, to fill in what it shows."""
        if answer.shown is not None:
            self._given.append(answer)

    def keep(self, namespace: str, request_id: str, kept: KeptAnswer) -> None:
        """Keep an answer for a repeated request."""
        self._kept[namespace, request_id] = kept

    def find(self, namespace: str, request_id: str) -> KeptAnswer | None:
        """Return the answer that this batch gives to a request."""
        return self._kept.get((namespace, request_id))

    def forget(self, namespace: str, request_id: str) -> None:
        """Do not keep an answer: what it tells of is deleted."""
        self._kept.pop((namespace, request_id), None)

    def shows(self, execution_id: str) -> bool:
        """Return whether an answer shows this execution or an action execution of it."""
        return any(each.shown is not None and each.shown.execution_id == execution_id for each in self._given)

    def complete(self, transaction: Transaction, at_s: float, staged: Mapping[str, StagedExecution]) -> None:
        """Fill in what the answers show, and store the answers to repeatable requests. Call this after everything is
        written. `staged`: executions of the batch, as they are written."""
        if self._given:
            self._show(transaction.queries, staged)
        for (namespace, request_id), kept in self._kept.items():
            row = RequestRow(kept.body_hash, kept.write(), kept.answer.about)
            transaction.save_request(namespace, request_id, row, at_s)

    def _show(self, queries: Queries, staged: Mapping[str, StagedExecution]) -> None:
        shown = [each.shown for each in self._given]
        ids = [each.execution_id for each in shown if isinstance(each, ShownExecution)]
        keys = [(each.execution_id, each.key) for each in shown if isinstance(each, ShownAction)]
        changed = {each: staged[each] for each in ids if each in staged and staged[each].changes}
        known = {each: _known(stepped) for each, stepped in changed.items()}
        executions = views.read_executions(queries, ids, known, discarded=True)  # an end may leave one to be removed
        stored = {each: stepped.copy.execution for each, stepped in staged.items()} if keys else {}
        attempts = views.read_action_executions(queries, keys, stored) if keys else {}
        for answer in self._given:
            match answer.shown:
                case ShownExecution(execution_id, into):
                    beside_bytes = answer.response.ByteSize()
                    into.CopyFrom(executions[execution_id])
                    sizes.fitted(into, EXECUTION_VALUES, beside_bytes=beside_bytes)
                case ShownAction(execution_id, key, into):
                    into.CopyFrom(attempts[execution_id, key])


def _known(staged: StagedExecution) -> views.Known:
    """Return what a read gives of an execution that the batch has changed."""
    execution = staged.copy.execution
    return views.Known(execution_record(execution, staged.entries[-1].at_s), task_counts(execution), execution)
