"""`dalsegno pause|resume|cancel|context`: operations on one execution or, by a filter, on many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from dalsegno.cli.advice import advise
from dalsegno.cli.bulk import Bulk, run_bulk
from dalsegno.cli.choices import TaskOptions, resume_tasks
from dalsegno.cli.completion import complete_execution
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.dry_run import left_paused_line, print_dry_run
from dalsegno.cli.execution_view import execution_state, place_of
from dalsegno.cli.exits import ERROR, PAUSED, SUCCESS, CommandError, exit_code_of
from dalsegno.cli.inputs import decode_json, encode_json, read_input, read_object
from dalsegno.cli.options import Comment, Expected, Output, RequestId, Server, StopAt, call, request_id_or_new
from dalsegno.cli.output import print_message, print_note, short
from dalsegno.cli.printing import Format
from dalsegno.cli.reads import read_execution, read_status
from dalsegno.cli.references import REFERENCE
from dalsegno.cli.screen import console
from dalsegno.cli.watching import watch_to_rest
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

OneExecution = Annotated[
    str,
    typer.Argument(
        metavar="EXECUTION", help=f"The execution: {REFERENCE}; or --filter.", autocompletion=complete_execution
    ),
]
Which = Annotated[
    str, typer.Option("--filter", "-f", metavar="TERMS", help="Instead of one: all that match these terms.")
]
Rate = Annotated[int, typer.Option("--rate", min=0, max=1000, help="With --filter: how many a second at most.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")]
Wait = Annotated[
    bool, typer.Option("--wait", "-w", help="Watch it until it is at rest; the exit code shows its state.")
]
WaitDelegates = Annotated[
    bool, typer.Option("--wait-delegates", help="Wait until delegated actions have been completed, too.")
]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", metavar="TASK", help="Run it again. Repeatable.")]
TaskInputs = Annotated[
    list[str] | None, typer.Option("--input", metavar="[TASK=]JSON", help="New input of a task. Repeatable.")
]
Items = Annotated[
    list[str] | None, typer.Option("--item", metavar="[TASK=]INDEX", help="Only this item, from 0. Repeatable.")
]
ItemInputs = Annotated[
    list[str] | None,
    typer.Option("--item-input", metavar="[TASK=][INDEX=]JSON", help="New input of an item. Repeatable."),
]
Reset = Annotated[
    list[str] | None, typer.Option("--reset", metavar="TASK", help="Run all items again, with a new list of items.")
]
NoReset = Annotated[
    list[str] | None, typer.Option("--no-reset", metavar="TASK", help="Run only the items that failed.")
]
ChildFailed = Annotated[
    list[str] | None,
    typer.Option("--child-failed", metavar="TASK", help="Run only what failed in its sub-workflow."),
]
Variables = Annotated[
    str, typer.Option("--env", metavar="FILE|JSON", help="Variables to merge into the environment from now on.")
]


IsDone = Callable[[execution_pb2.Execution], bool]


@dataclass(frozen=True, slots=True)
class Shared:
    """The options that every operation has."""

    execution: str
    filter: str
    rate: int
    expected_revision: int
    dry_run: bool
    wait: bool
    server: str
    comment: str
    request_id: str
    output: Format


def pause(
    execution: OneExecution = "",
    wait_delegates: WaitDelegates = False,
    filter: Which = "",
    rate: Rate = 0,
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    wait: Wait = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Pause: nothing new starts; after the last running action it is PAUSED. With --wait exit code 0: PAUSED."""
    shared = Shared(execution, filter, rate, expected_revision, dry_run, wait, server, comment, request_id, output)
    delegates = operation_pb2.DELEGATES_WAIT if wait_delegates else operation_pb2.DELEGATES_UNSPECIFIED
    operate("Pause", messages.PauseExecutionRequest(delegates=delegates), shared, _is(PAUSED))


