"""The command line knows which actions are off, and how to turn them on."""

from __future__ import annotations

from dalsegno.actions import permission
from dalsegno.cli.permissions import OFF_UNTIL_ALLOWED, Permission, executor_for


def test_the_command_line_knows_what_executors_know() -> None:
    """The command line and the executors have the same actions and the same words for --allow."""
    assert {name: str(word) for name, word in OFF_UNTIL_ALLOWED.items()} == permission.OFF_UNTIL_ALLOWED
    assert set(map(str, Permission)) == set(permission.PERMISSIONS)


def test_what_an_action_waits_for_says_how_to_get_it() -> None:
    """The output says how to turn on an action that is off."""
    assert executor_for("std.js") == (
        "an executor that runs std.js (off: dalsegno serve --allow std.javascript, "
        "or DALSEGNO_EXECUTOR_ALLOW=std.javascript)"
    )
    assert executor_for("pack.greet") == "an executor that runs pack.greet"
    assert executor_for("") == "an executor that runs the action"
