"""`dalsegno token`: the tokens with which callers show who they are."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.access.bearer import hash_of, new_token
from dalsegno.access.grants import Grant
from dalsegno.cli.connection import DEFAULT_SERVER, RETRY_S, Connection, ask
from dalsegno.cli.deleting import read_age
from dalsegno.cli.exits import CommandError
from dalsegno.cli.options import Comment, Limit, Output, RequestId, Server, call, request_id_or_new
from dalsegno.cli.output import print_limit, print_message, print_note, print_rows
from dalsegno.cli.paging import page_size, read_pages
from dalsegno.cli.printing import Format
from dalsegno.cli.retries import COMMAND
from dalsegno.cli.times import clock
from dalsegno.v1 import access_service_pb2 as messages

app = typer.Typer(no_args_is_help=True, help="Tokens with which callers show who they are; for admins.")

_FILE_MODE = 0o600


def _read_grant(text: str) -> Grant:
    try:
        return Grant.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command(epilog="example:  dalsegno token create anna --grant operator@shop --grant viewer --file anna.token")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The caller; the history names it as actor.")],
    grants: Annotated[
        list[Grant],
        typer.Option(
            "--grant",
            "-g",
            metavar="ROLE[@PATTERN]",
            parser=_read_grant,
            help="viewer, operator, author or admin for a namespace, executor for an action, or service. A pattern may "
            "end with *; without one: for all. Repeatable.",
        ),
    ],
    expires_in: Annotated[
        str, typer.Option("--expires-in", metavar="TIME", help="How long it is valid, such as 90d; default: for ever.")
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="A new file for the token, for its owner only; default: printed."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    output: Output = Format.TABLE,
) -> None:
    """Create a token. It is shown once: servers know its hash only."""
    if file is None and output is not Format.TABLE:
        raise CommandError(f"-o {output.value} has no place for the token itself", "name a new file for it with --file")
    token = new_token()
    if file is not None:
        _write(file, token)
    request = messages.CreateTokenRequest(
        name=name,
        grants=map(_message, grants),
        sha256=hash_of(token),
        expires_at=_expiry(expires_in),
        comment=comment,
        request_id=request_id_or_new(""),
    )
    COMMAND.exit_hint = "look with `dalsegno token list` whether it was made, revoke it then, and create another"
    try:
        answer = call(server, lambda connection: ask(connection.access.CreateToken, request, RETRY_S))
    except BaseException:
        if file is not None:
            file.unlink(missing_ok=True)
        raise
    if file is not None:
        print_note(f"the token is in {file}; give it to programs with --token-file, or DALSEGNO_TOKEN_FILE")
    elif output is Format.TABLE:
        sys.stdout.write(f"{token}\n")
        print_note("keep it now: it is not shown again")
        print_note(f"to revoke it: dalsegno token revoke {answer.token.token_id}")
        return
    print_message(output, answer.token)


@app.command("list", epilog="example:  dalsegno token list")
def list_tokens(limit: Limit = 100, server: Server = DEFAULT_SERVER, output: Output = Format.TABLE) -> None:
    """List tokens, the oldest first, without what is secret."""

    async def fetch(connection: Connection) -> list[messages.Token]:
        return await read_pages(
            lambda token: ask(
                connection.access.ListTokens,
                messages.ListTokensRequest(page_size=page_size(limit), page_token=token),
                RETRY_S,
            ),
            lambda page: page.tokens,
            limit,
        )

    found = call(server, fetch)
    rows = [(each.token_id, each.name, _shown(each), _standing(each), clock(each.created_at)) for each in found]
    print_rows(output, found, ("TOKEN", "NAME", "GRANTS", "STANDING", "CREATED"), rows)
    print_limit(found, limit)


@app.command(epilog="example:  dalsegno token revoke 3f1c5a0b9d2e4f60")
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The id of the token.")],
    server: Server = DEFAULT_SERVER,
    comment: Comment = "",
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Revoke a token for good. Its open streams end within 5 seconds."""
    request = messages.RevokeTokenRequest(token_id=token, comment=comment, request_id=request_id_or_new(request_id))
    answer = call(server, lambda connection: ask(connection.access.RevokeToken, request, RETRY_S))
    print_message(output, answer.token)


def _expiry(expires_in: str) -> Timestamp | None:
    return Timestamp(seconds=round(time.time()) + read_age(expires_in, "--expires-in").seconds) if expires_in else None


def _message(grant: Grant) -> messages.Grant:
    return messages.Grant(role=messages.Role.Value(f"ROLE_{grant.role.name}"), pattern=grant.pattern)


def _shown(token: messages.Token) -> str:
    named = ((messages.Role.Name(each.role).removeprefix("ROLE_").lower(), each.pattern) for each in token.grants)
    return " ".join(role if pattern == "*" else f"{role}@{pattern}" for role, pattern in named)


def _standing(token: messages.Token) -> str:
    if token.HasField("revoked_at"):
        return "revoked"
    if not token.HasField("expires_at"):
        return "valid"
    return "expired" if token.expires_at.seconds <= time.time() else f"until {clock(token.expires_at)}"


def _write(file: Path, token: str) -> None:
    """Write a token to a new file, for its owner only. Raises CommandError."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "w") as out:
            out.write(f"{token}\n")
    except FileExistsError:
        raise CommandError(f"--file {file}: it exists", "name a new file, or delete it") from None
    except OSError as error:
        raise CommandError(f"--file {file}: it cannot be written: {error.strerror}") from None
