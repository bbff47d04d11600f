"""`dalsegno run`: a workflow from its file to its end, on the server that is there or on one of our own."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated

import grpc
import typer

from dalsegno.cli.connection import DEFAULT_SERVER, PATIENCE_S, Connection, ask, connect
from dalsegno.cli.exits import SUCCESS, Complaint, exit_code_of
from dalsegno.cli.failures import print_failure
from dalsegno.cli.inputs import encode_json, read_document, read_input, read_labels
from dalsegno.cli.options import (
    Comment,
    Environment,
    Labels,
    Namespace,
    OptionalServer,
    Output,
    Pairs,
    Source,
    request_id_or_new,
)
from dalsegno.cli.output import print_message, print_note, state_text
from dalsegno.cli.picture import execution_state, seconds_of
from dalsegno.cli.printing import Format
from dalsegno.cli.problems import print_warnings
from dalsegno.cli.screen import console
from dalsegno.cli.serving import is_there, private_server, unless_failing
from dalsegno.cli.times import seconds
from dalsegno.cli.values import plain, pretty
from dalsegno.cli.watching import watch_to_rest
from dalsegno.v1 import execution_pb2, execution_service_pb2, workflow_service_pb2


def run(
    workflow: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A YAML file, or the name of a workflow.")],
    pairs: Pairs = None,
    source: Source = "",
    name: Annotated[
        str,
        typer.Option(
            "--workflow",
            "-w",
            help="Which workflow of the file, the first one unless given; for Orquesta its name: else the file's.",
        ),
    ] = "",
    environment: Environment = "",
    params: Annotated[
        str, typer.Option("--params", metavar="FILE|JSON", help="What the language takes beside the input.")
    ] = "",
    labels: Labels = None,
    server: OptionalServer = "",
    namespace: Namespace = "",
    comment: Comment = "",
    output: Output = Format.TABLE,
) -> None:
    """Run a workflow and watch it to its end.

    Exit code 0: SUCCESS, 1: ERROR, 2: it could not be started, 3: CANCELLED, 4: PAUSED, 5: no server.
    """
    file = Path(workflow) if _is_file(workflow) else None
    text = read_document(file) if file else ""
    definition = workflow_service_pb2.CreateDefinitionsRequest(
        namespace=namespace,
        text=text,
        name=_name_to_give(text, name, file) if file else "",
        request_id=request_id_or_new(""),
    )
    start = execution_service_pb2.StartExecutionRequest(
        namespace=namespace,
        workflow=name if file else workflow,
        input=encode_json(read_input(pairs or (), source)),
        params=encode_json(read_input((), params)) if params else "",
        environment=environment,
        labels=read_labels(labels or ()),
        comment=comment,
        request_id=request_id_or_new(""),
    )
    raise typer.Exit(asyncio.run(_run(server, definition, start, output)))


async def _run(
    server: str,
    definition: workflow_service_pb2.CreateDefinitionsRequest,
    start: execution_service_pb2.StartExecutionRequest,
    output: Format,
) -> int:
    if server or await is_there(DEFAULT_SERVER):
        return await run_at(server or DEFAULT_SERVER, definition, start, output, private=False)
    if not definition.text:
        raise Complaint(
            f"no server at {DEFAULT_SERVER}, so there are no stored workflows",
            "start one with `dalsegno serve`, name one with --server, or give a YAML file",
        )
    print_note(f"no server at {DEFAULT_SERVER}: starting a private one for this run")
    async with private_server(print_note) as own:
        running = run_at(own.address, definition, start, output, private=True)
        return await unless_failing(own.supervisor, running)


async def run_at(
    address: str,
    definition: workflow_service_pb2.CreateDefinitionsRequest,
    start: execution_service_pb2.StartExecutionRequest,
    output: Format,
    *,
    private: bool,
) -> int:
    """Run a workflow at this server, show it to its end, say what the server refuses; return the exit code."""
    try:
        async with connect(address, is_private=private) as connection:
            return await _run_to_rest(connection, definition, start, output, private=private)
    except grpc.aio.AioRpcError as error:
        return print_failure(error, address)


async def _run_to_rest(
    connection: Connection,
    definition: workflow_service_pb2.CreateDefinitionsRequest,
    start: execution_service_pb2.StartExecutionRequest,
    output: Format,
    *,
    private: bool,
) -> int:
    if definition.text:
        stored = await ask(connection.workflows.CreateDefinitions, definition, PATIENCE_S)
        print_warnings(stored.warnings, stored.further_warnings)
        start.workflow = start.workflow or _first_workflow(stored)
    started = (await ask(connection.executions.StartExecution, start, PATIENCE_S)).execution
    # Whoever wants the result for a program gets nothing else on standard output.
    out = console(error=output is not Format.TABLE)
    await watch_to_rest(connection, started.id, out, stop_at_pause=True)
    request = execution_service_pb2.GetExecutionRequest(execution_id=started.id)
    execution = (await ask(connection.executions.GetExecution, request, PATIENCE_S)).execution
    if output is Format.TABLE:
        print_end(execution)
    else:
        print_message(output, execution)
    _advise(execution, connection.address, private)
    return exit_code_of(execution.state)


def print_end(execution: execution_pb2.Execution) -> None:
    """How an execution ended, why, and with which output."""
    out = console()
    took_s = seconds_of(execution.ended_at) - seconds_of(execution.created_at)
    state = execution_state(execution.state)
    out.print()
    out.print(
        "state   ", state_text(state), f" after {seconds(took_s)}" if execution.HasField("ended_at") else "", sep=""
    )
    if execution.state_info:
        out.print("reason  " + "\n        ".join(execution.state_info.splitlines()), markup=False)
    if execution.output:
        shown = pretty(plain(execution)["output"])
        out.print("output  " + "\n        ".join(shown.splitlines()), markup=False)


def _advise(execution: execution_pb2.Execution, server: str, private: bool) -> None:
    if execution.state == execution_pb2.EXECUTION_STATE_PAUSED:
        if private:
            print_note("it ends here, for its server was a private one; under `dalsegno serve` it could be resumed")
        else:
            print_note(f"let it go on with: dalsegno resume {execution.id} --server {server}")
    elif exit_code_of(execution.state) != SUCCESS and not private:
        print_note(f"what happened: dalsegno history {execution.id} --server {server}")


def _first_workflow(stored: workflow_service_pb2.CreateDefinitionsResponse) -> str:
    if not stored.workflows:
        raise Complaint(
            "the file defines actions only, no workflow",
            "store them with `dalsegno workflow create`, and run a workflow that uses them",
        )
    return stored.workflows[0].name


def _name_to_give(text: str, chosen: str, file: Path) -> str:
    """Orquesta's files, which begin their tasks at the margin, need not say how their workflow is called: it is called
    as it is chosen, else as it says, else like the file. The other files say it, and are given nothing."""
    if not re.search(r"^tasks\s*:", text, re.MULTILINE):
        return ""
    return chosen or ("" if re.search(r"^name\s*:", text, re.MULTILINE) else file.stem.lstrip("-") or "workflow")


def _is_file(text: str) -> bool:
    return text == "-" or text.endswith((".yaml", ".yml")) or "/" in text or Path(text).is_file()


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="example:  dalsegno run fan_out.yaml -i days=3")(run)
