"""`dalsegno start|list|show|watch|tasks|history|delete`: executions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from dalsegno.cli.connection import DEFAULT_SERVER, PATIENCE_S, Connection, ask
from dalsegno.cli.exits import exit_code_of
from dalsegno.cli.foresight import print_foresight
from dalsegno.cli.inputs import encode_json, read_input, read_labels
from dalsegno.cli.lines import detail_of, subject_of, why
from dalsegno.cli.options import (
    Comment,
    Environment,
    Filter,
    Labels,
    Limit,
    Namespace,
    Output,
    Pairs,
    RequestId,
    Server,
    Source,
    call,
    request_id_or_new,
)
from dalsegno.cli.output import print_message, print_note, print_rows, reason, short
from dalsegno.cli.paging import page_size, read_pages
from dalsegno.cli.picture import execution_state, task_state
from dalsegno.cli.printing import Format
from dalsegno.cli.screen import console
from dalsegno.cli.times import clock, span
from dalsegno.cli.watching import watch_to_rest
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages

ExecutionId = Annotated[str, typer.Argument(metavar="EXECUTION", help="The id of the execution.")]
DeleteIds = Annotated[list[str], typer.Argument(metavar="EXECUTION…", help="The ids of the executions.")]


def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a stored workflow.")],
    pairs: Pairs = None,
    source: Source = "",
    version: Annotated[int, typer.Option("--version", "-v", min=0, help="Its version; 0: the newest.")] = 0,
    params: Annotated[
        str, typer.Option("--params", metavar="FILE|JSON", help="What the language takes beside the input.")
    ] = "",
    environment: Environment = "",
    labels: Labels = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")] = False,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Start an execution of a stored workflow, print its id, and return at once."""
    request = messages.StartExecutionRequest(
        namespace=namespace,
        workflow=name,
        version=version,
        input=encode_json(read_input(pairs or (), source)),
        params=encode_json(read_input((), params)) if params else "",
        environment=environment,
        labels=read_labels(labels or ()),
        description=description,
        dry_run=dry_run,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )
    answer = call(server, lambda connection: ask(connection.executions.StartExecution, request, PATIENCE_S))
    if dry_run:
        print_foresight(output, answer.dry_run, name)
    elif output is Format.TABLE:
        console().tell(answer.execution.id)
        print_note(f"follow it with: dalsegno watch {answer.execution.id}")
    else:
        print_message(output, answer.execution)


