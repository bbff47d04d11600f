"""Requests of people, as works: repeated ones get their first answer, dry ones change nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from dalsegno.engine.batch import Batch
from dalsegno.engine.tokens import Tokens
from dalsegno.engine.work import Work
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc.convert import COMMENT_LENGTH, Fields
from dalsegno.store.records import Deletion, RequestRow, Thing
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1.execution_service_pb2 import CancelExecutionRequest
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.refusals import AlreadyExists, Deleted, RequestIdReused

KEPT_S = 24 * 3600.0
"""How long a request and its answer are remembered."""


@dataclass(slots=True)
class Asked:
    """One request of one person, and what is needed to carry it out."""

    request: Any
    actor: str
    tokens: Tokens
    prepared: Any = None
    """What was made of the request before it came before the conductor."""
    memo: dict[str, Any] = field(default_factory=dict)
    """What `needs` found for `carry_out`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of request is carried out."""

    needs: Callable[[Asked, Batch], Collection[str]]
    """The executions it is about. Raises Refusal."""
    carry_out: Callable[[Asked, Batch], Message]
    """Does it and gives the answer. Raises Refusal, having changed nothing."""
    about: Callable[[Any, Batch], Collection[Thing]]
    """What the answer tells of: when that has been deleted, a repeated request is not answered as if it were there."""
    namespaces: Callable[[Asked, Batch], Sequence[str]] = lambda asked, batch: (str(asked.request.namespace),)
    """Where its request id is unique: the first, and others in which the same request may have been answered before."""
    prepare: Callable[[Any, Pool], Awaitable[object]] | None = None
    """What takes long and needs no store: done with the request, in processes of the pool, before anything else."""


class Request(Work):
    """One request, answered through a future."""

    __slots__ = ("_answer", "_asked", "_future", "_kind", "_name", "_on_later")

    def __init__(
        self,
        name: str,
        kind: Kind,
        asked: Asked,
        future: asyncio.Future[wire.SubmitResponse],
        on_later: Callable[[], tuple[str, asyncio.Future[wire.SubmitResponse]]] | None = None,
    ) -> None:
        """`on_later` gives a name and another future for an answer that takes longer; None: the caller waits for it."""
        self.execution_id = getattr(asked.request, "execution_id", "")
        self._on_later = on_later
        self._name = name
        self._kind = kind
        self._asked = asked
        self._future = future
        self._answer: Message | None = None

    @property
    def is_request(self) -> bool:
        return True

    @property
    def ends_by_force(self) -> bool:
        return isinstance(self._asked.request, CancelExecutionRequest) and self._asked.request.HasField("terminate")

    @property
    def is_wanted(self) -> bool:
        return not self._future.done()

    @property
    def name(self) -> str:
        return self._name

    def put_aside(self) -> None:
        """Let go whoever waits for this answer together with others."""
        if self._on_later is not None and not self._future.done():
            future = self._future
            later, self._future = self._on_later()
            self._on_later = None
            future.set_result(wire.SubmitResponse(later=later))

    def needs(self, batch: Batch) -> Collection[str]:
        self._asked.memo.clear()
        return self._kind.needs(self._asked, batch)

    def carry_out(self, batch: Batch) -> None:
        request = self._asked.request
        request_id = request.request_id
        if not request_id or getattr(request, "dry_run", False):
            self._answer = self._kind.carry_out(self._asked, batch)
            return
        namespaces = self._kind.namespaces(self._asked, batch)
        body = body_hash(self._name, request)
        found = find_answered(batch, namespaces, request_id, body)
        if found is not None:
            check_still_there(batch, found)
            answer = wire.SubmitResponse.FromString(found.answer)
            self._answer = getattr(answer, self._name)
            return
        self._answer = self._kind.carry_out(self._asked, batch)
        about = tuple(self._kind.about(self._answer, batch))
        row = RequestRow(body, self._response().SerializeToString(), about)
        batch.transaction.save_request(namespaces[0], request_id, row, batch.at_s)

    def done(self) -> None:
        if self._future.done():
            return
        if self.refusal is not None:
            self._future.set_exception(self.refusal)
        else:
            self._future.set_result(self._response())

    def failed(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def _response(self) -> wire.SubmitResponse:
        fields: dict[str, Any] = {self._name: self._answer}
        return wire.SubmitResponse(**fields)


class PruneRequests(Work):
    """Forget requests and what was deleted after a day, and sessions that ended long ago."""

    __slots__ = ()

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> Collection[str]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        batch.transaction.prune_requests(batch.at_s - KEPT_S)
        batch.transaction.prune_sessions(batch.at_s - KEPT_S)


def body_hash(name: str, request: Message) -> str:
    """Tells two requests apart by what they ask."""
    return hashlib.blake2b(
        name.encode() + b"\0" + request.SerializeToString(deterministic=True), digest_size=16
    ).hexdigest()


def find_answered(batch: Batch, namespaces: Sequence[str], request_id: str, body: str) -> RequestRow | None:
    """The same request when it was answered before. Raises RequestIdReused when another one has taken its id."""
    for namespace in namespaces:
        found = batch.transaction.find_request(namespace, request_id)
        if found is not None and found.body_hash == body:
            return found
        if found is not None and namespace == namespaces[0]:
            raise RequestIdReused(request_id)
    return None


def check_still_there(batch: Batch, answered: RequestRow) -> None:
    """Raises Deleted when what an answer tells of is there no more, though another may have its name."""
    for thing in answered.about:
        for deletion in batch.transaction.deletions(thing.kind, thing.name):
            if deletion.thing == thing:
                raise Deleted(thing.kind, thing.name, deletion.deleted_s)


def about_nothing(answer: Any, batch: Batch) -> Collection[Thing]:
    """For what deletes: nothing undoes it."""
    return ()


def about_execution(answer: Any, batch: Batch) -> Collection[Thing]:
    """For what answers with an execution."""
    return [thing_of(batch.open(answer.execution.id).copy.execution)]


def about_action(answer: Any, batch: Batch) -> Collection[Thing]:
    """For what answers with an action execution: it goes with its execution."""
    execution_id, _ = parse_attempt_id(answer.action_execution.id)
    return [thing_of(batch.open(execution_id).copy.execution)]


def thing_of(execution: Execution) -> Thing:
    """An execution as what may be deleted."""
    return Thing("execution", execution.id, execution.created.namespace, repr(execution.created.at_s))


def namespaces_of(execution_id: str, batch: Batch) -> Sequence[str]:
    """That of a claimed execution, then those of deleted ones that had its id; none: the default namespace."""
    found = [each.thing.namespace for each in batch.transaction.deletions("execution", execution_id)]
    if batch.exists(execution_id):
        found.append(batch.open(execution_id).copy.execution.created.namespace)
    return tuple(dict.fromkeys(reversed(found))) or ("",)


def forget(batch: Batch, executions: Sequence[Execution]) -> None:
    """Remember that executions are deleted now, and let their ids be taken again."""
    batch.transaction.forget_requests(_ID_PLACE, [each.id for each in executions])
    batch.transaction.save_deletions([Deletion(thing_of(each), batch.at_s) for each in executions])


def remembered(batch: Batch, name: str, execution_id: str, request: Any) -> bytes | None:
    """The answer of the request that took this execution id, if this is the same one: it has the same body and the
    same request id. Raises AlreadyExists."""
    found = batch.transaction.find_request(_ID_PLACE, execution_id)
    if found is None or found.body_hash != body_hash(name, request):
        raise AlreadyExists("execution", execution_id)
    return found.answer


def remember(batch: Batch, name: str, execution_id: str, request: Any, answer: Message) -> None:
    """Keep which request took an execution id."""
    row = RequestRow(body_hash(name, request), answer.SerializeToString())
    batch.transaction.save_request(_ID_PLACE, execution_id, row, batch.at_s)


_ID_PLACE = "\x1fexecution"
"""Stands for the namespace of chosen execution ids, which are unique over all namespaces."""


def check_shared_fields(request: Any) -> Fields:
    """The checks of a request, begun with the fields that every one has."""
    fields = Fields()
    fields.text("request_id", request.request_id)
    fields.text("comment", request.comment, COMMENT_LENGTH)
    fields.text("namespace", getattr(request, "namespace", ""))
    fields.number("expected_revision", getattr(request, "expected_revision", 0))
    return fields
