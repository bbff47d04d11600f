"""Contexts choose server and namespace; options and variables go before them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dalsegno.v1 import environment_service_pb2, execution_service_pb2

Type = Callable[..., Any]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide an empty settings file for the test."""
    path = tmp_path / "settings" / "config.yaml"
    monkeypatch.setenv("DALSEGNO_CONFIG", str(path))
    for name in ("DALSEGNO_SERVER", "DALSEGNO_NAMESPACE", "DALSEGNO_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    return path


def put(type_command: Type, *words: object) -> Any:
    return type_command("environment", "put", "e", "-i", "a=1", *words)


@pytest.fixture
def answering(api: Any) -> Any:
    """Provide a server that takes environments and lists executions."""
    api.answer("PutEnvironment", environment_service_pb2.PutEnvironmentResponse())
    api.answer("ListExecutions", execution_service_pb2.ListExecutionsResponse())
    return api


def test_a_context_says_server_and_namespace(answering: Any, type_command: Type, file: Path) -> None:
    """The first context is in use at once; only its owner can read its file."""
    made = type_command("config", "set", "here", "--server", answering.address, "--namespace", "shop")
    assert (made.exit_code, made.err) == (0, f"here is in use: {answering.address}\n")
    assert put(type_command).exit_code == 0
    assert answering.requests[0].namespace == "shop"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert yaml.safe_load(file.read_text()) == {
        "current": "here",
        "contexts": {"here": {"server": answering.address, "namespace": "shop"}},
    }


def test_what_goes_before_what(answering: Any, type_command: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is: option, its variable, --context, DALSEGNO_CONTEXT, the context in use."""
    for name, namespace in (("one", "first"), ("two", "second"), ("three", "third")):
        type_command("config", "set", name, "-s", answering.address, "-n", namespace)

    def used(*words: str) -> str:
        assert put(type_command, *words).exit_code == 0
        return str(answering.requests[-1].namespace)

    assert used() == "first"
    type_command("config", "use", "two")
    assert used() == "second"
    monkeypatch.setenv("DALSEGNO_CONTEXT", "three")
    assert used() == "third"
    assert used("--context", "one") == "first"
    assert used("--context=two") == "second"
    assert type_command("--context", "one", "environment", "put", "e", "-i", "a=1").exit_code == 0
    assert answering.requests[-1].namespace == "first"
    monkeypatch.setenv("DALSEGNO_NAMESPACE", "of_variable")
    assert used("--context", "one") == "of_variable"
    assert used("--context", "one", "-n", "typed") == "typed"


def test_a_context_that_is_not_there_is_named_with_those_that_are(type_command: Type) -> None:
    """An unknown context is refused with the known ones, and no server gets a request."""
    type_command("config", "set", "here", "-s", "127.0.0.1:1")
    ended = type_command("list", "--context", "there")
    assert (ended.exit_code, ended.err) == (2, "error: there is no context there\nnext:  there are here\n")


def test_list_show_use_and_delete(type_command: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change prints the context in use; without a context the defaults hold."""
    type_command("config", "set", "one", "-s", "127.0.0.1:1")
    second = type_command("config", "set", "two", "-s", "127.0.0.1:2", "-n", "shop")
    assert second.err == "one is in use; choose with: dalsegno config use two\n"
    assert type_command("config", "use", "two").err == "two is in use: 127.0.0.1:2\n"
    assert [line.split() for line in type_command("config", "list").out.splitlines()] == [
        ["CONTEXT", "IN", "USE", "SERVER", "NAMESPACE"],
        ["one", "127.0.0.1:1"],
        ["two", "*", "127.0.0.1:2", "shop"],
    ]
    monkeypatch.setenv("DALSEGNO_SERVER", "127.0.0.1:3")
    told = type_command("config", "show").out
    assert "127.0.0.1:3  (from DALSEGNO_SERVER)" in told
    assert "shop  (from the context)" in told
    deleted = type_command("config", "delete", "two")
    assert (deleted.out, "commands take the defaults" in deleted.err) == ("deleted two\n", True)
    assert type_command("config", "delete", "two").exit_code == 2
    assert type_command("config", "use").exit_code == 0


def test_changing_one_setting_keeps_the_other(type_command: Type, file: Path) -> None:
    """A change of one setting keeps the other; `--namespace ''` removes the namespace."""
    type_command("config", "set", "one", "-s", "127.0.0.1:1", "-n", "shop")
    type_command("config", "set", "one", "-s", "127.0.0.1:2")
    assert yaml.safe_load(file.read_text())["contexts"]["one"] == {"server": "127.0.0.1:2", "namespace": "shop"}
    type_command("config", "set", "one", "-n", "")
    assert yaml.safe_load(file.read_text())["contexts"]["one"] == {"server": "127.0.0.1:2"}


@pytest.mark.parametrize("words", [["set", "a b"], ["set", ""], ["set", "a", "-s", "nowhere"]])
def test_what_cannot_be_a_context_is_refused(type_command: Type, file: Path, words: list[str]) -> None:
    """A wrong name or address is refused, and nothing is written."""
    assert type_command("config", *words).exit_code == 2
    assert not file.exists()


@pytest.mark.parametrize("text", ["contexts: [1", "contexts: [1]", "contexts: {a: {colour: red}}", "- 1"])
def test_a_file_that_is_something_else_is_said_to_be_so(type_command: Type, file: Path, text: str) -> None:
    """The error names the path of a settings file that is not valid, and there is no traceback."""
    file.parent.mkdir()
    file.write_text(text)
    ended = type_command("list")
    assert ended.exit_code == 2
    assert str(file) in ended.err
    assert "repair it, or delete it" in ended.err
