"""The built-in actions that an executor runs only if its operator allows them, and how to allow them.

They give a workflow's author more than data to work on: other machines (std.ssh), the executor's processor and memory
(std.javascript), the executor's own machine and all that its user may do there (core.local), or services that trust the
executor's network and certificates (grpc.call). The last is allowed for single targets: `grpc.call=host:port`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

OFF_UNTIL_ALLOWED = {
    "std.ssh": "std.ssh",
    "std.ssh_proxied": "std.ssh",
    "std.javascript": "std.javascript",
    "std.js": "std.javascript",
    "core.local": "core.local",
    "grpc.call": "grpc.call",
}
"""These actions, and the permission that allows each of them."""

PERMISSIONS = tuple(dict.fromkeys(OFF_UNTIL_ALLOWED.values()))
"""The permissions of an operator."""

FOR_TARGETS = "grpc.call"
"""The permission that names targets."""

_HOST = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]"
_PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_TARGET = re.compile(rf"(?:{_HOST}):{_PORT}|unix:/[^\s,]+")
_PATTERN = re.compile(rf"(?:\*|(?:\*\.)?(?:{_HOST})):(?:\*|{_PORT})|\*|unix:/[^\s,]+")


def read_allowed(words: Iterable[str]) -> tuple[str, ...]:
    """Return the permissions of these words, one `grpc.call=TARGET` for each target. Raises ValueError for others.

    What follows `grpc.call=TARGET` and is no permission is another target.

    >>> read_allowed(["std.ssh", "grpc.call=stock.example.com:443", "*.example.com:8443", "core.local"])
    ('std.ssh', 'grpc.call=stock.example.com:443', 'grpc.call=*.example.com:8443', 'core.local')
    """
    found: list[str] = []
    for word in words:
        permission, _, target = word.partition("=")
        if permission == FOR_TARGETS and not target:
            raise ValueError(f"{FOR_TARGETS}: name its targets: {FOR_TARGETS}=host:port,... (* for all)")
        if permission != FOR_TARGETS and word not in PERMISSIONS and found and found[-1].startswith(f"{FOR_TARGETS}="):
            permission, target = FOR_TARGETS, word
        if permission == FOR_TARGETS:
            if not _PATTERN.fullmatch(target):
                raise ValueError(f"{target}: neither one of {', '.join(PERMISSIONS)} nor a target, host:port")
            word = f"{FOR_TARGETS}={target}"
        elif word not in PERMISSIONS:
            raise ValueError(f"{word}: it is one of {', '.join(PERMISSIONS)}")
        found.append(word)
    return tuple(dict.fromkeys(found))


def is_allowed(action: str, allowed: Collection[str]) -> bool:
    """Return whether an executor with these permissions runs the action."""
    permission = OFF_UNTIL_ALLOWED.get(action)
    return permission is None or any(each.partition("=")[0] == permission for each in allowed)


def targets_in(allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the targets of the permissions."""
    return tuple(target for each in allowed if (target := each.partition("=")[2]))


def is_target(target: str) -> bool:
    """Return whether a text is a target: `host:port` or `unix:/path`."""
    return isinstance(target, str) and _TARGET.fullmatch(target) is not None


def allows_target(allowed: Iterable[str], target: str) -> bool:
    """Return whether one of these targets is, or covers, this one: `*` for all, `*:443`, `*.example.com:443`.

    A socket of the machine (`unix:/path`) must be named.

    >>> allows_target(["*.example.com:*"], "stock.example.com:443"), allows_target(["*"], "unix:/run/stock.sock")
    (True, False)
    """
    if target.startswith("unix:"):
        return target in allowed
    host = target.lower().rpartition(":")[0]
    return any(
        wanted in ("*", host) or (wanted[:2] == "*." and host.endswith(wanted[1:]))
        for wanted in _hosts_for_port(allowed, target)
    )


def names_target(allowed: Iterable[str], target: str) -> bool:
    """Return whether one of these targets names the host of this one, without a wildcard.

    >>> names_target(["stock.example.com:*"], "stock.example.com:443"), names_target(["*"], "stock.example.com:443")
    (True, False)
    """
    if target.startswith("unix:"):
        return target in allowed
    return target.lower().rpartition(":")[0] in _hosts_for_port(allowed, target)


def _hosts_for_port(allowed: Iterable[str], target: str) -> list[str]:
    """Return the hosts, also with wildcards, of the allowed targets whose port is, or covers, that of this one."""
    port = target.rpartition(":")[2]
    split = (each.lower().rpartition(":") if each != "*" else ("*", ":", "*") for each in allowed)
    return [host for host, _, wanted in split if wanted in ("*", port)]


def shown_permission(permission: str) -> str:
    """Return how a permission is written after --allow."""
    return f"{FOR_TARGETS}=HOST:PORT" if permission == FOR_TARGETS else permission


def explain_absence(action: str) -> str:
    """Return the message for an action that this executor does not run."""
    permission = OFF_UNTIL_ALLOWED.get(action)
    if permission is None:
        return f"this executor has no action named {action}"
    word = shown_permission(permission)
    return (
        f"{action} is off on this executor; its operator turns it on with --allow {word} "
        f"or DALSEGNO_EXECUTOR_ALLOW={word}"
    )
