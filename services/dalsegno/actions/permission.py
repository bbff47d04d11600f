"""Which built-in actions an executor runs only when its operator has turned them on, and how that is done.

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
"""These actions, and what turns each of them on."""

PERMISSIONS = tuple(dict.fromkeys(OFF_UNTIL_ALLOWED.values()))
"""What an operator can allow."""


def is_allowed(action: str, allowed: Collection[str]) -> bool:
    """Whether an executor whose operator allows these things runs the action."""
    permission = OFF_UNTIL_ALLOWED.get(action)
    return permission is None or permission in allowed


def explain_absence(action: str) -> str:
    """What whoever asked for an action is told that this executor does not run."""
    permission = OFF_UNTIL_ALLOWED.get(action)
    if permission is None:
        return f"this executor has no action named {action}"
    return (
        f"{action} is off on this executor; its operator turns it on with --allow {permission} "
        f"or DALSEGNO_EXECUTOR_ALLOW={permission}"
    )
