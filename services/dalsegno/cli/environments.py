"""`dalsegno environment`: named sets of values that executions read at their start."""

from __future__ import annotations

from typing import Annotated

import typer

from dalsegno.cli.completion import complete_environment
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.exits import CommandError
from dalsegno.cli.inputs import encode_json, read_input
from dalsegno.cli.options import (
    Comment,
    Expected,
    Filter,
    Limit,
    Namespace,
    Output,
    Pairs,
    RequestId,
    Secrets,
    Server,
    call,
    request_id_or_new,
)
from dalsegno.cli.output import print_limit, print_message, print_rows
from dalsegno.cli.paging import page_size, read_pages
from dalsegno.cli.printing import Format
from dalsegno.cli.screen import console
from dalsegno.cli.times import clock
from dalsegno.v1 import environment_service_pb2 as messages

app = typer.Typer(no_args_is_help=True, help="Store named sets of values that executions read at their start.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the environment.", autocompletion=complete_environment)
]


@app.command(epilog="example:  dalsegno environment put staging -i region=north -i replicas=3")
def put(
    name: Name,
    source: Annotated[str, typer.Argument(metavar="[FILE|JSON]", help="All values: a file, a JSON text, or -.")] = "",
    pairs: Pairs = None,
    secrets: Secrets = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    expected_revision: Annotated[
        int | None,
        typer.Option("--expected-revision", min=0, help="Refuse unless it is at this revision; 0: unless it is new."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Create an environment, or replace all its values. A --secret without a value keeps the one that is stored."""
    if not (source or pairs or secrets):
        told = "no values: an environment that is there would lose all of its values"
        raise CommandError(told, "give -i key=value, a file, or '{}' for one without values")
    request = messages.PutEnvironmentRequest(
        namespace=namespace,
        name=name,
        description=description,
        variables=encode_json(read_input(pairs or (), source)),
        secrets=secrets or (),
        expected_revision=expected_revision,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )
    answer = call(server, lambda connection: ask(connection.environments.PutEnvironment, request, RETRY_S))
    print_message(output, answer.environment)


@app.command(epilog="example:  dalsegno environment get staging --output json")
def get(
    name: Name,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    output: Output = Format.TABLE,
) -> None:
    """Show an environment with its values."""
    request = messages.GetEnvironmentRequest(namespace=namespace, name=name)
    answer = call(server, lambda connection: ask(connection.environments.GetEnvironment, request, RETRY_S))
    print_message(output, answer.environment)


@app.command("list", epilog="example:  dalsegno environment list")
def list_environments(
    filter: Filter = "",
    limit: Limit = 100,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List environments."""

    async def fetch(connection: Connection) -> list[messages.Environment]:
        return await read_pages(
            lambda token: ask(
                connection.environments.ListEnvironments,
                messages.ListEnvironmentsRequest(page_size=page_size(limit), page_token=token, filter=filter),
                RETRY_S,
            ),
            lambda page: page.environments,
            limit,
        )

    found = call(server, fetch)
    rows = [(each.namespace, each.name, each.revision, each.description, clock(each.updated_at)) for each in found]
    print_rows(output, found, ("NAMESPACE", "NAME", "REVISION", "DESCRIPTION", "UPDATED"), rows)
    print_limit(found, limit)


@app.command(epilog="example:  dalsegno environment delete staging")
def delete(
    name: Name,
    expected_revision: Expected = 0,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
) -> None:
    """Delete an environment. Executions that have read it keep what they read."""
    request = messages.DeleteEnvironmentRequest(
        namespace=namespace,
        name=name,
        expected_revision=expected_revision,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )
    call(server, lambda connection: ask(connection.environments.DeleteEnvironment, request, RETRY_S))
    console().print_line(f"deleted {name}")
