"""The works that answer calls. A repeated request gets its first answer; a dry run changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Generic, NamedTuple

from dalsegno.engine.batches.answers import Answer, KeptAnswer, Response
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.work import Work
from dalsegno.engine.desk.operations import (
    AnyRequest,
    Call,
    Operation,
    Plan,
    Request,
    RequestIdentity,
    Write,
    resource_of,
)
from dalsegno.rpc.convert import REQUESTS_KEPT_S
from dalsegno.store.records import Deletion, RequestRow, Resource
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1.execution_service_pb2 import CancelExecutionRequest
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.refusals import AlreadyExists, Deleted, RequestIdReused


class BodyHash(NamedTuple):
    """The hash of a request."""

    stored: str
    """With the key of the store, if it has one."""
    plain: str
    """Without a key, as an engine without one has stored it."""

    def is_of(self, body_hash: str) -> bool:
        """Return whether a stored hash is that of the request."""
        return body_hash in (self.stored, self.plain)


class AnswerCall(Work, Generic[Request, Plan, Response]):
    """Answers one call through a future."""

    __slots__ = ("_answer", "_call", "_future", "_on_later", "_operation", "_plan", "_turn", "_write")

    def __init__(
        self,
        write: Write[Request, Plan, Response],
        operation: Operation[Request, Plan, Response],
        call: Call[Request],
        future: asyncio.Future[wire.SubmitResponse],
        on_later: Callable[[], tuple[str, asyncio.Future[wire.SubmitResponse]]] | None = None,
    ) -> None:
        """`operation`: that of the write, prepared for this call.

        `on_later` returns a name and another future for an answer that takes longer. None: the caller waits for it.
        """
        self.execution_id = operation.execution_id(call.request)
        self._turn = operation.turn(call.request)
        self._write = write
        self._operation = operation
        self._call = call
        self._future = future
        self._on_later = on_later
        self._plan: Plan
        self._answer: Response | None = None

    @property
    def turn(self) -> str:
        return self._turn

    @property
    def is_request(self) -> bool:
        return True

    @property
    def ends_by_force(self) -> bool:
        request = self._call.request
        return isinstance(request, CancelExecutionRequest) and request.HasField("terminate")

    @property
    def is_wanted(self) -> bool:
        return not self._future.done()

    @property
    def name(self) -> str:
        return self._write.name

    def defer(self) -> None:
        """Give the caller a name for the answer, because it takes longer."""
        if self._on_later is not None and not self._future.done():
            future = self._future
            later, self._future = self._on_later()
            self._on_later = None
            future.set_result(wire.SubmitResponse(later=later))

    def needs(self, batch: Batch) -> Collection[str]:
        self._plan = self._operation.check(self._call, batch)
        return self._operation.claims(self._call, self._plan)

    def must_wait(self, batch: Batch) -> bool:
        return self.refusal is None and self._operation.must_wait(self._plan, batch)

    def carry_out(self, batch: Batch) -> None:
        identity = self._operation.identity(self._call, self._plan, batch)
        if identity is None:
            self._answer = self._carry_out_plan(batch).response
            return
        body = body_hash(batch, self._write.name, self._call.request)
        found = find_answered(batch, identity, body)
        if isinstance(found, RequestRow):
            check_still_there(batch, found)
            self._answer = self._write.response_of(wire.SubmitResponse.FromString(found.answer))
        elif found is not None:
            self._answer = found.answer.response
        else:
            answer = self._carry_out_plan(batch)
            self._answer = answer.response
            batch.answers.keep(
                identity.namespaces[0],
                identity.request_id,
                KeptAnswer(body.stored, answer, lambda: self._wrap(answer.response).SerializeToString()),
            )

    def _carry_out_plan(self, batch: Batch) -> Answer[Response]:
        answer = self._operation.carry_out(self._call, self._plan, batch)
        batch.answers.give(answer)
        return answer

    def done(self) -> None:
        if self._future.done():
            return
        if self.refusal is not None:
            self._future.set_exception(self.refusal)
        else:
            assert self._answer is not None
            self._future.set_result(self._wrap(self._answer))

    def failed(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)

    def _wrap(self, response: Response) -> wire.SubmitResponse:
        submitted = wire.SubmitResponse()
        self._write.response_of(submitted).CopyFrom(response)
        return submitted


class PruneRequests(Work):
    """Deletes what is stored of requests and deletions after a day, and sessions that ended long ago."""

    __slots__ = ()

    @property
    def is_periodic(self) -> bool:
        return True

    def needs(self, batch: Batch) -> Collection[str]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        batch.transaction.prune_requests(batch.at_s - REQUESTS_KEPT_S)
        batch.transaction.prune_sessions(batch.at_s - REQUESTS_KEPT_S)
        batch.transaction.prune_engines()


def body_hash(batch: Batch, name: str, request: AnyRequest) -> BodyHash:
    """Return a hash that differs for requests with different contents."""
    body = name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    key = batch.lookups.ciphers.hash_key
    plain = hashlib.blake2b(body, digest_size=16).hexdigest()
    return BodyHash(hashlib.blake2b(body, digest_size=16, key=key).hexdigest() if key else plain, plain)


def find_answered(batch: Batch, identity: RequestIdentity, body: BodyHash) -> RequestRow | KeptAnswer | None:
    """Return the answer that the same request got before, also in this batch. Raises RequestIdReused when a different
    request has the same id."""
    for namespace in identity.namespaces:
        found: RequestRow | KeptAnswer | None = batch.answers.find(namespace, identity.request_id)
        found = found or batch.transaction.find_request(namespace, identity.request_id)
        if found is not None and body.is_of(found.body_hash):
            return found
        if found is not None and namespace == identity.namespaces[0]:
            raise RequestIdReused(identity.request_id)
    return None


def check_still_there(batch: Batch, answered: RequestRow) -> None:
    """Raise Deleted if a resource that an answer tells of is deleted. Another one may have its name now."""
    for resource in answered.about:
        for deletion in batch.transaction.deletions(resource.kind, resource.name):
            if deletion.resource == resource:
                raise Deleted(resource.kind, resource.name, deletion.deleted_s)


def record_deletions(batch: Batch, executions: Sequence[Execution]) -> None:
    """Store that executions are deleted now, and allow their ids for new executions."""
    batch.transaction.forget_requests(_ID_PLACE, [each.id for each in executions])
    for each in executions:
        batch.answers.forget(_ID_PLACE, each.id)
    batch.transaction.save_deletions([Deletion(resource_of(each), batch.at_s) for each in executions])


def find_first_answer(
    batch: Batch, name: str, execution_id: str, request: AnyRequest, kind: type[Response]
) -> Answer[Response]:
    """Return the answer of the request that chose this execution id, if it is the same request.

    Requests are the same if their bodies and request ids are equal. Raises AlreadyExists.
    """
    body = body_hash(batch, name, request)
    kept = batch.answers.find(_ID_PLACE, execution_id)
    if kept is not None and body.is_of(kept.body_hash):
        return kept.answer
    found = batch.transaction.find_request(_ID_PLACE, execution_id)
    if kept is not None or found is None or not body.is_of(found.body_hash):
        raise AlreadyExists("execution", execution_id)
    return Answer(kind.FromString(found.answer), about=_about(batch, execution_id))


def keep_first_answer(
    batch: Batch, name: str, execution_id: str, request: AnyRequest, answer: Answer[Response]
) -> None:
    """Store which request chose an execution id."""
    kept = KeptAnswer(body_hash(batch, name, request).stored, answer, lambda: answer.response.SerializeToString())
    batch.answers.keep(_ID_PLACE, execution_id, kept)


def _about(batch: Batch, execution_id: str) -> tuple[Resource, ...]:
    return (resource_of(batch.open(execution_id).copy.execution),)


_ID_PLACE = "\x1fexecution"
"""The place of chosen execution ids in the table of requests. They are unique over all namespaces."""
