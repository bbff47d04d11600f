"""`dalsegno inquiries|answer`: list the questions of workflows, and answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from dalsegno.cli.clean import one_line
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask, at_server
from dalsegno.cli.exits import CommandError
from dalsegno.cli.inputs import Types, encode_json, read_input
from dalsegno.cli.options import Comment, Filter, Limit, Output, RequestId, Server, call, request_id_or_new
from dalsegno.cli.output import print_limit, print_message, print_note, print_rows
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.reads import read_execution, read_executions, read_open_actions
from dalsegno.cli.screen import Screen, console
from dalsegno.cli.times import clock, due
from dalsegno.cli.values import enum_name
from dalsegno.cli.waits import Question, attempt_name, questions_of, route_of
from dalsegno.v1 import action_service_pb2, execution_pb2

_OPEN_EXECUTIONS = "state=RUNNING,PAUSING,PAUSED"
_TYPES = {"boolean": "true or false", "string": "a text", "array": "a list", "integer": "a whole number"}


def inquiries(
    execution: Annotated[str, typer.Argument(metavar="[EXECUTION]", help="Only those of this execution.")] = "",
    filter: Filter = "",
    limit: Limit = 100,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List the open questions of executions, the newest execution first."""
    found = call(server, lambda connection: _find(connection, execution, filter, limit))
    if output is not Format.TABLE or PRINTING.key:
        print_rows(output, [action for _, action in found], (), ())
        return
    out = console()
    for owner, action in found:
        _print_inquiry(out, owner, action, server)
    if not found:
        print_note("none")
    print_limit(found, limit)


def answer(
    which: Annotated[str, typer.Argument(metavar="ID", help="The inquiry, or its execution if that has only one.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE…|JSON]", help="The answer: its fields, or a JSON object.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Answer an inquiry; its execution continues. An answer that does not match the question is refused."""

    async def complete(connection: Connection) -> execution_pb2.ActionExecution:
        action = await _asked(connection, which)
        request = action_service_pb2.CompleteActionRequest(
            action_execution_id=action.id,
            outcome=action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
            result=encode_json(_read_answer(words or (), questions_of(action.action, action.input), which)),
            comment=comment,
            request_id=request_id_or_new(request_id),
        )
        return (await ask(connection.actions.CompleteAction, request, RETRY_S)).action_execution

    ended = call(server, complete)
    if output is Format.TABLE and not PRINTING.key:
        state = enum_name(execution_pb2.ActionState.Name(ended.state), "ActionState")
        console().print_line(f"{ended.id}  {state}")
        print_note(f"follow it with: dalsegno watch {ended.execution_id}{at_server(server)}")
    else:
        print_message(output, ended)


async def _find(
    connection: Connection, execution_id: str, chosen: str, limit: int
) -> list[tuple[execution_pb2.Execution, execution_pb2.ActionExecution]]:
    """Return the open inquiries with their executions, at most `limit` (0: all)."""
    if execution_id:
        owners = [await read_execution(connection, execution_id)]
    else:
        owners = await read_executions(connection, f"{_OPEN_EXECUTIONS} {chosen}".strip())
    found = [
        (status.execution, action)
        for status in await read_open_actions(connection, owners, "state=RUNNING,PAUSED delegated=true")
        for action in status.actions
        if questions_of(action.action, action.input)
    ]
    return found[:limit] if limit else found


async def _asked(connection: Connection, which: str) -> execution_pb2.ActionExecution:
    """Return the inquiry. Raises CommandError if an execution has no open inquiry, or several."""
    if "." in which:
        request = action_service_pb2.GetActionExecutionRequest(action_execution_id=which)
        return (await ask(connection.actions.GetActionExecution, request, RETRY_S)).action_execution
    found = [action for _, action in await _find(connection, which, "", 0)]
    if not found:
        raise CommandError(f"{which} has no open inquiry", "`dalsegno inquiries` lists them")
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise CommandError(f"{which} has {len(found)} open inquiries", f"answer one of them: {ids}")
    return found[0]


def _read_answer(words: Sequence[str], questions: Sequence[Question], which: str) -> dict[str, object]:
    if not words:
        asked = ", ".join(f"{each.name} ({each})" if each.text else each.name for each in questions)
        raise CommandError(
            f"{which} asks for {asked or 'a value'}", f"for instance: dalsegno answer {which} name=VALUE"
        )
    if len(words) == 1 and words[0].lstrip()[:1] == "{":
        return read_input((), words[0])
    return read_input(words, "", Types({each.name: each.kind for each in questions if each.kind}))


def _print_inquiry(
    out: Screen, owner: execution_pb2.Execution, action: execution_pb2.ActionExecution, server: str
) -> None:
    name = attempt_name(action.task_name, action.task_number, action.item, action.attempt)
    out.print_line(Text.assemble(action.id, "  ", (one_line(owner.workflow), "bold"), f"  {name}"))
    until = f", until {due(action.deadline)}" if action.HasField("deadline") else ""
    route = route_of(action.input)
    out.print_line(Text(f"  asked {clock(action.ready_at)}{until}{f', for {route}' if route else ''}"), indent=4)
    questions = questions_of(action.action, action.input)
    width = max(len(each.name) for each in questions)
    for each in questions:
        kind = _TYPES.get(each.kind, f"a {each.kind}" if each.kind else "any value")
        told = Text.assemble(f"  {each.name:{width}}  ", each.text, f" ({kind}{'' if each.required else ', or none'})")
        out.print_line(told, indent=width + 4)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    example = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
    app.command(epilog="example:  dalsegno inquiries --filter workflow=harbour.arrival")(inquiries)
    app.command(epilog=f"example:  dalsegno answer {example}.2.0.1 berth=3 pilot=true")(answer)
