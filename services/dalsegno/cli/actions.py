"""`dalsegno action`: list actions, run one without a workflow, complete one from outside."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from dalsegno.cli.completion import complete_action, complete_execution
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.exits import CANCELLED, ERROR, SUCCESS, CommandError
from dalsegno.cli.inputs import decode_json, encode_json, read_input, read_labels
from dalsegno.cli.lines import why
from dalsegno.cli.options import (
    Comment,
    Filter,
    Labels,
    Limit,
    Namespace,
    Output,
    Pairs,
    RequestId,
    Secrets,
    Server,
    Source,
    call,
    request_id_or_new,
)
from dalsegno.cli.output import print_limit, print_message, print_note, print_rows, reason, short
from dalsegno.cli.paging import page_size, read_pages
from dalsegno.cli.printing import Format
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.screen import console
from dalsegno.cli.times import span
from dalsegno.cli.values import enum_name
from dalsegno.v1 import action_service_pb2 as messages
from dalsegno.v1 import definition_pb2, execution_pb2

app = typer.Typer(no_args_is_help=True, help="List actions, run one without a workflow, complete one from outside.")

WAIT_S = 20.0
"""How long one call waits: less than the time-outs of proxies."""

_EXIT_CODES = {
    execution_pb2.ACTION_STATE_SUCCESS: SUCCESS,
    execution_pb2.ACTION_STATE_ERROR: ERROR,
    execution_pb2.ACTION_STATE_CANCELLED: CANCELLED,
}


Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds that each attempt may take; 0: no limit.")]
Retries = Annotated[int, typer.Option("--retry", min=0, max=1000, help="How many more attempts follow a failure.")]
RetryDelay = Annotated[float, typer.Option("--retry-delay", min=0, help="Seconds before each of them.")]
SafeRerun = Annotated[
    bool | None,
    typer.Option(
        "--safe-rerun/--no-safe-rerun",
        help="Whether it may run again if its executor is lost; default: as the action says.",
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target", metavar="TARGET", help="The executors that may run it: an id, or labels such as zone=north."
    ),
]


@app.command("list", epilog="example:  dalsegno action list --filter kind=STANDARD")
def list_actions(
    filter: Filter = "",
    limit: Limit = 0,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List the actions that tasks can name."""

    async def fetch(connection: Connection) -> list[definition_pb2.Action]:
        return await read_pages(
            lambda token: ask(
                connection.actions.ListActions,
                messages.ListActionsRequest(page_size=page_size(limit), page_token=token, filter=filter),
                RETRY_S,
            ),
            lambda page: page.actions,
            limit,
        )

    found = call(server, fetch)
    rows = [(each.name, _kind(each), "yes" if each.safe_to_rerun else "no", _parameters(each)) for each in found]
    print_rows(output, found, ("NAME", "KIND", "SAFE TO RERUN", "INPUT"), rows)
    print_limit(found, limit)


@app.command("run", epilog="example:  dalsegno action run std.echo -i output=hello")
def run_action(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The full name of the action, such as std.http.", autocompletion=complete_action
        ),
    ],
    pairs: Pairs = None,
    source: Source = "",
    timeout_s: Timeout = 0,
    retries: Retries = 0,
    delay_s: RetryDelay = 0,
    safe: SafeRerun = None,
    target: Target = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for its end.")] = True,
    labels: Labels = None,
    secrets: Secrets = None,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Run an action without a workflow, and show its result. Exit code 0: SUCCESS, 1: ERROR, 3: CANCELLED.

    With --retry it shows the last attempt; `dalsegno action attempts` lists all.
    """
    request = messages.RunActionRequest(
        namespace=namespace,
        action=name,
        input=encode_json(read_input(pairs or (), source)),
        labels=read_labels(labels or ()),
        secrets=secrets or (),
        comment=comment,
        request_id=request_id_or_new(request_id),
        safe_to_rerun=safe,
        target=target,
    )
    if timeout_s:
        request.timeout.CopyFrom(_duration(timeout_s))
    if retries:
        request.retry.CopyFrom(messages.RetryPolicy(count=retries, delay=_duration(delay_s)))

    async def run(connection: Connection) -> execution_pb2.ActionExecution:
        started = await ask(connection.actions.RunAction, request, RETRY_S)
        running = started.action_execution
        return await _wait_for_end(connection, running) if wait else running

    ended = call(server, run)
    print_message(output, ended)
    if wait:
        raise typer.Exit(_EXIT_CODES[ended.state])


@app.command(epilog="example:  dalsegno action wait 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.1.0.1")
def wait(
    action: Annotated[str, typer.Argument(metavar="ID", help="The id of the action execution.")],
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """Wait until an action execution has ended, and show it. Exit code 0: SUCCESS, 1: ERROR, 3: CANCELLED."""
    running = execution_pb2.ActionExecution(id=action)
    ended = call(server, lambda connection: _wait_for_end(connection, running))
    print_message(output, ended)
    raise typer.Exit(_EXIT_CODES[ended.state])


@app.command(epilog="example:  dalsegno action cancel 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.1.0.1")
def cancel(
    action: Annotated[str, typer.Argument(metavar="ID", help="The id of the action execution.")],
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Cancel an action execution: its executor stops it. Its workflow, if it has one, continues."""
    request = messages.CancelActionRequest(
        action_execution_id=action, comment=comment, request_id=request_id_or_new(request_id)
    )
    answer = call(server, lambda connection: ask(connection.actions.CancelAction, request, RETRY_S))
    _print_state(output, answer.action_execution)


