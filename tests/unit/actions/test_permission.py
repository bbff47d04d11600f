"""Actions that are off until the operator turns them on."""

from __future__ import annotations

import pytest

from dalsegno.actions.permission import explain_absence
from dalsegno.actions.registry import builtin_descriptions, load_registry
from dalsegno.executor.settings import read_settings

OFF = {"std.ssh", "std.ssh_proxied", "std.javascript", "std.js", "core.local"}


@pytest.mark.parametrize(
    ("allowed", "offered"),
    [
        ((), set()),
        (("std.ssh",), {"std.ssh", "std.ssh_proxied"}),
        (("std.javascript",), {"std.javascript", "std.js"}),
        (("core.local",), {"core.local"}),
        (("std.javascript", "core.local", "std.ssh"), OFF),
    ],
)
def test_an_executor_offers_what_is_allowed(allowed: tuple[str, ...], offered: set[str]) -> None:
    """An executor offers allowed actions and those that need no permission."""
    names = {action.name for action in load_registry(plugins=(), allowed=allowed)}
    assert names & OFF == offered
    assert {"std.email", "std.echo", "std.http", "std.mistral_http"} <= names


def test_all_are_described() -> None:
    """The description of an action exists on or off, for checks of parameters, and says that it is off."""
    described = {each.name: each for each in builtin_descriptions()}
    assert described.keys() >= OFF
    assert all("Off by default." in described[name].description for name in OFF)
    email = {each.name: each.required for each in described["std.email"].parameters}
    assert {name for name, required in email.items() if required} == {"from_addr", "to_addrs", "smtp_server"}


def test_a_refusal_says_how_it_is_turned_on() -> None:
    """The refusal names the option and the variable; an unknown action is just unknown."""
    assert "--allow std.ssh or DALSEGNO_EXECUTOR_ALLOW=std.ssh" in explain_absence("std.ssh_proxied")
    assert explain_absence("example.greet") == "this executor has no action named example.greet"


@pytest.mark.parametrize(
    ("arguments", "variable", "allow"),
    [
        ([], "", ()),
        ([], "std.ssh,std.javascript", ("std.ssh", "std.javascript")),
        (["--allow", "std.ssh", "--allow", "std.javascript"], "", ("std.ssh", "std.javascript")),
        (["--allow", "std.javascript, std.ssh"], "std.ssh", ("std.javascript", "std.ssh")),
    ],
)
def test_the_operator_turns_them_on(arguments: list[str], variable: str, allow: tuple[str, ...]) -> None:
    """Options turn actions on, else the variable."""
    assert read_settings(arguments, {"DALSEGNO_EXECUTOR_ALLOW": variable}).allow == allow


def test_a_slip_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is an error at the start, with the known names."""
    with pytest.raises(SystemExit):
        read_settings(["--allow", "std.shell"], {})
    assert "--allow std.shell: it is one of std.ssh, std.javascript, core.local" in capsys.readouterr().err
