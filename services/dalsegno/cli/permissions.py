"""The built-in actions that are off by default, and how an operator allows them.

This repeats a table of the executor, which the command line does not import; a test compares both.
"""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """A group of actions that an operator can turn on."""

    SSH = "std.ssh"
    JAVASCRIPT = "std.javascript"
    LOCAL = "core.local"


OFF_UNTIL_ALLOWED = {
    "std.ssh": Permission.SSH,
    "std.ssh_proxied": Permission.SSH,
    "std.javascript": Permission.JAVASCRIPT,
    "std.js": Permission.JAVASCRIPT,
    "core.local": Permission.LOCAL,
}


def remedy(action: str) -> str:
    """Return what to do about an action that no executor runs; "" if it is unknown.

    >>> remedy("core.local"), remedy("std.echo")
    ('off: dalsegno serve --allow core.local, or DALSEGNO_EXECUTOR_ALLOW=core.local', '')
    """
    permission = OFF_UNTIL_ALLOWED.get(action)
    if permission is None:
        return ""
    return f"off: dalsegno serve --allow {permission}, or DALSEGNO_EXECUTOR_ALLOW={permission}"


def executor_for(action: str) -> str:
    """Return which executor an action waits for, and how to start one that runs actions that are off."""
    how = remedy(action)
    return f"an executor that runs {action or 'the action'}" + (f" ({how})" if how else "")