def list_executions(
    filter: Filter = "",
    limit: Limit = 50,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List executions, the newest first."""

    async def fetch(connection: Connection) -> list[execution_pb2.Execution]:
        return await read_pages(
            lambda token: ask(
                connection.executions.ListExecutions,
                messages.ListExecutionsRequest(
                    page_size=page_size(limit), page_token=token, filter=filter, full=output is not Format.TABLE
                ),
                PATIENCE_S,
            ),
            lambda page: page.executions,
            limit,
        )

    found = call(server, fetch)
    rows = [
        (
            each.id,
            each.workflow,
            execution_state(each.state),
            clock(each.created_at),
            span(each.started_at, each.ended_at),
            _labels(each),
            reason(each.state_info),
        )
        for each in found
    ]
    print_rows(output, found, ("EXECUTION", "WORKFLOW", "STATE", "CREATED", "TOOK", "LABELS", "INFO"), rows)


def show(execution: ExecutionId, server: Server = DEFAULT_SERVER, output: Output = Format.TABLE) -> None:
    """Show an execution with its input and output."""
    request = messages.GetExecutionRequest(execution_id=execution)
    answer = call(server, lambda connection: ask(connection.executions.GetExecution, request, PATIENCE_S))
    print_message(output, answer.execution)


def watch(
    execution: ExecutionId,
    keep_open: Annotated[bool, typer.Option("--keep-open", help="Go on when it is at rest: until Ctrl-C.")] = False,
    stop_at_pause: Annotated[
        bool, typer.Option("--stop-at-pause", help="End when it is PAUSED (exit code 4).")
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Watch an execution until it ends. Exit code 0: SUCCESS, 1: ERROR, 3: CANCELLED."""

    async def follow(connection: Connection) -> execution_pb2.Execution:
        await watch_to_rest(connection, execution, console(), stop_at_pause=stop_at_pause, keep_open=keep_open)
        request = messages.GetExecutionRequest(execution_id=execution)
        return (await ask(connection.executions.GetExecution, request, PATIENCE_S)).execution

    raise typer.Exit(exit_code_of(call(server, follow).state))


def tasks(
    execution: ExecutionId,
    filter: Filter = "",
    limit: Limit = 0,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List the tasks of an execution; with --output json or yaml, with their results."""

    async def fetch(connection: Connection) -> list[execution_pb2.TaskExecution]:
        return await read_pages(
            lambda token: ask(
                connection.executions.ListTasks,
                messages.ListTasksRequest(
                    execution_id=execution,
                    page_size=page_size(limit),
                    page_token=token,
                    filter=filter,
                    full=output is not Format.TABLE,
                ),
                PATIENCE_S,
            ),
            lambda page: page.tasks,
            limit,
        )

    found = call(server, fetch)
    columns = ("NUMBER", "TASK", "STATE", "RUNS", "ITEMS", "ATTEMPTS", "TOOK", "INFO")
    print_rows(output, found, columns, [_task_row(each) for each in found])


def history(
    execution: ExecutionId,
    after: Annotated[int, typer.Option("--after", min=0, help="Only changes with a higher number.")] = 0,
    limit: Limit = 0,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List everything that happened to an execution, in order: its journal."""

    async def fetch(connection: Connection) -> list[change_pb2.Change]:
        return await read_pages(
            lambda token: ask(
                connection.executions.ListChanges,
                messages.ListChangesRequest(
                    execution_id=execution, page_size=page_size(limit), page_token=token, after_sequence=after
                ),
                PATIENCE_S,
            ),
            lambda page: page.changes,
            limit,
        )

    found = call(server, fetch)
    rows, said = [], ""
    for each in found:  # who asked for it, and why, stands in the first line of what came of it
        asked = why(each.comment, each.actor)
        told = (reason(detail_of(each)), "" if asked == said else short(asked))
        said = asked
        rows.append((each.sequence, clock(each.at), each.cause, *subject_of(each), *told))
    print_rows(output, found, ("NUMBER", "AT", "CAUSE", "ABOUT", "STATE", "DETAIL", "COMMENT"), rows)


def delete(
    executions: DeleteIds,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell whether they would be deleted.")] = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
) -> None:
    """Delete executions that are at rest, with their tasks, history and sub-executions."""

    async def remove(connection: Connection, ids: Sequence[str]) -> None:
        for each in ids:
            request = messages.DeleteExecutionRequest(
                execution_id=each, comment=comment, request_id=request_id_or_new(""), dry_run=dry_run
            )
            await ask(connection.executions.DeleteExecution, request, PATIENCE_S)
            console().tell(f"{each}  would be deleted" if dry_run else f"deleted {each}")

    call(server, lambda connection: remove(connection, executions))


def _task_row(task: execution_pb2.TaskExecution) -> tuple[object, ...]:
    counts = task.items
    items = f"{counts.succeeded + counts.failed}/{counts.total}" if task.HasField("items") else ""
    superseded = f"superseded by {task.superseded_by}" if task.superseded else ""
    info = superseded or task.state_info or (f"waits for: {task.waiting_for}" if task.waiting_for else "")
    return (
        task.number,
        task.name,
        task_state(task.state),
        task.action or task.workflow,
        items,
        task.attempts,
        span(task.started_at, task.ended_at),
        reason(info),
    )


def _labels(execution: execution_pb2.Execution) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(execution.labels.items()))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    example = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
    app.command(epilog="example:  dalsegno start city_report -i days=3 --label team=harbour")(start)
    app.command("list", epilog="example:  dalsegno list --filter 'state=ERROR workflow=city_report'")(list_executions)
    app.command(epilog=f"example:  dalsegno show {example} --output json")(show)
    app.command(epilog=f"example:  dalsegno watch {example}")(watch)
    app.command(epilog=f"example:  dalsegno tasks {example} --filter state=ERROR")(tasks)
    app.command(epilog=f"example:  dalsegno history {example}")(history)
    app.command(epilog=f"example:  dalsegno delete {example}")(delete)
