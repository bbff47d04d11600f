"""`dalsegno output`: one value of an execution, a task or an item, without formatting."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.execution_view import execution_state, task_state
from dalsegno.cli.exits import ERROR, CommandError
from dalsegno.cli.options import Output, Server, call
from dalsegno.cli.output import print_value, short
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.reads import read_actions, read_tasks, read_value, read_whole
from dalsegno.cli.values import enum_name, pick
from dalsegno.v1 import action_service_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages


def output(
    what: Annotated[
        str,
        typer.Argument(
            metavar="EXECUTION[.TASK[.ITEM[.ATTEMPT]]]",
            help="What to print: an execution's output, or the result of a task (number or name) or of an item.",
        ),
    ],
    exact: Annotated[
        bool,
        typer.Option("--exact", help="The exact bytes of a text: with control characters, without an added line end."),
    ] = False,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """Print one value: a text without quotes, anything else as JSON."""
    execution_id, *below = what.split(".")
    if len(below) > 3 or not all(each.isdigit() for each in below[1:]) or not all(below):
        raise CommandError(f"{what}: not of the form EXECUTION[.TASK[.ITEM[.ATTEMPT]]]", "for instance ID.fetch.3")
    value = json.loads(call(server, lambda connection: _read(connection, execution_id, below)))
    print_value(output, pick(value, PRINTING.key) if PRINTING.key else value, exact=exact)


async def _read(connection: Connection, execution_id: str, below: list[str]) -> str:
    """Return the value's JSON text. Raises CommandError when there is none."""
    if not below:
        return _output_of(await read_whole(connection, execution_id))
    number = await _number_of(connection, execution_id, below[0])
    if len(below) == 1:
        request = messages.GetTaskRequest(task_execution_id=f"{execution_id}.{number}")
        task = (await ask(connection.executions.GetTask, request, RETRY_S)).task
        if "result" in task.left_out:
            return await read_value(connection, messages.ReadValueRequest(task_execution_id=task.id, field="result"))
        return _result_of(task)
    return await _item_of(connection, execution_id, number, list(map(int, below[1:])))


async def _number_of(connection: Connection, execution_id: str, task: str) -> int:
    """Return the number of the last task of this name; a number is returned unchanged."""
    if task.isdigit():
        return int(task)
    found = await read_tasks(connection, execution_id, f"name={json.dumps(task)}")
    if not found:
        raise CommandError(f"{execution_id} has no task {task}", f"see which exist: dalsegno tasks {execution_id}")
    return found[-1].number


async def _item_of(connection: Connection, execution_id: str, number: int, numbers: list[int]) -> str:
    """Return the result of an item's last attempt, or of the given one; for a sub-workflow its output."""
    item, *attempt = numbers
    chosen = f"item={item}" + (f" attempt={attempt[0]}" if attempt else "")
    actions = await read_actions(connection, execution_id, chosen, task_number=number)
    if not actions:
        request = messages.ReadValueRequest(task_execution_id=f"{execution_id}.{number}", field="result")
        results = json.loads(await read_value(connection, request) or "null")
        if attempt or not isinstance(results, list) or item >= len(results):
            raise CommandError(
                f"{execution_id}.{number} has no item {'.'.join(map(str, numbers))}",
                f"see which exist: dalsegno action attempts {execution_id}.{number}",
            )
        return json.dumps(results[item], ensure_ascii=False)
    get = action_service_pb2.GetActionExecutionRequest(action_execution_id=actions[-1].id)
    action = (await ask(connection.actions.GetActionExecution, get, RETRY_S)).action_execution
    if "result" in action.left_out:
        return await read_value(connection, messages.ReadValueRequest(action_execution_id=action.id, field="result"))
    if not action.result:
        state = enum_name(execution_pb2.ActionState.Name(action.state), "ActionState")
        raise _nothing(action.id, "result", state, action.error)
    return action.result


def _output_of(execution: execution_pb2.Execution) -> str:
    if not execution.output:
        raise _nothing(execution.id, "output", execution_state(execution.state), execution.state_info)
    return execution.output


def _result_of(task: execution_pb2.TaskExecution) -> str:
    if not task.result:
        raise _nothing(task.id, "result", task_state(task.state), task.state_info)
    return task.result


def _nothing(identity: str, what: str, state: str, why: str) -> CommandError:
    return CommandError(f"{identity} has no {what}: it is {state}{f', {short(why, 500)}' if why else ''}", "", ERROR)


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="example:  dalsegno output 0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47.fetch.3")(output)
