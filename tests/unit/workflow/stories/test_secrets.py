"""Stories of the core: secrets, from the input to the report of an action."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest
from tests.unit.workflow.stories.secret_worlds import CIPHER, ECHO, PASSWORD, assert_hidden, world
from tests.world import ExecutionState, Played

from dalsegno.workflow.secrets import MASK, is_secret, mask, show

MISTRAL = """
version: '2.0'
wf:
  input: [user, password]
  secrets: [password]
  output: {url: <% $.url %>, user: <% $.user %>, length: <% $.length %>}
  reveal: [length]
  tasks:
    t1:
      action: std.echo
      input: {output: "https://<% $.user %>:<% $.password %>@example.com"}
      publish: {url: <% task().result %>, length: <% $.password.len() %>, basic: <% $.user + $.password %>}
      on-success:
        - t2: <% $.password.startsWith('correct') %>
        - fail: <% $.password.startsWith('wrong') %>
    t2: {action: std.noop}
"""

ORQUESTA = """
version: 1.0
name: wf
input: [user, password]
secrets: [password]
reveal: [length]
output: [{url: <% ctx().url %>}, {user: <% ctx().user %>}, {length: <% ctx().length %>}]
tasks:
  t1:
    action: std.echo
    input: {output: "https://<% ctx().user %>:<% ctx().password %>@example.com"}
    next:
      - when: <% succeeded() and ctx().password.startsWith('correct') %>
        publish: [{url: <% result() %>}, {length: <% ctx().password.len() %>}]
        do: t2
      - when: <% ctx().password.startsWith('wrong') %>
        do: fail
  t2: {action: std.noop}
"""

BOTH = pytest.mark.parametrize("text", [MISTRAL, ORQUESTA], ids=["mistral", "orquesta"])


@BOTH
def test_a_secret_input_is_seen_by_its_action_alone(text: str) -> None:
    """What is stored has no password; the action gets it; what is made of it is a secret, but for what is revealed."""
    here, seen = world(text)
    execution = here.start("wf", {"user": "anna", "password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs[0] == ("t1", {"output": f"https://anna:{PASSWORD}@example.com"})
    assert [name for name, _ in seen.inputs] == ["t1", "t2"]
    assert_hidden(here, PASSWORD, "battery")
    assert execution.output is not None
    output: Any = execution.output.data
    assert (output["user"], output["length"]) == ("anna", len(PASSWORD))
    assert mask(execution.output.text).count(MASK) in (0, 1)


@BOTH
def test_a_result_has_no_secret_of_its_input(text: str) -> None:
    """The action repeats what it was given: in clear, in base64, percent-encoded, as a key and in its error."""
    basic = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
    told = {
        "plain": f"I got {PASSWORD}!",
        "basic": basic,
        "quoted": quote(PASSWORD),
        PASSWORD: [PASSWORD, {"deep": f"x{PASSWORD}"}],
        "harmless": 17,
    }
    definitions = text.replace("https://<% $.user %>:<% $.password %>@example.com", "<% $.password %>").replace(
        "https://<% ctx().user %>:<% ctx().password %>@example.com", "<% ctx().password %>"
    )
    here, _ = world(definitions, lambda task, given: Played(result=told) if task == "t1" else None)
    execution = here.start("wf", {"user": "anna", "password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    stored: Any = execution.attempts[1, 0, 1].result
    assert stored.data["plain"] == f"I got {MASK}!"
    assert stored.data["harmless"] == 17
    assert stored.data[MASK] == [MASK, {"deep": f"x{MASK}"}]
    assert_hidden(here, PASSWORD, basic[8:-4], quote(PASSWORD))


def test_an_error_has_no_secret_of_its_input() -> None:
    """An action that fails with the password in its message."""
    here, _ = world(ECHO, lambda task, given: Played("failed", error=f"no such user: {PASSWORD}"))
    execution = here.start("wf", {"password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert f"no such user: {MASK}" in execution.info
    assert_hidden(here, PASSWORD)


@BOTH
def test_an_expression_that_fails_names_no_value(text: str) -> None:
    """The error of an expression that has read a secret tells neither the value nor the cause."""
    broken = text.replace("$.password.len()", "int($.password)").replace("ctx().password.len()", "int(ctx().password)")
    here, _ = world(broken)
    execution = here.start("wf", {"user": "anna", "password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert "the cause is not shown, because it reads a secret" in execution.info + repr(execution.errors)
    assert_hidden(here, PASSWORD)


def test_items_of_a_secret_list_are_secrets() -> None:
    """with-items over a secret list: each action gets its item, and no item is stored in clear."""
    text = """
