"""`dalsegno demo`: run an example workflow on this machine, in a few seconds."""

from __future__ import annotations

import asyncio

import typer

from dalsegno.cli.examples import read_example
from dalsegno.cli.inputs import TypedInput
from dalsegno.cli.output import print_note
from dalsegno.cli.printing import Format
from dalsegno.cli.run import Plan, run_at
from dalsegno.cli.serving import PrivateServer, private_server, unless_failing
from dalsegno.cli.supervisor import choose_address
from dalsegno.v1 import execution_service_pb2, workflow_service_pb2

EXAMPLE = "fan_out"


def demo() -> None:
    """Run an example, a fan-out with a join, with a private server and private HTTP endpoints.

    Exit code 0: it ended in SUCCESS.
    """
    raise typer.Exit(asyncio.run(_demo()))


async def _demo() -> int:
    # Imported here: aiohttp takes longer to import than everything else, and no other command needs it.
    from dalsegno.cli.endpoints import serve_endpoints

    async with serve_endpoints(choose_address("127.0.0.1:0", "--listen")) as url:
        print_note(f"the endpoints of a few cities: {url}")
        async with private_server(print_note) as own:
            _introduce(own)
            definition = workflow_service_pb2.CreateDefinitionsRequest()
            definition.documents.add(file=f"{EXAMPLE}.yaml", text=read_example(EXAMPLE))
            start = execution_service_pb2.StartExecutionRequest()
            plan = Plan(definition, start, TypedInput((), {"base_url": url}), Format.TABLE)
            return await unless_failing(own.supervisor, run_at(own.address, plan, private=True))


def _introduce(own: PrivateServer) -> None:
    services = ", ".join(f"{child.service.name} (pid {child.pid})" for child in own.supervisor.children)
    print_note(f"three services: {services}; the api listens on {own.address}")
    print_note(f"the workflow: dalsegno examples show {EXAMPLE}")


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command(epilog="example:  dalsegno demo")(demo)
