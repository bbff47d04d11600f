"""The options that commands share, and how a command that talks to a server is run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import uuid4

import grpc
import typer

from dalsegno.cli.connection import DEFAULT_SERVER, Connection, connect
from dalsegno.cli.failures import print_failure
from dalsegno.cli.printing import Format

T = TypeVar("T")

Server = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="DALSEGNO_SERVER",
        metavar="HOST:PORT",
        help="The server to talk to.",
    ),
]
OptionalServer = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="DALSEGNO_SERVER",
        metavar="HOST:PORT",
        help=f"The server to talk to; else the one at {DEFAULT_SERVER}, else a private one in a temporary folder.",
    ),
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", envvar="DALSEGNO_NAMESPACE", help="The namespace; the default has no name."),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--set", "-i", metavar="KEY=VALUE", help="One input; the value is JSON, or else a text. Repeatable."),
]
Source = Annotated[
    str,
    typer.Option("--input", metavar="FILE|JSON", help="All inputs: a JSON or YAML file, a JSON text, or -."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="A label to find it by. Repeatable.")
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="How many at most; 0 for all.")]
Filter = Annotated[
    str,
    typer.Option("--filter", "-f", metavar="TERMS", help="Terms that must all hold, such as 'state=ERROR'."),
]
RequestId = Annotated[
    str,
    typer.Option("--request-id", help="Repeated within 24 hours, it is done once. Made up unless given."),
]
Params = Annotated[str, typer.Option("--params", metavar="FILE|JSON", help="What the language takes beside the input.")]
Environment = Annotated[str, typer.Option("--environment", "-e", help="The stored environment that it reads.")]
Expected = Annotated[int, typer.Option("--expected-revision", min=0, help="Refuse unless it is at this revision.")]


def call(server: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run a command that talks to a server to its end. What the server refuses is said, and ends the program."""

    async def connected() -> T:
        async with connect(server) as connection:
            return await work(connection)

    try:
        return asyncio.run(connected())
    except grpc.aio.AioRpcError as error:
        raise typer.Exit(print_failure(error, server)) from None


def request_id_or_new(given: str) -> str:
    """A request id: with one, a call that got no answer can be made again without being done twice."""
    return given or str(uuid4())
