"""The built-in actions that are off by default, and how an operator allows them.

This repeats a table of the executor, which the command line does not import; a test compares both.
"""

from __future__ import annotations

from enum import StrEnum

import typer

from dalsegno.outgoing.reach import read_reach


class Permission(StrEnum):
    """A group of actions that an operator can turn on."""

    SSH = "std.ssh"
    JAVASCRIPT = "std.javascript"
    LOCAL = "core.local"
    GRPC = "grpc.call"


OFF_UNTIL_ALLOWED = {
    "std.ssh": Permission.SSH,
    "std.ssh_proxied": Permission.SSH,
    "std.javascript": Permission.JAVASCRIPT,
    "std.js": Permission.JAVASCRIPT,
    "core.local": Permission.LOCAL,
    "grpc.call": Permission.GRPC,
}


def remedy(action: str) -> str:
    """Return what to do about an action that no executor runs; "" if it is unknown.

    >>> remedy("core.local"), remedy("std.echo")
    ('off: dalsegno serve --allow core.local, or DALSEGNO_EXECUTOR_ALLOW=core.local', '')
    """
    permission = OFF_UNTIL_ALLOWED.get(action)
    if permission is None:
        return ""
    word = f"{permission}=HOST:PORT" if permission is Permission.GRPC else permission
    return f"off: dalsegno serve --allow {word}, or DALSEGNO_EXECUTOR_ALLOW={word}"


def read_permission(written: str) -> str:
    """Return a permission of `--allow`, which for grpc.call names targets. Raises typer.BadParameter for others.

    The executor checks the targets.

    >>> read_permission("core.local"), read_permission("grpc.call=stock.example.com:443,[::1]:50051")
    ('core.local', 'grpc.call=stock.example.com:443,[::1]:50051')
    """
    name, equals, targets = written.partition("=")
    if name == Permission.GRPC and not targets:
        raise typer.BadParameter(f"{name} needs targets: {name}=HOST:PORT,... (* for all)")
    if name not in set(Permission) or bool(equals) != (name == Permission.GRPC):
        raise typer.BadParameter(f"{written!r} is not one of {', '.join(Permission)}=HOST:PORT,...")
    return written


def read_networks(written: str) -> str:
    """Return what `--private-networks` allows, as it is written. Raises typer.BadParameter for other words."""
    try:
        read_reach(written)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return written


def executor_for(action: str) -> str:
    """Return which executor an action waits for, and how to start one that runs actions that are off."""
    how = remedy(action)
    return f"an executor that runs {action or 'the action'}" + (f" ({how})" if how else "")
