"""The steps of every client request: the request, the plan made from it, and the answer.

An operation checks a request and makes its plan, which names the executions to claim; then it carries out the plan.
answers.py makes the executions of the answer, so that they equal those of a read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from dalsegno.engine.batches.answers import Answer, Response
from dalsegno.engine.batches.batch import Batch
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc.convert import COMMENT_LENGTH, Fields
from dalsegno.store.records import Thing
from dalsegno.workflow.execution import Execution

Request = TypeVar("Request", bound=Message)
Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class Call(Generic[Request]):
    """One request of one client. It does not change."""

    request: Request
    actor: str
    prepared: Any = None
    """What `prepare` made of the request."""


class Operation(ABC, Generic[Request, Plan, Response]):
    """How one kind of request is carried out. Its methods but `prepare` run in the conductor's thread."""

    @abstractmethod
    def check(self, call: Call[Request], batch: Batch) -> Plan:
        """Make the plan. Only reads the store. Raises Refusal with all that is wrong."""

    @abstractmethod
    def claims(self, call: Call[Request], plan: Plan) -> Collection[str]:
        """The executions that the plan changes or reads."""

    @abstractmethod
    def carry_out(self, call: Call[Request], plan: Plan, batch: Batch) -> Answer[Response]:
        """Carry out the plan. Raises Refusal, having changed nothing."""

    def namespaces(self, call: Call[Request], plan: Plan, batch: Batch) -> Sequence[str]:
        """Where the request id is unique: the first; and others in which the request may have been answered before."""
        return (str(call.request.namespace),)  # type: ignore[attr-defined]

    def must_wait(self, plan: Plan, batch: Batch) -> bool:
        """Whether what the batch has decided must be stored first: then a later batch does it."""
        return False

    async def prepare(self, request: Request, pool: Pool) -> object:
        """Do the slow part that needs no store, in processes of the pool, before anything else. Raises Refusal."""
        return None


AnyOperation = Operation[Any, Any, Any]


def check_shared_fields(request: Any) -> Fields:
    """Check the fields that every request has; the caller adds to these checks."""
    fields = Fields()
    fields.text("request_id", request.request_id)
    fields.text("comment", request.comment, COMMENT_LENGTH)
    fields.text("namespace", getattr(request, "namespace", ""))
    fields.number("expected_revision", getattr(request, "expected_revision", 0))
    return fields


def thing_of(execution: Execution) -> Thing:
    """An execution as a resource that can be deleted."""
    return Thing("execution", execution.id, execution.created.namespace, repr(execution.created.at_s))


def namespaces_of(execution_id: str, batch: Batch) -> Sequence[str]:
    """The namespaces of a claimed execution and of deleted ones with its id; without any, the default namespace."""
    found = [each.thing.namespace for each in batch.transaction.deletions("execution", execution_id)]
    if batch.exists(execution_id):
        found.append(batch.open(execution_id).copy.execution.created.namespace)
    return tuple(dict.fromkeys(reversed(found))) or ("",)
