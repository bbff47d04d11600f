"""ReadValue: stream one value of an execution, a task, an action execution, a definition or an environment."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dalsegno.api.reads import Reads
from dalsegno.rpc import convert
from dalsegno.store.store import Queries
from dalsegno.v1 import execution_service_pb2 as wire
from dalsegno.workflow.refusals import NotFound
from dalsegno.workflow.secrets import mask

PIECE_BYTES = 1024 * 1024
"""The maximum number of bytes of a value in one message."""

Request = wire.ReadValueRequest
Reader = Callable[[Queries, Request, str], str | None]
"""Reads the field of this name from the resource of the request. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that has values."""

    fields: tuple[str, ...]
    check: Callable[[convert.Fields, Request], object]
    read: Reader


async def stream(reads: Reads, request: Request) -> AsyncIterator[wire.ReadValueResponse]:
    """Yield the value in pieces from one snapshot. Raises InvalidRequest and NotFound."""
    resource = _checked(request)
    text = await reads.run(lambda queries: resource.read(queries, request, request.field))
    written = mask(text or "").encode()
    for piece in pieces(written):
        yield wire.ReadValueResponse(piece=piece, size_bytes=len(written))


def pieces(written: bytes, bytes_max: int = PIECE_BYTES) -> Iterator[str]:
    """Yield a text in UTF-8 in one or more parts of at most `bytes_max` bytes, each of whole characters.

    >>> list(pieces("aäö".encode(), 3))
    ['aä', 'ö']
    """
    start = 0
    while True:
        end = min(start + bytes_max, len(written))
        while end < len(written) and written[end] & 0xC0 == 0x80:
            end -= 1
        yield written[start:end].decode()
        if end >= len(written):
            return
        start = end


def _checked(request: Request) -> Resource:
    fields = convert.Fields()
    kind = request.WhichOneof("resource")
    if kind is None:
        fields.refuse("resource", f"is missing: one of {', '.join(RESOURCES)}")
        fields.done()
    assert kind is not None
    resource = RESOURCES[kind]
    resource.check(fields, request)
    if request.field not in resource.fields:
        fields.refuse("field", f"must be one of {', '.join(resource.fields)}")
    fields.done()
    return resource


def _of_execution(queries: Queries, request: Request, field: str) -> str | None:
    row = queries.execution(request.execution_id)
    if row is None or not row.workflow:
        raise NotFound("execution", request.execution_id)
    return _text(row, field)


def _of_task(queries: Queries, request: Request, field: str) -> str | None:
    execution_id, _, number = request.task_execution_id.partition(".")
    execution, row = queries.execution(execution_id), queries.task(execution_id, int(number))
    if row is None or execution is None or not execution.workflow:
        raise NotFound("task execution", request.task_execution_id)
    if field == "published":
        return row.published
    return queries.task_result(execution_id, row.number, bytes_max=sys.maxsize).text


def _of_action(queries: Queries, request: Request, field: str) -> str | None:
    execution_id, *key = request.action_execution_id.split(".")
    task, item, attempt = map(int, key)
    row = queries.attempt(execution_id, (task, item, attempt))
    if row is None or row.runs_workflow:
        raise NotFound("action execution", request.action_execution_id)
    return _text(row, field)


def _of_definition(queries: Queries, request: Request, field: str) -> str | None:
    row = queries.definition(request.definition_id)
    if row is None:
        raise NotFound("definition", request.definition_id)
    return row.input if field == "parameters" else _text(row, field)


def _of_environment(queries: Queries, request: Request, field: str) -> str | None:
    row = queries.environment(request.environment.namespace, request.environment.name)
    if row is None:
        raise NotFound("environment", request.environment.name)
    return row.value


def _text(row: Any, field: str) -> str | None:
    text: str | None = getattr(row, field)
    return text


RESOURCES: Mapping[str, Resource] = {
    "execution_id": Resource(
        ("input", "output", "params", "errors"),
        lambda fields, request: fields.uuid("execution_id", request.execution_id),
        _of_execution,
    ),
    "task_execution_id": Resource(
        ("result", "published"),
        lambda fields, request: fields.numbered_id("task_execution_id", request.task_execution_id, 1),
        _of_task,
    ),
    "action_execution_id": Resource(
        ("input", "result"),
        lambda fields, request: fields.numbered_id("action_execution_id", request.action_execution_id, 3),
        _of_action,
    ),
    "definition_id": Resource(
        ("text", "parameters", "description", "tags"),
        lambda fields, request: fields.uuid("definition_id", request.definition_id),
        _of_definition,
    ),
    "environment": Resource(
        ("variables",),
        lambda fields, request: fields.name("environment.name", request.environment.name),
        _of_environment,
    ),
}
"""The resources that ReadValue reads, by the name of the request's field."""
