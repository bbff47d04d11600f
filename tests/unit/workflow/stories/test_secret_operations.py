"""Stories of the core: secrets that operations replace, and what is refused of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.workflow.stories.secret_worlds import CIPHER, ECHO, PASSWORD, assert_hidden, world
from tests.world import ExecutionState, Played

from dalsegno.workflow.events import (
    ChildChoice,
    Choice,
    ContextUpdated,
    RerunRequested,
    ResumeRequested,
    TaskChoice,
)
from dalsegno.workflow.journal import replay
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.secrets import MARK, hide, is_secret
from dalsegno.workflow.value import Value


def test_a_rerun_uses_the_same_secret_and_takes_a_new_one() -> None:
    """Rerun without an input needs no password; with a new one, that is a secret because the old one was."""
    tries: list[Any] = []

    def fail_twice(task: str, given: Any) -> Played | None:
        tries.append(given)
        return Played("failed", error="no") if len(tries) < 3 else None

    here, seen = world(ECHO, fail_twice)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    here.tell(execution.id, RerunRequested(at_s=here.now_s))
    here.run()
    assert [given for _, given in seen.inputs] == [{"output": PASSWORD}] * 2

    choice = TaskChoice(task="t1", input=Value(data={"output": "another secret"}))
    here.tell(execution.id, RerunRequested(at_s=here.now_s, choices=(choice,)))
    here.run()

    assert seen.inputs[-1] == ("t1", {"output": "another secret"})
    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert_hidden(here, PASSWORD, "another secret")


def test_an_edit_replaces_a_secret_by_a_secret() -> None:
    """UpdateContext of a variable that is a secret, though the request does not say so."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t1: {action: std.echo output=1, publish: {made: <% $.password + '!' %>}, on-success: t2}
    t2: {action: std.echo, pause-before: true, input: {output: <% $.made + $.password %>}}
"""
    here, seen = world(text)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    assert execution.state is ExecutionState.PAUSED
    new = {"password": Value(data="edited-secret")}
    here.tell(execution.id, ContextUpdated(at_s=here.now_s, values=new))
    made = {"made": Value(data="made-secret")}
    here.tell(execution.id, ContextUpdated(at_s=here.now_s, task="t1", values=made))
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    here.run()

    assert seen.inputs[-1] == ("t2", {"output": "made-secretedited-secret"})
    assert_hidden(here, PASSWORD, "edited-secret", "made-secret")


def test_the_environment_may_hold_secrets() -> None:
    """An environment with a secret: expressions read it, a resume replaces it, and the child inherits it."""
    text = """
version: '2.0'
wf:
  tasks:
    t1: {action: std.echo, input: {output: <% env().password + env().host %>}, on-success: t2}
    t2: {workflow: child, pause-before: true}
child:
  tasks:
    t1: {action: std.echo, input: {output: <% env().password %>}}
"""
    here, seen = world(text)
    environment = {"host": "example.com", "password": hide(PASSWORD, CIPHER)}
    execution = here.start("wf", environment=environment)
    here.run()
    assert seen.inputs[0] == ("t1", {"output": f"{PASSWORD}example.com"})
    here.tell(execution.id, ResumeRequested(at_s=here.now_s, environment=Value(data={"password": "renewed-secret"})))
    here.run()

    assert seen.inputs[-1] == ("t1", {"output": "renewed-secret"})
    assert_hidden(here, PASSWORD, "renewed-secret")


def test_a_stored_environment_may_hold_secrets() -> None:
    """Orquesta's st2kv: an execution without any secret reads one, and what it makes of it is one."""
    text = """
version: 1.0
name: wf
output: [{made: <% ctx().made %>}]
tasks:
  t1:
    action: std.echo
    input: {output: <% st2kv('system.password') + '!' %>}
    next:
      - publish: [{made: <% st2kv('system.password') %>}]
"""
    here, seen = world(text)
    here.environments["system"] = {"password": hide(PASSWORD, CIPHER)}
    execution = here.start("wf")
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs == [("t1", {"output": f"{PASSWORD}!"})]
    assert execution.output is not None
    assert is_secret(execution.output.data["made"])  # type: ignore[index]
    assert_hidden(here, PASSWORD)


def test_a_name_is_never_made_of_a_secret() -> None:
    """The name of an action is shown to everybody, so it is refused."""
    text = """
version: '2.0'
wf:
  input: [name]
  secrets: [name]
  tasks:
    t1: {action: <% $.name %>}
"""
    here, _ = world(text)
    execution = here.start("wf", {"name": "std.noop"})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert "is made of a secret" in execution.info


def test_a_secret_is_no_key_of_a_dict() -> None:
    """A key of a dict is shown, so a secret is refused there."""
    text = """
version: 1.0
name: wf
input: [key]
secrets: [key]
tasks:
  t1:
    action: std.echo
    input: {output: {"<% ctx().key %>": 1}}
"""
    here, _ = world(text)
    execution = here.start("wf", {"key": "hidden-key"})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert_hidden(here, "hidden-key")


def test_a_skipped_secret_task_has_a_secret_output() -> None:
    """The output that an operator gives in place of the result of a task whose results are secrets."""
    text = """
version: '2.0'
wf:
  output: {token: <% $.token %>}
  on-failure: pause
  tasks:
    fetch: {action: std.fail, secret: true, publish: {token: <% task().result.token %>}, on-success: use}
    use: {action: std.echo, input: {output: <% $.token %>}}
"""
    here, seen = world(text)
    execution = here.start("wf")
    here.run()
    output = Value(data={"token": "given-secret"})
    choice = TaskChoice(task="fetch", choice=Choice.SKIP, output=output, child=ChildChoice.FRESH)
    here.tell(execution.id, ResumeRequested(at_s=here.now_s, choices=(choice,)))
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs[-1] == ("use", {"output": "given-secret"})
    assert_hidden(here, "given-secret")


