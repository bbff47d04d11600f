"""`dalsegno start|list|show|watch|tasks|history`: executions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from dalsegno.cli.advice import advise
from dalsegno.cli.completion import complete_execution, complete_workflow
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.dry_run import print_dry_run
from dalsegno.cli.execution_view import execution_state, place_of, task_state
from dalsegno.cli.exits import exit_code_of
from dalsegno.cli.filters import OfLabels, OfOrigin, OfWorkflow, Since, States, executions_filter
from dalsegno.cli.inputs import ANY, TypedInput, encode_json, read_input, read_labels
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
    Params,
    RequestId,
    Secrets,
    Server,
    Source,
    StopAt,
    call,
    request_id_or_new,
    types_of_workflow,
)
from dalsegno.cli.output import print_limit, print_message, print_note, print_rows, reason, short
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.reads import (
    ENDED,
    OPEN_READ,
    ExecutionStatus,
    read_actions,
    read_all_waits,
    read_changes,
    read_execution,
    read_executions,
    read_status,
    read_tasks,
    read_whole,
)
from dalsegno.cli.references import REFERENCE
from dalsegno.cli.screen import console
from dalsegno.cli.showing import print_status
from dalsegno.cli.times import clock, span
from dalsegno.cli.waits import OPEN_ACTIONS, waiting_of
from dalsegno.cli.watching import watch_to_rest
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages
from dalsegno.v1.execution_pb2 import ActionExecution

INFO_WIDTH = 2_000
WAITS_READ = 200
"""The number of executions for which a list reads what they wait for."""
_WAITS_TOLD = 3

ExecutionId = Annotated[
    str, typer.Argument(metavar="EXECUTION", help=f"The execution: {REFERENCE}.", autocompletion=complete_execution)
]


def start(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The name of a stored workflow.", autocompletion=complete_workflow),
    ],
    pairs: Pairs = None,
    source: Source = "",
    version: Annotated[int, typer.Option("--version", "-v", min=0, help="Its version; 0: the newest.")] = 0,
    params: Params = "",
    environment: Environment = "",
    labels: Labels = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    stop_at: StopAt = None,
    secrets: Secrets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Start an execution of a stored workflow, print its id, and return at once."""
    typed = TypedInput.of(pairs, source)
    request = messages.StartExecutionRequest(
        namespace=namespace,
        workflow=name,
        version=version,
        params=encode_json(read_input((), params)) if params else "",
        environment=environment,
        labels=read_labels(labels or ()),
        description=description,
        stop_at=stop_at or (),
        secrets=secrets or (),
        dry_run=dry_run,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )

    async def start_it(connection: Connection) -> messages.StartExecutionResponse:
        types = await types_of_workflow(connection, namespace, name, version) if pairs else ANY
        request.input = typed.text(types)
        return await ask(connection.executions.StartExecution, request, RETRY_S)

    answer = call(server, start_it)
    if dry_run:
        print_dry_run(output, answer.dry_run, name)
    elif output is Format.TABLE:
        console().print_line(answer.execution.id)
        print_note(f"follow it with: dalsegno watch {answer.execution.id}")
    else:
        print_message(output, answer.execution)


def list_executions(
    filter: Filter = "",
    states: States = None,
    workflows: OfWorkflow = None,
    since: Since = "",
    labels: OfLabels = None,
    forked_from: OfOrigin = "",
    everything: Annotated[bool, typer.Option("--all", "-a", help="Include sub-workflows.")] = False,
    limit: Limit = 50,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    output: Output = Format.TABLE,
) -> None:
    """List executions, the newest first, without sub-workflows (--all includes them).

    The bold end of each id is enough to name it. A filter by id, parent or root includes sub-workflows too.
    """

    async def fetch_status(connection: Connection) -> tuple[list[execution_pb2.Execution], dict[str, ExecutionStatus]]:
        chosen = executions_filter(
            filter,
            states=states,
            workflows=workflows,
            since=since,
            labels=labels,
            forked_from=await connection.references.resolve(forked_from) if forked_from else "",
            namespace=namespace,
            with_children=everything,
        )
        found = await read_executions(connection, chosen, limit, full=output is not Format.TABLE)
        unsaid = [each for each in found if each.state not in ENDED and not each.state_info]
        is_for_people = output is Format.TABLE and not PRINTING.key
        statuses = await read_all_waits(connection, unsaid[:WAITS_READ] if is_for_people else [])
        return found, {each.execution.id: each for each in statuses}

    found, statuses = call(server, fetch_status)
    rows = [
        (
            each.id,
            each.workflow,
            execution_state(each.state),
            clock(each.created_at),
            span(each.started_at, each.ended_at),
            _labels(each),
            _info(each, statuses.get(each.id)),
        )
        for each in found
    ]
    print_rows(output, found, ("EXECUTION", "WORKFLOW", "STATE", "CREATED", "TOOK", "LABELS", "INFO"), rows)
    print_limit(found, limit)


