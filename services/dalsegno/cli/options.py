"""The options that commands share, and how to run a command that calls a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import uuid4

import grpc
import typer

from dalsegno.cli.completion import complete_checkpoint, complete_environment
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask, connect
from dalsegno.cli.failures import print_failure
from dalsegno.cli.inputs import Types
from dalsegno.cli.printing import PRINTING, Format
from dalsegno.v1 import workflow_service_pb2

T = TypeVar("T")

VALUES = (
    'One input. [1, 2], {"a": 1}, "text", true, null and 3 are JSON, else it is a text: 4.10 too, and 007. '
    "Where the workflow has a default, the value fits its type. KEY='\"4.10\"' is a text, KEY:=JSON anything, "
    "KEY=@FILE the text of a file, KEY:=@FILE its JSON or YAML. Repeatable."
)


def _take_form(form: Format) -> Format:
    PRINTING.form = form
    return form


Server = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="DALSEGNO_SERVER",
        metavar="HOST:PORT",
        help="The server to call.",
    ),
]
OptionalServer = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="DALSEGNO_SERVER",
        metavar="HOST:PORT",
        help=f"The server to call; else the one at {DEFAULT_SERVER}, else a private one in a temporary folder.",
    ),
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", envvar="DALSEGNO_NAMESPACE", help="The namespace; the default has no name."),
]
Output = Annotated[
    Format,
    typer.Option("--output", "-o", callback=_take_form, help="The format of results and errors."),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--set", "-i", metavar="KEY=VALUE", help=VALUES),
]
Source = Annotated[
    str,
    typer.Option("--input", metavar="FILE|JSON", help="All inputs: a JSON or YAML file, a JSON text, or -."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="A label to find it by. Repeatable.")
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="The reason; stored in the history.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="The maximum number; 0: all.")]
Filter = Annotated[
    str,
    typer.Option("--filter", "-f", metavar="TERMS", help="Terms that must all hold, such as 'state=ERROR'."),
]
RequestId = Annotated[
    str,
    typer.Option("--request-id", help="Calls with one id within 24 hours are done once. Default: a new id."),
]
Params = Annotated[
    str, typer.Option("--params", metavar="FILE|JSON", help="Parameters of the language, beside the input.")
]
Environment = Annotated[
    str,
    typer.Option(
        "--environment", "-e", help="The stored environment that it reads.", autocompletion=complete_environment
    ),
]
StopAt = Annotated[
    list[str] | None,
    typer.Option(
        "--stop-at",
        metavar="NAME",
        help="PAUSED when it reaches this checkpoint; instead of those set before. Repeatable.",
        autocompletion=complete_checkpoint,
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="Encrypt the value of this name, and never show it. Repeatable."),
]
Expected = Annotated[int, typer.Option("--expected-revision", min=0, help="Refuse unless it is at this revision.")]


def call(server: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run a command that calls a server. Print an error of the server and end the program."""

    async def connected() -> T:
        async with connect(server) as connection:
            return await work(connection)

    try:
        return asyncio.run(connected())
    except grpc.aio.AioRpcError as error:
        raise typer.Exit(print_failure(error, server)) from None


async def types_of_workflow(connection: Connection, namespace: str, name: str, version: int = 0) -> Types:
    """Return the types of the defaults that a stored workflow declares. Raises grpc.aio.AioRpcError."""
    request = workflow_service_pb2.GetWorkflowRequest(namespace=namespace, name=name, version=version)
    answer = await ask(connection.workflows.GetWorkflow, request, RETRY_S)
    return Types.of_defaults(answer.workflow.parameters)


def request_id_or_new(given: str) -> str:
    """Return the request id, or a new one: with it a call without an answer can be repeated and is done once."""
    return given or str(uuid4())