def test_a_value_from_outside_has_no_mark() -> None:
    """Nobody but the engine writes encrypted values: an edit with the mark, also with escapes, is refused."""
    from dalsegno.workflow.value import UnfitValue, checked

    for text in (f'["{MARK}abc"]', '["\\u0064' + MARK[1:] + 'abc"]'):
        with pytest.raises(UnfitValue, match="mark of encrypted values"):
            checked(text)


def test_names_in_both_lists_are_refused() -> None:
    """A name cannot be a secret and revealed; `reveal` alone is a warning of the validation."""
    from dalsegno.definitions.document import read

    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  reveal: [length]
  tasks:
    t1: {action: std.noop, publish: {length: <% $.password.len() %>}}
"""
    both = text.replace("reveal: [length]", "reveal: [password]")
    assert any("is in `secrets` too" in str(problem) for problem in read(both).problems)
    warnings = [str(each) for each in read(text).warnings]
    assert any("is shown to everybody" in each for each in warnings)


def test_a_start_without_a_key_is_refused() -> None:
    """An engine without a key refuses a workflow with secrets, and says what to do."""
    from dalsegno.secrets.cipher import NO_CIPHERS

    with pytest.raises(Exception, match="no key for secrets") as refused:
        hide("x", NO_CIPHERS.of(""))
    assert not isinstance(refused.value, InvalidRequest)


def test_conditions_read_secrets_and_numbers_do_not() -> None:
    """fail-on, break-on and the like may read a secret; a delay or a count would show it, so it is refused."""
    text = """
version: '2.0'
wf:
  input: [password, pin]
  secrets: [password, pin]
  tasks:
    t1: {action: std.echo output=1, fail-on: <% $.password.startsWith('wrong') %>, on-success: t2}
    t2: {action: std.echo output=1, wait-before: <% $.pin %>}
"""
    here, _ = world(text)
    execution = here.start("wf", {"password": PASSWORD, "pin": 70123456})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert "must be a number of seconds" in execution.info
    assert [each.state for each in execution.tasks.values()] == ["SUCCESS", "ERROR"]
    assert_hidden(here, PASSWORD, "70123456")


def test_defaults_of_actions_in_the_environment_may_be_secrets() -> None:
    """`__actions` of the environment as one secret: each default that an action gets of it is a secret."""
    text = """
version: '2.0'
wf:
  tasks:
    t1: {action: std.http, input: {url: example.com}}
"""
    here, seen = world(text, lambda task, given: Played(result=str(given)))
    actions = {"std.http": {"auth": ["anna", PASSWORD]}}
    execution = here.start("wf", environment={"__actions": hide(actions, CIPHER)})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs == [("t1", {"url": "example.com", "auth": ["anna", PASSWORD]})]
    assert_hidden(here, PASSWORD)


def test_a_fork_takes_a_new_secret() -> None:
    """An execution that is forked at a checkpoint goes on with the secrets of the original, or with new ones."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t1: {action: std.echo, input: {output: <% $.password %>}, checkpoint: {name: one, when: after}, on-success: t2}
    t2: {action: std.echo, input: {output: <% $.password + '!' %>}}
"""
    here, seen = world(text)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    assert execution.state is ExecutionState.SUCCESS, execution.info
    here.fork(execution, "one")
    here.run()
    assert seen.inputs[-1] == ("t2", {"output": f"{PASSWORD}!"})
    edit = ContextUpdated(at_s=here.now_s, values={"password": Value(data="forked-secret")})
    here.fork(execution, "one", edit=edit)
    here.run()

    assert seen.inputs[-1] == ("t2", {"output": "forked-secret!"})
    assert_hidden(here, PASSWORD, "forked-secret")


def test_a_discard_keeps_the_secrets() -> None:
    """The journal that begins anew at a checkpoint knows that there are secrets: expressions go on reading them."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t1: {action: std.echo output=1, checkpoint: {name: one, when: after, keep: {count: 1}}, on-success: t2}
    t2: {action: std.echo, input: {output: <% $.password + '!' %>}}
"""
    here, seen = world(text)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs[-1] == ("t2", {"output": f"{PASSWORD}!"})
    assert replay(here.journal(execution.id)).holds_secrets
    assert_hidden(here, PASSWORD)


def test_what_is_too_large_to_search_is_hidden_as_a_whole() -> None:
    """A result with a secret in it that is too large to be masked in parts becomes a secret as a whole."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  output: {found: <% task(t1).result %>}
  tasks:
    t1: {action: std.echo, input: {output: <% $.password %>}}
"""
    large = ["x" * 50] * 5_000
    here, _ = world(text, lambda task, given: Played(result=[PASSWORD, *large]))
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    stored = execution.attempts[1, 0, 1].result
    assert stored is not None
    assert is_secret(stored.data)
    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert_hidden(here, PASSWORD)


def test_a_large_result_that_cannot_be_a_secret_fails_its_task() -> None:
    """A result that fits as a value, but not when it is encrypted, is an error of its task that says so."""
    text = """
version: '2.0'
wf:
  tasks:
    t1: {action: std.echo output=1, secret: true}
"""
    here, _ = world(text, lambda task, given: Played(result="x" * 3_900_000))
    execution = here.start("wf")
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert "cannot be kept as a secret" in execution.info
