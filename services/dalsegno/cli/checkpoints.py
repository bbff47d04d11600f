"""`dalsegno checkpoints|goto|discard`: the checkpoints of an execution, the way to one, and what is before one."""

from __future__ import annotations

from typing import Annotated

import typer

from dalsegno.cli.clean import one_line
from dalsegno.cli.completion import complete_checkpoint, complete_execution, complete_reached
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.controls import DryRun, Shared, Wait, WaitDelegates, operate, print_state
from dalsegno.cli.dry_run import print_dry_run
from dalsegno.cli.exits import PAUSED, SUCCESS, CommandError, exit_code_of
from dalsegno.cli.inputs import encode_json, read_input
from dalsegno.cli.options import Comment, Expected, Limit, Output, RequestId, Server, call, request_id_or_new
from dalsegno.cli.output import print_limit, print_message, print_note, print_rows, short
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.reads import ENDED, read_checkpoints, read_execution
from dalsegno.cli.references import REFERENCE
from dalsegno.cli.times import clock
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

ExecutionId = Annotated[
    str, typer.Argument(metavar="EXECUTION", help=f"The execution: {REFERENCE}.", autocompletion=complete_execution)
]
_DATA_WIDTH = 2_000
_AHEAD_NAMED = 30


def checkpoints(
    execution: ExecutionId, limit: Limit = 0, server: Server = DEFAULT_SERVER, output: Output = Format.TABLE
) -> None:
    """List the checkpoints that an execution has reached, the newest first, then those that are ahead of it."""

    async def fetch(connection: Connection) -> tuple[messages.ListCheckpointsResponse, execution_pb2.Execution]:
        found = await read_checkpoints(connection, execution, limit)
        return found, await read_execution(connection, execution)

    found, stands = call(server, fetch)
    if output is not Format.TABLE or PRINTING.key:
        print_message(output, found)
        return
    rows = [_row(each, stands) for each in found.entries]
    print_rows(output, found.entries, ("ENTRY", "CHECKPOINT", "TASK", "REACHED", "ENDED SINCE", "INFO", "DATA"), rows)
    print_limit(found.entries, limit)
    if found.ahead:
        hidden = max(0, len(found.ahead) - _AHEAD_NAMED) + found.further_ahead
        more = f", and {hidden} more" if hidden else ""
        print_note(f"ahead: {', '.join(map(one_line, found.ahead[:_AHEAD_NAMED]))}{more}")
    if stands.stop_at and not stands.HasField("paused_at") and stands.state not in ENDED:
        print_note(f"it stops at: {', '.join(map(one_line, stands.stop_at))}")


def _row(entry: execution_pb2.CheckpointEntry, execution: execution_pb2.Execution) -> tuple[object, ...]:
    is_here = execution.HasField("paused_at") and execution.paused_at.sequence == entry.sequence
    told = ["it is PAUSED here"] if is_here else [] if entry.stands else ["undone"]
    told += ["may be reached again"] if entry.reachable else []
    return (
        entry.sequence,
        entry.name,
        entry.task_name,
        clock(entry.at),
        entry.tasks_since or "",
        ", ".join(told),
        short(entry.data, _DATA_WIDTH) if entry.data else "",
    )


def goto(
    execution: ExecutionId,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The checkpoint; or --entry.", autocompletion=complete_checkpoint),
    ] = "",
    entry: Annotated[
        int, typer.Option("--entry", min=0, help="One entry by its number, as `checkpoints` lists them.")
    ] = 0,
    next: Annotated[
        bool, typer.Option("--next", help="The next time that it is reached, although it was reached before.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue on arrival, instead of PAUSED there.")] = False,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", "-i", metavar="KEY=VALUE", help="On arrival edit this value, as `context` does."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="KEY", help="On arrival remove this value. Repeatable.")
    ] = None,
    task: Annotated[
        str, typer.Option("--task", "-t", help="Edit what this ended task published; else variables.")
    ] = "",
    wait_delegates: WaitDelegates = False,
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    wait: Wait = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Send an execution to a checkpoint, where it is PAUSED. With --wait exit code 0: it has arrived."""
    request = _request(execution, name, entry, is_next=next)
    request.then = messages.ON_ARRIVAL_RESUME if resume else messages.ON_ARRIVAL_UNSPECIFIED
    request.delegates = operation_pb2.DELEGATES_WAIT if wait_delegates else operation_pb2.DELEGATES_UNSPECIFIED
    if pairs or unset:
        values = encode_json(read_input(pairs, "")) if pairs else ""
        request.edit.CopyFrom(messages.ContextEdit(task=task, set=values, unset=unset or ()))
    elif task:
        raise CommandError("--task goes with --set or --unset: it names whose values are edited")

    def has_arrived(found: execution_pb2.Execution) -> bool:
        if resume:
            return exit_code_of(found.state) == SUCCESS
        is_there = found.paused_at.name == name if name else found.paused_at.sequence == entry
        return exit_code_of(found.state) == PAUSED and is_there

    shared = Shared(execution, "", 0, expected_revision, dry_run, wait, server, comment, request_id, output)
    operate("", request, shared, has_arrived)


def _request(execution: str, name: str, entry: int, *, is_next: bool) -> messages.GoToCheckpointRequest:
    if bool(name) == bool(entry):
        raise CommandError(
            "give either the NAME of a checkpoint or an --entry", f"`dalsegno checkpoints {execution}` lists them"
        )
    if is_next and entry:
        raise CommandError("--next goes with the NAME of a checkpoint, not with --entry")
    if name:
        return messages.GoToCheckpointRequest(name=name, next=is_next)
    return messages.GoToCheckpointRequest(sequence=entry)


def discard(
    execution: ExecutionId,
    before: Annotated[
        str,
        typer.Option(
            "--before", metavar="NAME", help="The checkpoint: its newest entry.", autocompletion=complete_reached
        ),
    ] = "",
    before_entry: Annotated[
        int, typer.Option("--before-entry", min=0, help="One entry by its number, as `checkpoints` lists them.")
    ] = 0,
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Discard what is before a checkpoint: changes, tasks, actions and ended sub-workflows. It goes on as without."""
    if bool(before) == bool(before_entry):
        raise CommandError(
            "give either --before NAME or --before-entry", f"`dalsegno checkpoints {execution}` lists them"
        )
    request = messages.DiscardHistoryRequest(
        execution_id=execution,
        request_id=request_id_or_new(request_id),
        comment=comment,
        expected_revision=expected_revision,
        dry_run=dry_run,
        **{"name": before} if before else {"sequence": before_entry},
    )

    async def send(connection: Connection) -> messages.DiscardHistoryResponse:
        return await ask(connection.executions.DiscardHistory, request, RETRY_S)

    answer = call(server, send)
    if dry_run:
        print_dry_run(output, answer.dry_run, request.execution_id)
        return
    print_state(output, answer.execution)
    if output is Format.TABLE:
        print_note(f"its history begins with change {answer.execution.first_sequence}")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    example = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
    app.command(epilog=f"example:  dalsegno checkpoints {example}")(checkpoints)
    app.command(epilog=f"example:  dalsegno goto {example} configured --wait")(goto)
    app.command(epilog=f"example:  dalsegno discard {example} --before configured --dry-run")(discard)