def show(execution: ExecutionId, server: Server = DEFAULT_SERVER, output: Output = Format.TABLE) -> None:
    """Show the state of an execution, what it waits for, its input and its output."""

    async def read(connection: Connection) -> ExecutionStatus:
        if output is not Format.TABLE or PRINTING.key:
            return ExecutionStatus(await read_whole(connection, execution))
        return await read_status(connection, await read_execution(connection, execution))

    status = call(server, read)
    if output is Format.TABLE and not PRINTING.key:
        print_status(status, server)
    else:
        print_message(output, status.execution)


def watch(
    execution: ExecutionId,
    keep_open: Annotated[bool, typer.Option("--keep-open", help="Continue after it is at rest, until Ctrl-C.")] = False,
    stop_at_pause: Annotated[
        bool, typer.Option("--stop-at-pause", help="End when it is PAUSED (exit code 4).")
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Watch an execution until it ends. Exit code 0: SUCCESS, 1: ERROR, 3: CANCELLED."""

    async def follow(connection: Connection) -> execution_pb2.Execution:
        execution_id = await connection.references.resolve(execution)
        await watch_to_rest(connection, execution_id, console(), stop_at_pause=stop_at_pause, keep_open=keep_open)
        found = await read_execution(connection, execution_id)
        for line in advise(await read_status(connection, found), server):
            print_note(line)
        return found

    raise typer.Exit(exit_code_of(call(server, follow).state))


def tasks(
    execution: ExecutionId,
    filter: Filter = "",
    limit: Limit = 0,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List the tasks of an execution; with --output json or yaml, with their results."""
    for_programs = output is not Format.TABLE or bool(PRINTING.key)

    async def fetch(connection: Connection) -> tuple[list[execution_pb2.TaskExecution], list[ActionExecution]]:
        found = await read_tasks(connection, execution, filter, limit, full=for_programs)
        is_open = any(not each.HasField("ended_at") and each.attempts for each in found)
        if for_programs or not is_open:
            return found, []
        return found, await read_actions(connection, execution, OPEN_ACTIONS, OPEN_READ)

    found, actions = call(server, fetch)
    columns = ("NUMBER", "TASK", "STATE", "RUNS", "ITEMS", "ATTEMPTS", "TOOK", "INFO")
    print_rows(output, found, columns, [_task_row(each, actions) for each in found])
    print_limit(found, limit)


def history(
    execution: ExecutionId,
    after: Annotated[int, typer.Option("--after", min=0, help="Only changes with a higher number.")] = 0,
    limit: Limit = 0,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List all changes of an execution, in order: its journal. What was discarded is one change, `consolidated`."""
    found = call(server, lambda connection: read_changes(connection, execution, after, limit))
    rows, said = [], ""
    for each in found:  # the caller and the comment are in the first of the changes that a request makes
        asked = why(each.comment, each.actor)
        told = (reason(detail_of(each), INFO_WIDTH), "" if asked == said else short(asked, INFO_WIDTH))
        said = asked
        rows.append((each.sequence, clock(each.at), each.cause, *subject_of(each), *told))
    print_rows(output, found, ("NUMBER", "AT", "CAUSE", "ABOUT", "STATE", "DETAIL", "COMMENT"), rows)
    print_limit(found, limit)


def _task_row(task: execution_pb2.TaskExecution, actions: Sequence[ActionExecution]) -> tuple[object, ...]:
    counts = task.items
    failed = f", {counts.failed} failed" if counts.failed else ""
    items = f"{counts.succeeded + counts.failed}/{counts.total}{failed}" if task.HasField("items") else ""
    superseded = f"superseded by {task.superseded_by}" if task.superseded else ""
    waits = "" if task.HasField("ended_at") or superseded else str(waiting_of(task, actions))
    info = "; ".join(filter(None, [superseded or waits, reason(task.state_info, INFO_WIDTH)]))
    return (
        task.number,
        task.name,
        task_state(task.state),
        task.action or task.workflow,
        items,
        task.attempts or "",
        span(task.started_at, task.ended_at),
        info,
    )


def _info(execution: execution_pb2.Execution, status: ExecutionStatus | None) -> str:
    """Return the checkpoint at which it stands, and the reason of its state or what it waits for."""
    why = reason(execution.state_info, INFO_WIDTH) or _waits(status)
    origin = f"forked from {execution.forked_from.execution_id}" if execution.HasField("forked_from") else ""
    return "; ".join(filter(None, [place_of(execution, execution.state_info), why, origin]))


def _waits(status: ExecutionStatus | None) -> str:
    """Return what the first tasks of an execution wait for."""
    if status is None:
        return ""
    waits = [f"{task.name}: {waiting}" for task, waiting in status.waits()]
    return "; ".join(waits[:_WAITS_TOLD]) + (
        f"; and {len(waits) - _WAITS_TOLD} more" if len(waits) > _WAITS_TOLD else ""
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
