"""Short references to an execution: the end of its id, and `@latest`.

An id begins with its time, so that ids of one minute begin with equal characters; the last ones are random. Six or more
last characters stand for the id if they are unambiguous: in each field of a request that has the id of an execution,
alone or followed by a task, an item and an attempt.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from dalsegno.cli.execution_view import execution_state
from dalsegno.cli.exits import CommandError
from dalsegno.cli.ids import SHORT_MIN
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.times import clock
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages

LATEST = "@latest"
REFERENCE = "its id, 6 or more of the last characters of it, or @latest"
"""For the help of commands."""
_WHOLE = 36
_END = re.compile(r"[0-9a-f-]+")
_FIELDS = ("execution_id", "task_execution_id", "action_execution_id", "resource")
_NAMED = 5
"""The number of executions that an error lists at most when an end is ambiguous."""

Stub = TypeVar("Stub")
Unary = Callable[..., Any]


class References:
    """Replaces short ids by whole ones, with one call for each."""

    def __init__(self, list_executions: Unary) -> None:
        self._list_executions = list_executions
        self._known: dict[str, str] = {}

    async def resolve(self, reference: str) -> str:
        """Return the whole id; other texts are returned unchanged. Raises CommandError, grpc.aio.AioRpcError."""
        head, dot, rest = reference.partition(".")
        if head.startswith("@") and head != LATEST:
            raise CommandError(f"{head}: no execution is named so", f"{LATEST} is the newest one; give {REFERENCE}")
        if head != LATEST and (len(head) >= _WHOLE or not _END.fullmatch(head)):
            return reference
        if head not in self._known:
            self._known[head] = await (self._latest() if head == LATEST else self._ending(head))
        return f"{self._known[head]}{dot}{rest}"

    async def complete(self, request: Message) -> None:
        """Write whole ids into the fields of a request that hold short ones."""
        for field in _FIELDS:
            reference = getattr(request, field, "")
            if isinstance(reference, str) and reference:
                setattr(request, field, await self.resolve(reference))

    async def _latest(self) -> str:
        found = await self._list("parent=" + (f' namespace="{COMMAND.namespace}"' if COMMAND.namespace else ""), 1)
        if not found:
            raise CommandError(f"{LATEST}: there is no execution yet", "start one with `dalsegno start`")
        return found[0].id

    async def _ending(self, end: str) -> str:
        if len(end) < SHORT_MIN:
            raise CommandError(
                f"{end}: too short for the end of an id", f"give {SHORT_MIN} or more of its last characters"
            )
        found = await self._list(f"id=*{end}", _NAMED + 1)
        if not found:
            raise CommandError(f"{end}: no execution has an id with this end", "`dalsegno list` shows ids")
        if len(found) > 1:
            shown = "".join(f"\n  {_line(each)}" for each in found[:_NAMED])
            raise CommandError(
                f"{end}: more than one execution has an id with this end:{shown}", "give more characters"
            )
        return found[0].id

    async def _list(self, filter: str, size: int) -> Sequence[execution_pb2.Execution]:
        request = messages.ListExecutionsRequest(filter=filter, page_size=size)
        answer: messages.ListExecutionsResponse = await self._list_executions(request)
        return answer.executions


def _line(execution: execution_pb2.Execution) -> str:
    state = execution_state(execution.state)
    return f"{execution.id}  {execution.workflow}  {state}  {clock(execution.created_at)}"


def completed(stub: Stub, references: References) -> Stub:
    """Return a stub whose calls complete the ids of their requests first."""
    return cast(Stub, _Completed(stub, references))


class _Completed:
    def __init__(self, stub: object, references: References) -> None:
        self._stub = stub
        self._references = references

    def __getattr__(self, name: str) -> Unary:
        method: Unary = getattr(self._stub, name)
        if not isinstance(method, grpc.aio.UnaryUnaryMultiCallable):
            return self._stream(method)

        async def call(request: Message, **options: Any) -> Any:
            await self._references.complete(request)
            return await method(request, **options)

        return call

    def _stream(self, method: Unary) -> Unary:
        async def call(request: Message, **options: Any) -> AsyncIterator[Any]:
            await self._references.complete(request)
            async for message in method(request, **options):
                yield message

        return call