@app.command(epilog="example:  dalsegno action attempts 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.3")
def attempts(
    execution: Annotated[
        str,
        typer.Argument(
            metavar="[EXECUTION[.TASK]]",
            help="An execution, or a task of it; none: the actions without a workflow.",
            autocompletion=complete_execution,
        ),
    ] = "",
    filter: Filter = "",
    limit: Limit = 100,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List the action executions of an execution or of one of its tasks: every attempt of every item.

    Without an execution, list those that belong to no workflow, the newest first.

    In a fork, those that ended before it began are copied: no executor ran them for it.
    """
    execution_id, _, task = execution.partition(".")
    if task and not task.isdigit():
        raise CommandError(
            f"{execution}: not of the form EXECUTION or EXECUTION.TASK", "`dalsegno tasks` shows the numbers"
        )

    async def fetch(connection: Connection) -> list[execution_pb2.ActionExecution]:
        return await read_pages(
            lambda token: ask(
                connection.actions.ListActionExecutions,
                messages.ListActionExecutionsRequest(
                    execution_id=execution_id,
                    task_number=int(task or 0),
                    page_size=page_size(limit),
                    page_token=token,
                    filter=filter,
                    full=output is not Format.TABLE,
                ),
                RETRY_S,
            ),
            lambda page: page.action_executions,
            limit,
        )

    found = call(server, fetch)
    rows = [_attempt_row(each) for each in found]
    columns = ("TASK.ITEM.ATTEMPT", "TASK", "ACTION", "STATE", "TOOK", "EXECUTOR", "COMMENT", "INFO")
    print_rows(output, found, columns, rows)
    print_limit(found, limit)
    if not found and execution_id and output is Format.TABLE:
        print_note(f"sub-workflows are executions: dalsegno list --filter parent={execution_id}")


@app.command(epilog="example:  dalsegno action show 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.3.0.1")
def show(
    action: Annotated[str, typer.Argument(metavar="ID", help="The id of the action execution.")],
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """Show one action execution with its input and result."""
    request = messages.GetActionExecutionRequest(action_execution_id=action)
    answer = call(server, lambda connection: ask(connection.actions.GetActionExecution, request, RETRY_S))
    print_message(output, answer.action_execution)


@app.command(epilog="example:  dalsegno action complete 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.3.0.1 --result true")
def complete(
    action: Annotated[str, typer.Argument(metavar="[ID]", help="Its id, unless --token or --alias is given.")] = "",
    token: Annotated[str, typer.Option("--token", help="The task token that the action received.")] = "",
    alias: Annotated[str, typer.Option("--alias", help="The name that it chose when it was delegated.")] = "",
    namespace: Namespace = "",
    result: Annotated[str, typer.Option("--result", metavar="JSON", help="Its result.")] = "",
    error: Annotated[str, typer.Option("--error", metavar="TEXT", help="It failed, with this message.")] = "",
    cancelled: Annotated[bool, typer.Option("--cancelled", help="It was cancelled.")] = False,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """End an action execution from outside: SUCCESS, unless --error or --cancelled is given. Its workflow continues."""
    _check_one(action, token, alias)
    request = messages.CompleteActionRequest(
        action_execution_id=action,
        task_token=token,
        alias=alias,
        namespace=namespace,
        outcome=_outcome(error, cancelled),
        result=_result(result),
        error=error,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )
    answer = call(server, lambda connection: ask(connection.actions.CompleteAction, request, RETRY_S))
    _print_state(output, answer.action_execution)


@app.command(epilog="example:  dalsegno action update 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.3.0.1 --paused")
def update(
    action: Annotated[str, typer.Argument(metavar="[ID]", help="Its id, unless --token or --alias is given.")] = "",
    token: Annotated[str, typer.Option("--token", help="The task token that the action received.")] = "",
    alias: Annotated[str, typer.Option("--alias", help="The name that it chose when it was delegated.")] = "",
    namespace: Namespace = "",
    paused: Annotated[bool, typer.Option("--paused/--running", help="Its state now.")] = True,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Report that an action execution is paused or runs again, without ending it."""
    _check_one(action, token, alias)
    request = messages.UpdateActionRequest(
        action_execution_id=action,
        task_token=token,
        alias=alias,
        namespace=namespace,
        state=execution_pb2.ACTION_STATE_PAUSED if paused else execution_pb2.ACTION_STATE_RUNNING,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )
    answer = call(server, lambda connection: ask(connection.actions.UpdateAction, request, RETRY_S))
    _print_state(output, answer.action_execution)


def _print_state(form: Format, action: execution_pb2.ActionExecution) -> None:
    """Print the state of an action execution."""
    if form is Format.TABLE:
        console().print_line(f"{action.id}  {_state(action)}")
    else:
        print_message(form, action)


def _attempt_row(each: execution_pb2.ActionExecution) -> tuple[str, ...]:
    return (
        f"{each.task_number}.{each.item}.{each.attempt}" if each.task_number else each.id,
        each.task_name,
        each.action,
        _state(each),
        span(each.started_at, each.ended_at),
        "(copied)" if each.copied else each.executor_id,
        short(why(each.comment, each.actor)) if each.comment else "",
        reason(each.error or _awaited(each)),
    )


def _awaited(action: execution_pb2.ActionExecution) -> str:
    if action.waiting_for:
        return f"waits for: {action.waiting_for}"
    is_open = action.delegated and action.state not in _EXIT_CODES
    return "waits to be completed" if is_open else ""


def _check_one(action: str, token: str, alias: str) -> None:
    if [bool(action), bool(token), bool(alias)].count(True) != 1:
        raise CommandError(
            "give either the id of the action execution, or its --token or --alias",
            "`dalsegno action attempts` shows ids",
        )


async def _wait_for_end(
    connection: Connection, running: execution_pb2.ActionExecution
) -> execution_pb2.ActionExecution:
    """Wait, in calls of WAIT_S each. Return the last attempt."""
    COMMAND.exit_hint = f"{running.id} continues; see it with: dalsegno action show {running.id}"
    request = messages.WaitActionRequest(action_execution_id=running.id, timeout=_duration(WAIT_S))
    while True:
        answer = await ask(connection.actions.WaitAction, request, RETRY_S)
        if answer.ended:
            COMMAND.exit_hint = ""
            return answer.action_execution


def _duration(length_s: float) -> Duration:
    return Duration(seconds=int(length_s), nanos=round(length_s % 1 * 1e9))


def _outcome(error: str, cancelled: bool) -> messages.CompletionOutcome.ValueType:
    if cancelled:
        return messages.COMPLETION_OUTCOME_CANCELLED
    return messages.COMPLETION_OUTCOME_FAILED if error else messages.COMPLETION_OUTCOME_SUCCEEDED


def _result(text: str) -> str:
    try:
        return text and encode_json(decode_json(text))
    except ValueError as problem:
        raise CommandError(f"--result is not JSON: {problem}", "a JSON text has quotes: --result '\"done\"'") from None


def _parameters(action: definition_pb2.Action) -> str:
    names = [_parameter(each) for each in action.parameters]
    return ", ".join([*names, *(["…"] if action.accepts_any else [])])


def _parameter(parameter: definition_pb2.Parameter) -> str:
    if parameter.required:
        return parameter.name
    if parameter.default in {"", "null"}:
        return f"[{parameter.name}]"
    return f"{parameter.name}={short(parameter.default, 20)}"


def _kind(action: definition_pb2.Action) -> str:
    return enum_name(definition_pb2.ActionKind.Name(action.kind), "ActionKind").lower().replace("_", "-")


def _state(action: execution_pb2.ActionExecution) -> str:
    return enum_name(execution_pb2.ActionState.Name(action.state), "ActionState")
