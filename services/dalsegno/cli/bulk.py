"""An operation on many executions, followed to its end although streams break, with a line for each outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from dalsegno.cli.connection import Connection, actor_metadata
from dalsegno.cli.exits import ERROR, SUCCESS
from dalsegno.cli.output import print_note, print_rows, short
from dalsegno.cli.printing import Format
from dalsegno.cli.retries import COMMAND, Retries, is_cut
from dalsegno.cli.screen import console
from dalsegno.cli.values import enum_name
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages


@dataclass(frozen=True, slots=True)
class Bulk:
    """An operation on many executions."""

    verb: str
    """Pause, Resume, Cancel, Rerun or Delete."""
    filter: str
    rate: int
    output: Format
    older_than: Duration | None = None
    """Only those that ended at least this long ago."""


_REFUSAL_WIDTH = 240


async def run_bulk(connection: Connection, each: Any, bulk: Bulk) -> int:
    """Request the operation for each execution that the filter chooses. Return exit code 0, or 1 if one is refused."""
    request = getattr(messages, f"{bulk.verb}ExecutionsRequest")(filter=bulk.filter, each=each, rate=bulk.rate)
    if bulk.older_than is not None:
        request.older_than.CopyFrom(bulk.older_than)
    method: Callable[..., Any] = getattr(connection.executions, f"{bulk.verb}Executions")
    outcomes: list[operation_pb2.BulkOutcome] = []
    COMMAND.exit_hint = "the printed ones are done, others may be too: check with `dalsegno list`, then repeat"
    async for outcome in _outcomes(method, request):
        outcomes.append(outcome)
        if bulk.output is Format.TABLE:
            console().print_line(_line(outcome, bulk.verb))
    COMMAND.exit_hint = ""
    refused = sum(each.HasField("refusal") for each in outcomes)
    if bulk.output is not Format.TABLE:
        print_rows(bulk.output, outcomes, (), ())
    else:
        print_note(f"{len(outcomes)} execution{'' if len(outcomes) == 1 else 's'}, {refused} refused")
    return ERROR if refused else SUCCESS


async def _outcomes(method: Callable[..., Any], request: Any) -> AsyncIterator[operation_pb2.BulkOutcome]:
    """Yield the outcome for each execution; a broken stream is opened again."""
    async with Retries() as retries:
        while True:
            try:
                async for response in method(request, metadata=actor_metadata()):
                    retries.answered()
                    request.resume_token = response.resume_token
                    yield response.outcome
                return
            except grpc.aio.AioRpcError as error:
                if not is_cut(error):
                    raise
                await retries.wait(error)


def _line(outcome: operation_pb2.BulkOutcome, verb: str) -> str:
    """Return the line of one outcome."""
    if outcome.HasField("refusal"):
        told = outcome.refusal.message.replace(f"execution {outcome.execution_id}: ", "")
        return f"{outcome.execution_id}  refused: {short(told, _REFUSAL_WIDTH)}"
    if outcome.HasField("deleted"):
        return f"{outcome.execution_id}  deleted"
    dry = outcome.HasField("dry_run")
    if dry and verb == "Delete":
        children = len(outcome.dry_run.children)
        return f"{outcome.execution_id}  would be deleted" + (f", with {children} that it started" if children else "")
    state = outcome.dry_run.state if dry else outcome.execution.state
    name = enum_name(execution_pb2.ExecutionState.Name(state), "ExecutionState")
    if dry:
        starts = ", ".join(task.name for task in outcome.dry_run.starts)
        return f"{outcome.execution_id}  would be {name}" + (f", starting {starts}" if starts else "")
    new = f"  as {outcome.execution.id}" if outcome.execution.id != outcome.execution_id else ""
    return f"{outcome.execution_id}  {name}{new}"