def resume(
    execution: OneExecution = "",
    task: Tasks = None,
    input: TaskInputs = None,
    item: Items = None,
    item_input: ItemInputs = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip",
            metavar="TASK",
            help="Skip this failed task and continue after it, with the result of --result. Repeatable.",
        ),
    ] = None,
    result: Annotated[
        list[str] | None, typer.Option("--result", metavar="[TASK=]JSON", help="The result of a skipped task.")
    ] = None,
    leave: Annotated[
        list[str] | None, typer.Option("--leave", metavar="TASK", help="Leave this task unchanged. Repeatable.")
    ] = None,
    reset: Reset = None,
    no_reset: NoReset = None,
    child_failed: ChildFailed = None,
    stop_at: StopAt = None,
    env: Variables = "",
    filter: Which = "",
    rate: Rate = 0,
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    wait: Wait = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Continue a paused execution; run tasks that failed again, skip them, or leave them unchanged."""
    shared = Shared(execution, filter, rate, expected_revision, dry_run, wait, server, comment, request_id, output)
    typed = TaskOptions(
        run=task or (),
        skip=skip or (),
        leave=leave or (),
        inputs=input or (),
        items=item or (),
        item_inputs=item_input or (),
        results=result or (),
        reset=reset or (),
        no_reset=no_reset or (),
        child_failed=child_failed or (),
    )
    request = messages.ResumeExecutionRequest(
        tasks=resume_tasks(typed), environment_overlay=object_text(env), stop_at=stop_at or ()
    )
    operate("Resume", request, shared)


def cancel(
    execution: OneExecution = "",
    wait_delegates: WaitDelegates = False,
    terminate: Annotated[bool, typer.Option("--terminate", help="End it at once.")] = False,
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="With --terminate: CANCELLED, SUCCESS or ERROR.")
    ] = "",
    message: Annotated[
        str, typer.Option("--message", help="With --terminate: the reason that the execution shows.")
    ] = "",
    result: Annotated[str, typer.Option("--result", metavar="JSON", help="With --terminate: the output.")] = "",
    filter: Which = "",
    rate: Rate = 0,
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    wait: Wait = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Cancel: nothing new starts; after the last running action it is CANCELLED. With --terminate it ends at once."""
    shared = Shared(execution, filter, rate, expected_revision, dry_run, wait, server, comment, request_id, output)
    delegates = operation_pb2.DELEGATES_WAIT if wait_delegates else operation_pb2.DELEGATES_UNSPECIFIED
    request = messages.CancelExecutionRequest(delegates=delegates)
    if terminate:
        request.terminate.CopyFrom(
            operation_pb2.Terminate(state=_end_state(state), message=message, output=_json(result, "--result"))
        )
    elif state or message or result:
        raise CommandError("--state, --message and --result go with --terminate")
    operate("Cancel", request, shared, _is(exit_code_of(request.terminate.state or _CANCELLED)))


