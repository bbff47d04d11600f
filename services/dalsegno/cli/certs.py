"""`dalsegno certs`: a private authority and certificates, to try TLS."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from dalsegno.cli.clean import word
from dalsegno.cli.exits import CommandError
from dalsegno.cli.output import print_note
from dalsegno.cli.screen import console

app = typer.Typer(no_args_is_help=True, help="Certificates of a private authority, to try TLS.")

DEFAULT_DAYS = 90
SERVER = "server"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@app.callback()
def _certs() -> None:
    # No docstring: it would replace the help. Without a callback a single command has no name.
    pass


@app.command(epilog="example:  dalsegno certs init certs --host flows.example.com --client alice")
def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the files are written.")] = Path("certs"),
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="NAME", help="A name or address of the servers, beside local ones. Repeatable."),
    ] = None,
    clients: Annotated[
        list[str] | None,
        typer.Option("--client", metavar="NAME", help="A client to make a certificate for. Repeatable. [client]"),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long certificates are valid.")] = (
        DEFAULT_DAYS
    ),
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace all certificates in the folder by new ones of its authority.")
    ] = False,
) -> None:
    """Make a private authority, a certificate for servers, and one for each client. Its key must stay secret."""
    from dalsegno.cli.authority import Authority, CannotIssue  # loads cryptography

    try:
        authority = Authority.opened(folder) if renew else Authority.made(folder)
        before = authority.issued()
        known = before.pop(SERVER, [*LOCAL_NAMES, socket.gethostname()])
        names = list(dict.fromkeys((*known, *(hosts or ()))))
        authority.issue(SERVER, names, days)
        made = list(dict.fromkeys((*before, *(clients or ())))) or ["client"]
        for name in made:
            authority.issue(name, [name], days)
    except CannotIssue as error:
        raise CommandError(str(error), error.advice) from None
    except OSError as error:
        raise CommandError(f"{error.filename or folder}: {error.strerror}", "name another folder") from None
    _introduce(folder, names, made, days)


def _introduce(folder: Path, names: list[str], clients: list[str], days: int) -> None:
    out = console()
    at = word(str(folder))
    out.print(f"{folder}/ca.pem         the authority, which clients and servers trust", markup=False)
    out.print(f"{folder}/ca-key.pem     its key: whoever has it can make more", markup=False)
    out.print(f"{folder}/server.pem     for {', '.join(names)}; key: server-key.pem", markup=False)
    for name in clients:
        out.print(f"{folder}/{name}.pem     for a client; key: {name}-key.pem", markup=False)
    print_note(f"valid for {days} days; `dalsegno certs init {at} --renew` makes new ones, which are used at once")
    own = f"--tls-certificate {at}/server.pem --tls-key {at}/server-key.pem --tls-ca {at}/ca.pem"
    print_note(f"servers: dalsegno serve {own} --tls-client-ca {at}/ca.pem")
    shown = f"--tls-certificate {at}/{clients[0]}.pem --tls-key {at}/{clients[0]}-key.pem"
    print_note(f"clients: dalsegno list --tls-ca {at}/ca.pem {shown}")
