"""The registry has built-in actions and plug-ins."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dalsegno.actions.action import action
from dalsegno.actions.registry import GROUP, Registry, builtin_descriptions, load_registry

PLUGIN = """
from dalsegno.actions.action import action

@action("example.greet")
async def greet(name: str) -> str:
    return f"Hello, {name}"

@action("example.part")
def part() -> None: ...

also_greet = greet
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide a module with two actions, one of them under two names."""
    (tmp_path / "example_pack.py").write_text(PLUGIN)
    (tmp_path / "broken_pack.py").write_text("raise RuntimeError('no such library')")
    (tmp_path / "leaving_pack.py").write_text("raise SystemExit(1)")
    (tmp_path / "empty_pack.py").write_text("")
    (tmp_path / "greedy_pack.py").write_text(PLUGIN.replace("example.part", "std.noop"))
    (tmp_path / "sly_pack.py").write_text(PLUGIN.replace("example.part", "std.ssh"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("example_pack", "broken_pack", "leaving_pack", "empty_pack", "greedy_pack", "sly_pack"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "example_pack"


def names_of(*values: str) -> set[str]:
    """Return the actions that these entry points add to the built-in ones."""
    entries = [EntryPoint(f"entry-{number}", value, GROUP) for number, value in enumerate(values)]
    found = {each.name for each in load_registry(entries)}
    builtin = {each.name for each in load_registry(())}
    assert builtin <= found
    return found - builtin


def test_the_standard_family_is_there() -> None:
    """The standard actions have Mistral's names and say whether they are safe to rerun."""
    described = {each.name: each.safe_to_rerun for each in builtin_descriptions()}

    expected = {
        "std.noop": True,
        "std.echo": True,
        "std.fail": True,
        "std.sleep": True,
        "std.test_dict": True,
        "std.async_noop": True,
        "std.http": False,
        "std.mistral_http": False,
        "std.email": False,
        "std.ssh": False,
        "std.ssh_proxied": False,
        "std.javascript": False,
        "std.js": False,
    }
    assert {name: safe for name, safe in described.items() if name.startswith("std.")} == expected


def test_a_package_adds_actions_by_an_entry_point(plugin: str) -> None:
    """An entry point adds all actions of a module or one of them; one action may have two names."""
    assert names_of(plugin) == {"example.greet", "example.part"}
    assert names_of(f"{plugin}:greet") == {"example.greet"}


@pytest.mark.parametrize("broken", ["broken_pack", "leaving_pack", "missing_pack", "empty_pack", "example_pack:PLUGIN"])
def test_a_broken_plugin_is_logged_and_left_out(plugin: str, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    """A broken package is logged and left out, and the other actions are there."""
    with caplog.at_level(logging.WARNING):
        assert names_of(broken, f"{plugin}:greet") == {"example.greet"}

    assert broken in caplog.text


def test_a_plugin_cannot_take_a_name_that_is_taken(plugin: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plug-in cannot replace std.noop; its other actions are there."""
    with caplog.at_level(logging.WARNING):
        assert names_of("greedy_pack") == {"example.greet"}

    assert "two actions named std.noop" in caplog.text


def test_a_plugin_cannot_take_a_name_that_is_turned_off(plugin: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plug-in cannot replace an action that the operator has turned off."""
    with caplog.at_level(logging.WARNING):
        assert names_of("sly_pack") == {"example.greet"}

    assert "std.ssh is the name of a built-in action that is turned off" in caplog.text


def test_two_actions_of_one_name_are_refused() -> None:
    """Two actions of one name are refused; the same action twice is not."""

    @action("pack.one")
    def one() -> None: ...

    @action("pack.one")
    def other() -> None: ...

    registry = Registry([one, one])
    with pytest.raises(ValueError, match=r"two actions named pack\.one"):
        registry.add(other)
    assert registry.find("pack.one") is one
    assert registry.find("pack.two") is None
    assert len(registry) == 1


def test_descriptions_are_cheap() -> None:
    """The engine reads descriptions without the libraries of the actions."""
    program = "import sys; from dalsegno.actions import registry as r; r.builtin_descriptions(); print(*sys.modules)"

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert "dalsegno.actions.http" in printed.split()
    assert not {"aiohttp", "aiosmtplib", "asyncssh", "grpc", "jsonschema", "py_mini_racer"} & set(printed.split())
