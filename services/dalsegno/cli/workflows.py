"""`dalsegno workflow`: store, check, list, show and delete definitions."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from dalsegno.cli.completion import complete_workflow
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.documents import read_documents, validate_here
from dalsegno.cli.exits import USAGE
from dalsegno.cli.options import Comment, Filter, Limit, Namespace, Output, RequestId, Server, call, request_id_or_new
from dalsegno.cli.output import print_limit, print_message, print_note, print_rows, print_value
from dalsegno.cli.paging import page_size, read_pages
from dalsegno.cli.printing import Format
from dalsegno.cli.problems import print_findings, print_warnings
from dalsegno.cli.screen import console
from dalsegno.cli.serving import is_there
from dalsegno.cli.times import clock
from dalsegno.cli.values import enum_name
from dalsegno.v1 import definition_pb2
from dalsegno.v1 import workflow_service_pb2 as messages

app = typer.Typer(no_args_is_help=True, help="Store, check, list, show and delete workflows.")

Documents = Annotated[
    list[Path], typer.Argument(metavar="FILE|DIR…", help="YAML files, folders of them, or - for standard input.")
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the workflow.", autocompletion=complete_workflow)
]
GivenName = Annotated[str, typer.Option("--name", help="The name, for files without a name (Orquesta): pack.name.")]
Strict = Annotated[bool, typer.Option("--strict", help="Treat warnings as problems.")]
Version = Annotated[int, typer.Option("--version", "-v", min=0, help="The version; 0: the newest.")]


@app.command(epilog="example:  dalsegno workflow create city_report.yaml packs/harbour")
def create(
    files: Documents,
    name: GivenName = "",
    strict: Strict = False,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Store the workflows, workbooks and ad-hoc actions of files and folders as new versions: all of them or none.

    Warnings name probable mistakes that can be stored: unknown functions and filters, text that belongs to no
    parameter. With --strict, files with warnings are not stored. All files together have at most 15 MB.
    """
    request = messages.CreateDefinitionsRequest(
        namespace=namespace,
        documents=read_documents(files, name),
        comment=comment,
        request_id=request_id_or_new(request_id),
        strict=strict,
    )
    stored = call(server, lambda connection: ask(connection.workflows.CreateDefinitions, request, RETRY_S))
    if output is not Format.TABLE:
        print_message(output, stored)
        return
    print_warnings(stored.warnings, stored.further_warnings)
    rows = [("workflow", each.name, each.version, _parameters(each)) for each in stored.workflows]
    rows += [("action", each.name, each.version, _parameters(each)) for each in stored.actions]
    print_rows(output, [], ("KIND", "NAME", "VERSION", "INPUT"), rows)
    if further := stored.further_workflows + stored.further_actions:
        print_note(f"and {further:,} more: dalsegno workflow list and dalsegno action list show all")


@app.command(epilog="example:  dalsegno workflow validate city_report.yaml packs/harbour")
def validate(
    files: Documents,
    name: GivenName = "",
    strict: Strict = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not call a server, even if one runs.")] = False,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    output: Output = Format.TABLE,
) -> None:
    """List all problems and warnings of files and folders, each with its line. Nothing is stored; it needs no server.

    Exit code 0: no problems, 2: some. Warnings name probable mistakes that can be stored (unknown functions and
    filters, text that belongs to no parameter), and actions and workflows that are unknown now, take other input, or
    are off. The server's are known; without a server, the built-in ones and those in the files. With --strict,
    warnings are problems.
    """
    request = messages.ValidateDefinitionsRequest(
        namespace=namespace, documents=read_documents(files, name), strict=strict
    )
    if not offline and not asyncio.run(is_there(server)):
        offline = True
        print_note(f"no server at {server}: only built-in actions and those that the files define are known")
    answer = (
        validate_here(request)
        if offline
        else call(server, lambda connection: ask(connection.workflows.ValidateDefinitions, request, RETRY_S))
    )
    if output is Format.TABLE:
        print_findings(answer, [each.file for each in request.documents])
    else:
        print_message(output, answer)
    if answer.problems:
        raise typer.Exit(USAGE)


@app.command("list", epilog="example:  dalsegno workflow list --filter tag=nightly")
def list_workflows(
    filter: Filter = "",
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Every version, not only the newest.")] = False,
    limit: Limit = 100,
    server: Server = DEFAULT_SERVER,
    output: Output = Format.TABLE,
) -> None:
    """List stored workflows."""

    async def fetch(connection: Connection) -> list[definition_pb2.Workflow]:
        return await read_pages(
            lambda token: ask(
                connection.workflows.ListWorkflows,
                messages.ListWorkflowsRequest(
                    page_size=page_size(limit), page_token=token, filter=filter, all_versions=all_versions
                ),
                RETRY_S,
            ),
            lambda page: page.workflows,
            limit,
        )

    found = call(server, fetch)
    rows = [
        (each.namespace, each.name, each.version, _language(each), _parameters(each), clock(each.created_at))
        for each in found
    ]
    print_rows(output, found, ("NAMESPACE", "NAME", "VERSION", "LANGUAGE", "INPUT", "CREATED"), rows)
    print_limit(found, limit)


@app.command(epilog="example:  dalsegno workflow show city_report --text > city_report.yaml")
def show(
    name: Name,
    version: Version = 0,
    text: Annotated[bool, typer.Option("--text", help="Only the document, exactly as stored.")] = False,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    output: Output = Format.TABLE,
) -> None:
    """Show one version of a workflow with its text."""
    request = messages.GetWorkflowRequest(namespace=namespace, name=name, version=version)
    answer = call(server, lambda connection: ask(connection.workflows.GetWorkflow, request, RETRY_S))
    if text:
        print_value(Format.TABLE, answer.workflow.text, exact=not sys.stdout.isatty())
    else:
        print_message(output, answer.workflow)


@app.command(epilog="example:  dalsegno workflow delete city_report --version 2")
def delete(
    name: Name,
    version: Annotated[int, typer.Option("--version", "-v", min=0, help="The version; 0: all of them.")] = 0,
    server: Server = DEFAULT_SERVER,
    namespace: Namespace = "",
    comment: Comment = "",
    request_id: RequestId = "",
) -> None:
    """Delete one version of a workflow, or all. Executions that run it continue with it."""
    request = messages.DeleteWorkflowRequest(
        namespace=namespace,
        name=name,
        version=version,
        comment=comment,
        request_id=request_id_or_new(request_id),
    )
    answer = call(server, lambda connection: ask(connection.workflows.DeleteWorkflow, request, RETRY_S))
    console().print_line(f"deleted {name}: {', '.join(f'version {each}' for each in answer.versions)}")


def _parameters(described: definition_pb2.Workflow | definition_pb2.Action) -> str:
    return ", ".join(each.name if each.required else f"{each.name}={each.default}" for each in described.parameters)


def _language(workflow: definition_pb2.Workflow) -> str:
    return enum_name(definition_pb2.Language.Name(workflow.language), "Language").lower()
