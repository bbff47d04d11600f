"""`dalsegno examples`: workflows to read, copy and run."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from dalsegno.cli.exits import CommandError
from dalsegno.cli.output import print_note, print_rows
from dalsegno.cli.printing import Format
from dalsegno.cli.screen import console
from dalsegno.cli.supervisor import choose_address

DEFAULT_ENDPOINTS = "127.0.0.1:8480"
"""The default address of `dalsegno examples endpoints` and of the calls in the examples."""

SERVICES_FROM = "127.0.0.1:8491"
"""The default address of the first of the services of `dalsegno examples services`; the others have the next ports."""

app = typer.Typer(help="List, show and copy example workflows, and serve what they call.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the example.")]


def find_examples() -> dict[str, Traversable]:
    """Return the examples by name; the names of those in Orquesta begin with `orquesta/`."""
    found: dict[str, Traversable] = {}
    for folder, prefix in (("mistral", ""), ("orquesta", "orquesta/")):
        there = [each for each in (files("dalsegno.examples") / folder).iterdir() if each.name.endswith(".yaml")]
        found |= {prefix + each.name.removesuffix(".yaml"): each for each in sorted(there, key=lambda each: each.name)}
    return found


def read_example(name: str) -> str:
    """Return the text of an example. Raises CommandError when there is none of that name."""
    found = find_examples()
    name = name.removesuffix(".yaml")
    if name not in found:
        raise CommandError(f"there is no example {name}", f"there are: {', '.join(found)}")
    return found[name].read_text(encoding="utf-8")


def summary_of(text: str) -> str:
    """Return what an example shows: the first line of the comment that it begins with."""
    return text.partition("\n")[0].lstrip("# ").strip()


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """List, show and copy example workflows, and serve what they call."""
    if context.invoked_subcommand is None:
        list_examples()


@app.command("list", epilog="example:  dalsegno examples list")
def list_examples() -> None:
    """List the examples."""
    rows = [(name, summary_of(each.read_text(encoding="utf-8"))) for name, each in find_examples().items()]
    print_rows(Format.TABLE, [], ("EXAMPLE", "WHAT IT SHOWS"), rows)
    print_note("read one with `dalsegno examples show NAME`, copy all with `dalsegno examples copy`")


@app.command(epilog="example:  dalsegno examples show fan_out")
def show(name: Name) -> None:
    """Print an example."""
    typer.echo(read_example(name), nl=False)


@app.command(epilog="example:  dalsegno examples copy fan_out ./workflows")
def copy(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The example; default: all.")] = "",
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to copy to.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Copy one example, or all, to a folder."""
    names = [name.removesuffix(".yaml")] if name else list(find_examples())
    texts = {folder / f"{each}.yaml": read_example(each) for each in names}
    there = [str(path) for path in texts if path.exists()]
    if there and not overwrite:
        raise CommandError(f"these files exist: {', '.join(there)}", "replace with --overwrite, or name another folder")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        console().print_line(str(path))


@app.command(epilog="example:  dalsegno examples endpoints")
def endpoints(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="The address to listen on; port 0: a free one.")
    ] = DEFAULT_ENDPOINTS,
) -> None:
    """Serve the HTTP endpoints that the examples call, until Ctrl-C."""

    # Imported here: aiohttp takes longer to import than everything else, and no other command needs it.
    from dalsegno.cli.endpoints import serve_endpoints

    async def serve() -> None:
        async with serve_endpoints(choose_address(listen, "--listen")) as url:
            console().print_line(f"endpoints at {url}; Ctrl-C stops them")
            host = urlsplit(url).hostname
            print_note(f"a server calls them if it was started with --private-networks {host}")
            await asyncio.Event().wait()

    asyncio.run(serve())


@app.command(epilog="example:  dalsegno examples services")
def services(
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="The address of the first; the others have the next ports; 0: free ones.",
        ),
    ] = SERVICES_FROM,
) -> None:
    """Serve the three gRPC services that the example `order` calls, until Ctrl-C."""
    from dalsegno.cli.order_services import serve_services

    host, _, port = choose_address(listen, "--listen").rpartition(":")
    first = 0 if listen.endswith(":0") else int(port)
    addresses = [f"{host}:{first + more if first else 0}" for more in range(3)]

    async def serve() -> None:
        async with serve_services(addresses) as found:
            console().print_line(", ".join(f"{name} at {address}" for name, address in found.items()))
            console().print_line("Ctrl-C stops them")
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except RuntimeError as error:
        raise CommandError(f"cannot listen: {error}", "choose with --listen HOST:PORT (port 0: free ones)") from None