def context(
    execution: Annotated[
        str,
        typer.Argument(metavar="EXECUTION", help=f"The execution: {REFERENCE}.", autocompletion=complete_execution),
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", "-i", metavar="KEY=VALUE", help="A new value, read as by `start -i`. Repeatable."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="KEY", help="Remove this value. Repeatable.")
    ] = None,
    task: Annotated[
        str, typer.Option("--task", "-t", help="Edit what this ended task published; else variables.")
    ] = "",
    expected_revision: Expected = 0,
    dry_run: DryRun = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Edit the values that later tasks of a paused or completed execution read."""
    values = read_input(pairs or (), "")
    request = messages.UpdateContextRequest(task=task, set=encode_json(values) if values else "", unset=unset or ())
    shared = Shared(execution, "", 0, expected_revision, dry_run, False, server, comment, request_id, output)
    operate("", request, shared)


def operate(verb: str, request: Any, shared: Shared, is_done: IsDone | None = None) -> None:
    """Request the operation for one execution or, with this verb, for many, and print its outcome.

    `is_done`: whether an execution is where the operation wants it; with --wait that counts as success. None: SUCCESS.
    """
    if bool(shared.execution) == bool(shared.filter):
        raise CommandError("give either the id of an execution or a --filter", "`dalsegno list` shows ids")
    request.comment, request.dry_run = shared.comment, shared.dry_run
    request.request_id = request_id_or_new(shared.request_id)
    if shared.filter:
        if shared.wait or shared.expected_revision:
            raise CommandError("--wait and --expected-revision go with one execution, not with --filter")
        bulk = Bulk(verb, shared.filter, shared.rate, shared.output)
        raise typer.Exit(call(shared.server, lambda connection: run_bulk(connection, request, bulk)))
    request.execution_id, request.expected_revision = shared.execution, shared.expected_revision
    done = is_done or _is(SUCCESS)
    raise typer.Exit(call(shared.server, lambda connection: _operate_on_one(connection, request, shared, done)))


def _is(exit_code: int) -> IsDone:
    return lambda execution: exit_code_of(execution.state) == exit_code


async def _operate_on_one(connection: Connection, request: Any, shared: Shared, is_done: IsDone) -> int:
    method: Callable[..., Any] = getattr(connection.executions, request.DESCRIPTOR.name.removesuffix("Request"))
    answer = await ask(method, request, RETRY_S)
    if shared.dry_run:
        print_dry_run(shared.output, answer.dry_run, request.execution_id)
        return SUCCESS
    execution: execution_pb2.Execution = answer.execution
    for left in getattr(answer, "left_paused", ()):
        console(error=True).print_line(f"stays PAUSED: {left_paused_line(left)}: choose how it continues")
        print_note(f"dalsegno resume {left.execution_id} --task TASK, or --skip TASK --result JSON")
    if not shared.wait:
        print_state(shared.output, execution)
        return SUCCESS
    out = console(error=shared.output is not Format.TABLE)
    await watch_to_rest(connection, execution.id, out, stop_at_pause=True)
    execution = await read_execution(connection, execution.id)
    print_state(shared.output, execution)
    if shared.output is Format.TABLE:
        for line in advise(await read_status(connection, execution), shared.server):
            print_note(line)
    return SUCCESS if is_done(execution) else exit_code_of(execution.state) or ERROR


def print_state(form: Format, execution: execution_pb2.Execution) -> None:
    """Print the state of an execution and what it waits for."""
    if form is Format.TABLE:
        awaited = ", ".join(each.removeprefix(f"{execution.id}.") for each in execution.waiting_for)
        more = f", and {execution.further_waiting_for} more" if execution.further_waiting_for else ""
        waits = f"  waits for: {short(awaited, 200)}{more}" if awaited else ""
        place = f"  {told}" if (told := place_of(execution)) else ""
        console().print_line(f"{execution.id}  {execution_state(execution.state)}{place}{waits}")
    else:
        print_message(form, execution)


_CANCELLED = execution_pb2.EXECUTION_STATE_CANCELLED
_END_STATES = ("CANCELLED", "SUCCESS", "ERROR")


def _end_state(name: str) -> execution_pb2.ExecutionState.ValueType:
    if name.upper() not in ("", *_END_STATES):
        raise CommandError(f"--state {name}: none of {', '.join(_END_STATES)}")
    return execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{name.upper() or 'CANCELLED'}")


def object_text(source: str) -> str:
    """Return an object from a file or a text as JSON text; "" for none. Raises CommandError."""
    return encode_json(read_object(source)) if source else ""


def _json(text: str, option: str) -> str:
    try:
        return text and encode_json(decode_json(text))
    except ValueError as problem:
        raise CommandError(f"{option} is not JSON: {problem}", f"a JSON text has quotes: {option} '\"done\"'") from None


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    example = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
    commands: Sequence[tuple[Callable[..., None], str]] = (
        (pause, f"pause {example} --comment 'the harbour is closed'"),
        (resume, f'resume {example} --task fetch --item 3 --item-input \'{{"url": "https://example.com"}}\''),
        (cancel, f"cancel {example} --comment 'not needed any more'"),
        (context, f"context {example} --set days=3"),
    )
    for command, words in commands:
        app.command(epilog=f"example:  dalsegno {words}")(command)
