"""The steps of every client request: from the request to a plan, and from the plan to the answer.

An operation checks a request and makes a plan, which names the executions to claim. Then it carries out the plan.
batches/answers.py adds the executions to the answer, so that they equal those of a read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from dalsegno.engine.batches.answers import Answer, Response
from dalsegno.engine.batches.batch import Batch
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc.convert import COMMENT_LENGTH, Fields
from dalsegno.store.records import Resource
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.workflow.execution import Execution

LIST_MAX = 1_000
"""The maximum number of entries in a list of a dry run."""


class AnyRequest(Protocol):
    """A request message."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:
        """Encode the message."""
        ...


class Repeatable(AnyRequest, Protocol):
    """A request that a client can repeat: with the same request id it gets its first answer."""

    request_id: str
    comment: str


class InNamespace(Repeatable, Protocol):
    """A request for one namespace."""

    namespace: str


Request = TypeVar("Request", bound=AnyRequest)
NamespaceRequest = TypeVar("NamespaceRequest", bound=InNamespace)
Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class Call(Generic[Request]):
    """One request of one client."""

    request: Request
    actor: str


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """What distinguishes one request from all others."""

    request_id: str
    namespaces: Sequence[str]
    """The first is where the request id is unique; in the others the request may have been answered before."""


class Operation(ABC, Generic[Request, Plan, Response]):
    """How one kind of request is carried out. All methods but `prepare` run in the conductor's thread."""

    async def prepare(self, request: Request, pool: Pool) -> Operation[Request, Plan, Response]:
        """Do the slow part that needs no store, in processes of the pool, before all other steps.

        Return the operation that carries out this request. Raises Refusal.
        """
        return self

    @abstractmethod
    def check(self, call: Call[Request], batch: Batch) -> Plan:
        """Make the plan. Only read the store. Raises Refusal with everything that is wrong."""

    @abstractmethod
    def claims(self, call: Call[Request], plan: Plan) -> Collection[str]:
        """Return the ids of the executions that the plan changes or reads."""

    @abstractmethod
    def identity(self, call: Call[Request], plan: Plan, batch: Batch) -> RequestIdentity | None:
        """Return by what a repeated request is recognized. None: this request cannot be repeated."""

    @abstractmethod
    def carry_out(self, call: Call[Request], plan: Plan, batch: Batch) -> Answer[Response]:
        """Carry out the plan. Raises Refusal, and then has changed nothing."""

    def execution_id(self, request: Request) -> str:
        """Return the id of the execution that the request is about; empty for none."""
        return ""

    def turn(self, request: Request) -> str:
        """Return with which other requests it shares its turns: those about the same execution."""
        return self.execution_id(request)

    def must_wait(self, plan: Plan, batch: Batch) -> bool:
        """Return whether the decisions of the batch must be stored first. If so, a later batch carries out the plan."""
        return False


class NamespaceOperation(Operation[NamespaceRequest, Plan, Response]):
    """An operation in one namespace."""

    def identity(self, call: Call[NamespaceRequest], plan: Plan, batch: Batch) -> RequestIdentity | None:
        request = call.request
        return RequestIdentity(request.request_id, (request.namespace,)) if request.request_id else None


@dataclass(frozen=True, slots=True)
class Write(Generic[Request, Plan, Response]):
    """One kind of write that EngineService.Submit takes."""

    name: str
    """Its name in the oneofs of SubmitRequest and SubmitResponse."""
    operation: Operation[Request, Plan, Response]
    request_of: Callable[[wire.SubmitRequest], Request]
    """The field of its request."""
    response_of: Callable[[wire.SubmitResponse], Response]
    """The field of its response."""


AnyWrite = Write[Any, Any, Any]


def check_repeatable(request: Repeatable) -> Fields:
    """Check the fields that every repeatable request has. The caller adds to these checks."""
    fields = Fields()
    fields.text("request_id", request.request_id)
    fields.text("comment", request.comment, COMMENT_LENGTH)
    return fields


def check_in_namespace(request: InNamespace) -> Fields:
    """Check the fields that every request for a namespace has. The caller adds to these checks."""
    fields = check_repeatable(request)
    fields.text("namespace", request.namespace)
    return fields


def resource_of(execution: Execution) -> Resource:
    """Return an execution as a resource that can be deleted."""
    return Resource("execution", execution.id, execution.created.namespace, repr(execution.created.at_s))


def namespaces_of(execution_id: str, batch: Batch) -> Sequence[str]:
    """Return the namespaces of a claimed execution and of deleted ones with its id. If there are none, return the
    default namespace."""
    found = [each.resource.namespace for each in batch.transaction.deletions("execution", execution_id)]
    if batch.exists(execution_id):
        found.append(batch.open(execution_id).copy.execution.created.namespace)
    return tuple(dict.fromkeys(reversed(found))) or ("",)
