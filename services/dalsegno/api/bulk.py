"""Operations on many executions, at a limited rate, each with an outcome of its own.

The list is read page by page during the operation, ordered by the creation of the executions: new executions come
before the first page, and a change of state moves none. So the id of the last handled execution is enough to continue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from dalsegno.api.reads import Reads
from dalsegno.rpc.convert import NAME_LENGTH, Fields
from dalsegno.rpc.errors import code_of, refusal_message
from dalsegno.rpc.logs import request_id as call_id
from dalsegno.store.filters import EXECUTION_FIELDS, Filter, Term, parse_filter
from dalsegno.store.pages import write_token
from dalsegno.v1 import operation_pb2
from dalsegno.v1.execution_service_pb2 import DeleteExecutionRequest
from dalsegno.workflow.refusals import InvalidRequest

PAGE = 200
TOGETHER_MAX = 20
"""The number of requests that run at once."""

RATE = 100
RATE_MAX = 1_000
_TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Outcome = operation_pb2.BulkOutcome
Ask = Callable[[Any], Awaitable[Any]]
"""Makes one request of the single operation. Raises its refusal."""


async def stream(
    reads: Reads, request: Any, ask: Ask, together_max: int = TOGETHER_MAX
) -> AsyncIterator[tuple[str, Outcome]]:
    """Yield the outcome for each execution that the request chooses, with the token to continue after it.
    `together_max`: the number of requests that run at once."""
    chosen, rate = _check(request)
    rpc = type(request).__name__.removesuffix("Request")
    tokens, token = await reads.resume_tokens(), ""
    if request.resume_token:
        key = tokens.read(request.resume_token, rpc, chosen.identity, (float, str))
        token = write_token("executions", chosen, tuple(key))
    while True:
        page = await reads.run(lambda queries, at=token: queries.executions(chosen, PAGE, at))  # type: ignore[misc]
        rows = page.rows
        together = min(together_max, rate)
        for start in range(0, len(rows), together):
            chunk = rows[start : start + together]
            ends_s = asyncio.get_running_loop().time() + len(chunk) / rate
            outcomes = await asyncio.gather(*(_outcome(ask, request, row.id) for row in chunk))
            for row, outcome in zip(chunk, outcomes, strict=True):
                yield tokens.write(rpc, chosen.identity, row.created_s, row.id), outcome
            await asyncio.sleep(max(0.0, ends_s - asyncio.get_running_loop().time()))
        token = page.next_token
        if not token:
            return


def _check(request: Any) -> tuple[Filter, int]:
    """Return the filter and the rate. Raises InvalidRequest with all violations."""
    fields = Fields()
    each = request.each
    for name in ("execution_id", "expected_revision", "new_execution_id"):
        if getattr(each, name, None):
            fields.refuse(f"each.{name}", "must be empty: the filter selects the executions")
    longest = NAME_LENGTH - len(":01890a5d-ac96-774b-bcce-b302099a8057")
    fields.text("each.request_id", each.request_id, longest)
    if not 0 <= request.rate <= RATE_MAX:
        fields.refuse("rate", f"must be 1 to {RATE_MAX} a second")
    deletes = isinstance(each, DeleteExecutionRequest)
    older_s = fields.length("older_than", request.older_than) if deletes and request.HasField("older_than") else None
    if older_s == 0:
        fields.refuse("older_than", "must be positive")
    if not request.filter.strip() and older_s is None:
        fields.refuse("filter", "is missing: an operation on many needs at least one term")
    fields.done()
    chosen = parse_filter(request.filter, EXECUTION_FIELDS)
    return _alone(chosen, older_s) if deletes else chosen, request.rate or RATE


def _alone(chosen: Filter, older_s: float | None) -> Filter:
    """Return the filter for executions without a parent that ended at least this long ago: these may be deleted."""
    if any(term.column == "parent_id" and not term.admits([""]) for term in chosen.terms):
        raise InvalidRequest.of("filter", "selects children, which are deleted with their parents: select the parents")
    terms = [*chosen.terms, Term("parent_id", "=", ("",))]
    if older_s is not None:
        terms.append(Term("ended_s", "<=", (time.time() - older_s,), moment=f"-{older_s:g}s"))
    return Filter(tuple(terms))


async def _outcome(ask: Ask, request: Any, execution_id: str) -> Outcome:
    """Return the outcome for one execution. Raises only what ends the stream: the engine is unavailable."""
    single = type(request.each)()
    single.CopyFrom(request.each)
    single.execution_id = execution_id
    if single.request_id:
        single.request_id += f":{execution_id}"
    outcome = Outcome(execution_id=execution_id)
    try:
        answer = await ask(single)
    except Exception as error:
        if code_of(error) in _TRY_AGAIN:
            raise
        outcome.refusal.CopyFrom(refusal_message(error, call_id.get()))
        return outcome
    if single.dry_run:
        outcome.dry_run.CopyFrom(answer.dry_run)
        return outcome
    if isinstance(single, DeleteExecutionRequest):
        outcome.deleted = True
        return outcome
    outcome.execution.CopyFrom(answer.execution)
    for name in ("input", "output", "params", "errors"):
        outcome.execution.ClearField(name)
    return outcome
