"""The built-in actions that an executor runs only if its operator allows them, and how to allow them.

They give a workflow's author more than data to work on: other machines (std.ssh), the executor's processor and memory
(std.javascript), or the executor's own machine and all that its user may do there (core.local).
"""

from __future__ import annotations

from collections.abc import Collection

OFF_UNTIL_ALLOWED = {
    "std.ssh": "std.ssh",
    "std.ssh_proxied": "std.ssh",
    "std.javascript": "std.javascript",
    "std.js": "std.javascript",
    "core.local": "core.local",
}
"""These actions, and the permission that allows each of them."""

PERMISSIONS = tuple(dict.fromkeys(OFF_UNTIL_ALLOWED.values()))
"""The permissions of an operator."""


def is_allowed(action: str, allowed: Collection[str]) -> bool:
    """Return whether an executor with these permissions runs the action."""
    permission = OFF_UNTIL_ALLOWED.get(action)
    return permission is None or permission in allowed


def explain_absence(action: str) -> str:
    """Return the message for an action that this executor does not run."""
    permission = OFF_UNTIL_ALLOWED.get(action)
    if permission is None:
        return f"this executor has no action named {action}"
    return (
        f"{action} is off on this executor; its operator turns it on with --allow {permission} "
        f"or DALSEGNO_EXECUTOR_ALLOW={permission}"
    )
