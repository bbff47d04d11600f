"""The form of every request of people: what is asked, the plan that is made of it, and what is answered.

An operation checks a request and makes its plan, which also says which executions are claimed; then it carries out the
plan. What the answer shows of executions is left to answers.py, so that it is what a read gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from dalsegno.engine.answers import Answer, Response
from dalsegno.engine.batch import Batch
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc.convert import COMMENT_LENGTH, Fields
from dalsegno.store.records import Thing
from dalsegno.workflow.execution import Execution

Request = TypeVar("Request", bound=Message)
Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Request]):
    """One request of one person. Nobody changes it."""

    request: Request
    actor: str
    prepared: Any = None
    """What `prepare` made of the request."""


class Operation(ABC, Generic[Request, Plan, Response]):
    """How one kind of request is carried out. Its methods but `prepare` run in the conductor's thread."""

    @abstractmethod
    def check(self, asked: Asked[Request], batch: Batch) -> Plan:
        """What is to be done. Reads the store at most. Raises Refusal with all that is wrong."""

    @abstractmethod
    def claims(self, asked: Asked[Request], plan: Plan) -> Collection[str]:
        """The executions that the plan is about."""

    @abstractmethod
    def carry_out(self, asked: Asked[Request], plan: Plan, batch: Batch) -> Answer[Response]:
        """Do it. Raises Refusal, having changed nothing."""

    def namespaces(self, asked: Asked[Request], plan: Plan, batch: Batch) -> Sequence[str]:
        """Where the request id is unique: the first; and others in which the request may have been answered before."""
        return (str(asked.request.namespace),)  # type: ignore[attr-defined]

    def must_wait(self, plan: Plan, batch: Batch) -> bool:
        """Whether what the batch has decided must be stored first: then a later batch does it."""
        return False

    async def prepare(self, request: Request, pool: Pool) -> object:
        """What takes long and needs no store: done in processes of the pool, before anything else. Raises Refusal."""
        return None


AnyOperation = Operation[Any, Any, Any]


def check_shared_fields(request: Any) -> Fields:
    """The checks of a request, begun with the fields that every one has."""
    fields = Fields()
    fields.text("request_id", request.request_id)
    fields.text("comment", request.comment, COMMENT_LENGTH)
    fields.text("namespace", getattr(request, "namespace", ""))
    fields.number("expected_revision", getattr(request, "expected_revision", 0))
    return fields


def thing_of(execution: Execution) -> Thing:
    """An execution as what may be deleted."""
    return Thing("execution", execution.id, execution.created.namespace, repr(execution.created.at_s))


def namespaces_of(execution_id: str, batch: Batch) -> Sequence[str]:
    """That of a claimed execution, then those of deleted ones that had its id; none: the default namespace."""
    found = [each.thing.namespace for each in batch.transaction.deletions("execution", execution_id)]
    if batch.exists(execution_id):
        found.append(batch.open(execution_id).copy.execution.created.namespace)
    return tuple(dict.fromkeys(reversed(found))) or ("",)
