"""`dalsegno delete`: executions by their ids, or all that match a filter and an age."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from dalsegno.cli.bulk import Bulk, run_bulk
from dalsegno.cli.completion import complete_execution
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.exits import CommandError
from dalsegno.cli.filters import OfLabels, OfWorkflow, States, executions_filter
from dalsegno.cli.options import Comment, Output, RequestId, Server, call, request_id_or_new
from dalsegno.cli.printing import Format
from dalsegno.cli.references import REFERENCE
from dalsegno.cli.screen import console
from dalsegno.v1 import execution_service_pb2 as messages

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def delete(
    executions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXECUTION…]", help=f"Each {REFERENCE}.", autocompletion=complete_execution),
    ] = None,
    filter: Annotated[
        str, typer.Option("--filter", "-f", metavar="TERMS", help="Instead of ids: all that match these terms.")
    ] = "",
    states: States = None,
    workflows: OfWorkflow = None,
    labels: OfLabels = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="All that ended at least this long ago: 12h, 30d.")
    ] = "",
    rate: Annotated[int, typer.Option("--rate", min=0, max=1000, help="How many a second at most; 0: 100.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Delete executions that are at rest, with their tasks, history and sub-executions.

    With a filter or an age, each execution has its own line; one that is not at rest is refused and stays.
    """
    chosen = executions_filter(filter, states=states, workflows=workflows, labels=labels, with_children=True)
    is_many = bool(chosen or older_than)
    if is_many == bool(executions):
        raise CommandError(
            "give either ids of executions, or --filter, --state, --workflow, --label or --older-than",
            "with --dry-run it only lists what would be deleted",
        )
    each = messages.DeleteExecutionRequest(
        comment=comment, dry_run=dry_run, request_id=request_id_or_new(request_id if is_many else "")
    )
    if is_many:
        age = read_age(older_than) if older_than else None
        bulk = Bulk("Delete", chosen, rate, output, older_than=age)
        raise typer.Exit(call(server, lambda connection: run_bulk(connection, each, bulk)))

    async def remove(connection: Connection) -> None:
        for reference in executions or ():
            each.execution_id, each.request_id = reference, request_id_or_new("")
            await ask(connection.executions.DeleteExecution, each, RETRY_S)
            console().print_line(f"{each.execution_id}  {'would be deleted' if dry_run else 'deleted'}")

    call(server, remove)


def read_age(text: str, option: str = "--older-than") -> Duration:
    """Return the duration of an age such as 1d12h. Raises CommandError.

    >>> read_age("1d12h").seconds
    129600
    """
    parts = re.findall(r"([0-9]{1,9})([smhdw])", text)
    if not parts or "".join(count + unit for count, unit in parts) != text:
        raise CommandError(f"{option} {text}: not an age", f"for instance {option} 30d, or 1d12h")
    return Duration(seconds=sum(int(count) * _UNITS_S[unit] for count, unit in parts))


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="example:  dalsegno delete --state SUCCESS --older-than 30d --dry-run")(delete)
