"""`dalsegno run`: run a workflow from a file, on a running server or on a private one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.text import Text

from dalsegno.cli.advice import advise
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask, connect
from dalsegno.cli.execution_view import execution_state
from dalsegno.cli.exits import CommandError, exit_code_of
from dalsegno.cli.failures import print_failure
from dalsegno.cli.inputs import ANY, TypedInput, Types, encode_json, read_document, read_input, read_labels
from dalsegno.cli.options import (
    Comment,
    Environment,
    Labels,
    Namespace,
    OptionalServer,
    Output,
    Pairs,
    Params,
    Secrets,
    Source,
    request_id_or_new,
    types_of_workflow,
)
from dalsegno.cli.output import print_message, print_note, state_text
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.cli.problems import print_warnings
from dalsegno.cli.reads import read_status, read_whole
from dalsegno.cli.screen import console
from dalsegno.cli.serving import is_there, private_server, unless_failing
from dalsegno.cli.showing import print_capped
from dalsegno.cli.times import span
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
            help="The workflow of the file; default: the first. For Orquesta a name; default: the file's.",
        ),
    ] = "",
    environment: Environment = "",
    params: Params = "",
    labels: Labels = None,
    secrets: Secrets = None,
    server: OptionalServer = "",
    namespace: Namespace = "",
    comment: Comment = "",
    output: Output = Format.TABLE,
) -> None:
    """Run a workflow and watch it to its end.

    Exit code 0: SUCCESS, 1: ERROR, 2: it could not be started, 3: CANCELLED, 4: PAUSED, 5: no server.
    """
    file = Path(workflow) if _is_file(workflow) else None
    definition = workflow_service_pb2.CreateDefinitionsRequest(namespace=namespace, request_id=request_id_or_new(""))
    if file:
        text = read_document(file)
        definition.documents.add(file=str(file), text=text, name=_name_to_give(text, name, file))
    start = execution_service_pb2.StartExecutionRequest(
        namespace=namespace,
        workflow=name if file else workflow,
        params=encode_json(read_input((), params)) if params else "",
        environment=environment,
        labels=read_labels(labels or ()),
        secrets=secrets or (),
        comment=comment,
        request_id=request_id_or_new(""),
    )
    plan = Plan(definition, start, TypedInput.of(pairs, source), output)
    raise typer.Exit(asyncio.run(_run(server, plan)))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how to print it."""

    definition: workflow_service_pb2.CreateDefinitionsRequest
    """The definitions to store first; without documents: none."""
    start: execution_service_pb2.StartExecutionRequest
    typed: TypedInput
    output: Format


async def _run(server: str, plan: Plan) -> int:
    if server or await is_there(DEFAULT_SERVER):
        return await run_at(server or DEFAULT_SERVER, plan, private=False)
    if not plan.definition.documents:
        raise CommandError(
            f"no server at {DEFAULT_SERVER}, so there are no stored workflows",
            "start one with `dalsegno serve`, name one with --server, or give a YAML file",
        )
    print_note(f"no server at {DEFAULT_SERVER}: starting a private one for this run")
    async with private_server(print_note) as own:
        return await unless_failing(own.supervisor, run_at(own.address, plan, private=True))


async def run_at(address: str, plan: Plan, *, private: bool) -> int:
    """Run a workflow on this server and show it until its end; print errors; return the exit code."""
    try:
        async with connect(address, is_private=private) as connection:
            return await _run_to_rest(connection, plan, private=private)
    except grpc.aio.AioRpcError as error:
        return print_failure(error, address)


async def _run_to_rest(connection: Connection, plan: Plan, *, private: bool) -> int:
    start, output = plan.start, plan.output
    if plan.definition.documents:
        stored = await ask(connection.workflows.CreateDefinitions, plan.definition, RETRY_S)
        print_warnings(stored.warnings, stored.further_warnings)
        start.workflow = start.workflow or _first_workflow(stored)
        types = next(
            (Types.of_defaults(each.parameters) for each in stored.workflows if each.name == start.workflow), ANY
        )
    else:
        types = await types_of_workflow(connection, start.namespace, start.workflow) if plan.typed.pairs else ANY
    start.input = plan.typed.text(types)
    started = (await ask(connection.executions.StartExecution, start, RETRY_S)).execution
    # For a program, standard output has nothing but the result.
    out = console(error=output is not Format.TABLE)
    await watch_to_rest(connection, started.id, out, stop_at_pause=True)
    execution = await read_whole(connection, started.id)
    if output is Format.TABLE and not PRINTING.key:
        print_end(execution, private=private)
    else:
        print_message(output, execution)
    if private and execution.state == execution_pb2.EXECUTION_STATE_PAUSED:
        print_note("it ends here, because its server was private; with `dalsegno serve` it could be resumed")
    elif not private:
        for line in advise(await read_status(connection, execution), connection.address):
            print_note(line)
    return exit_code_of(execution.state)


_LINES_MAX = 40
"""The number of lines of an output that are printed at most after a run."""


def print_end(execution: execution_pb2.Execution, *, private: bool) -> None:
    """Print the state of an execution, the reason, and the output."""
    out = console()
    took = span(execution.created_at, execution.ended_at)
    out.print()
    out.print(Text.assemble("state   ", state_text(execution_state(execution.state)), f" after {took}" if took else ""))
    if execution.state_info:
        first, *rest = execution.state_info.splitlines()
        out.print_line(f"reason  {first}", indent=8)
        for line in rest:
            out.print_block(line, indent=8)
    if not execution.output:
        return
    shown = pretty(plain(execution)["output"])
    if "\n" not in shown:
        out.print_line(f"output  {shown}", indent=8)
        return
    out.print("output")
    print_capped(out, shown, _LINES_MAX, "-o json prints all" if private else f"dalsegno output {execution.id}")


def _first_workflow(stored: workflow_service_pb2.CreateDefinitionsResponse) -> str:
    if not stored.workflows:
        raise CommandError(
            "the file defines actions only, no workflow",
            "store them with `dalsegno workflow create`, and run a workflow that uses them",
        )
    return stored.workflows[0].name


def _name_to_give(text: str, chosen: str, file: Path) -> str:
    """Return the name for a workflow of Orquesta (its tasks begin at the margin): the chosen one, else the name of the
    file. Return "" for files that contain a name."""
    if not re.search(r"^tasks\s*:", text, re.MULTILINE):
        return ""
    return chosen or ("" if re.search(r"^name\s*:", text, re.MULTILINE) else file.stem.lstrip("-") or "workflow")


def _is_file(text: str) -> bool:
    return text == "-" or text.endswith((".yaml", ".yml")) or "/" in text or Path(text).is_file()


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="example:  dalsegno run fan_out.yaml -i days=3")(run)