version: '2.0'
wf:
  input: [keys]
  secrets: [keys]
  tasks:
    t1:
      with-items: key in <% $.keys %>
      action: std.echo output=<% $.key %>
      publish: {found: <% task().result %>}
"""
    here, seen = world(text)
    execution = here.start("wf", {"keys": ["first-key", "second-key"]})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert [given["output"] for _, given in seen.inputs] == ["first-key", "second-key"]
    assert_hidden(here, "first-key", "second-key")


def test_items_with_a_secret_member() -> None:
    """A list of dicts of which one member is a secret: only that is encrypted."""
    text = """
version: '2.0'
wf:
  input: [hosts, password]
  secrets: [password]
  tasks:
    t1:
      with-items: host in <% $.hosts %>
      action: std.echo
      input: {output: {host: <% $.host %>, password: <% $.password %>}}
"""
    here, seen = world(text)
    execution = here.start("wf", {"hosts": ["a.example.com", "b.example.com"], "password": PASSWORD})
    here.run()

    assert [given["output"]["password"] for _, given in seen.inputs] == [PASSWORD, PASSWORD]
    stored: Any = execution.attempts[1, 0, 1].input.data
    assert stored["output"]["host"] == "a.example.com"
    assert is_secret(stored["output"]["password"])
    assert_hidden(here, PASSWORD)


def test_a_subworkflow_gets_and_returns_secrets() -> None:
    """A child that declares a secret, and one that does not know that it was given one: both return secrets."""
    text = """
version: '2.0'
parent:
  input: [password]
  secrets: [password]
  output: {a: <% $.a %>, b: <% $.b %>, c: <% $.c %>}
  tasks:
    t1: {workflow: child, input: {given: <% $.password %>}, publish: {a: <% task().result.made %>}, on-success: t2}
    t2: {workflow: strict, input: {token: literal-token}, publish: {b: <% task().result.made %>}, on-success: t3}
    t3: {action: std.echo output=3, publish: {c: <% task().result %>}}
child:
  input: [given]
  output: {made: <% $.made %>}
  tasks:
    t1: {action: std.echo, input: {output: "<% $.given %>!"}, publish: {made: <% $.given + '!' %>}}
strict:
  input: [token]
  secrets: [token]
  output: {made: <% $.token %>}
  tasks:
    t1: {action: std.noop}
"""
    here, seen = world(text)
    execution = here.start("parent", {"password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert ("t1", {"output": f"{PASSWORD}!"}) in seen.inputs
    assert execution.output is not None
    output: Any = execution.output.data
    assert is_secret(output["a"])
    assert show(output, CIPHER) == {"a": f"{PASSWORD}!", "b": "literal-token", "c": 3}
    assert_hidden(here, PASSWORD, "literal-token")


def test_the_result_of_a_secret_task_is_a_secret() -> None:
    """`secret: true`: a task that fetches a password; its result is a secret, and what is made of it."""
    text = """
version: '2.0'
wf:
  output: {token: <% $.token %>}
  tasks:
    fetch:
      action: std.echo output=1
      secret: true
      publish: {token: <% task().result.token %>}
      on-success: use
    use: {action: std.echo, input: {output: <% $.token %>}}
"""
    here, seen = world(text, lambda task, given: Played(result={"token": PASSWORD}) if task == "fetch" else None)
    execution = here.start("wf")
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs[-1] == ("use", {"output": PASSWORD})
    assert_hidden(here, PASSWORD)
