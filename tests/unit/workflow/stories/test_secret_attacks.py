"""Stories of the core: secrets in unusual places, and what attackers try with them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.expressions.scopes import PlainScope
from tests.unit.workflow.stories.secret_worlds import CIPHER, ECHO, PASSWORD, assert_hidden, world
from tests.world import ExecutionState, Played

from dalsegno.expressions.budget import CHARACTERS_PER_STEP
from dalsegno.expressions.secrecy import DecryptingScope
from dalsegno.workflow.events import ContextUpdated, RerunRequested, ResumeRequested, TaskChoice
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.secrets import MARK, MASK, hide, show
from dalsegno.workflow.value import Value


def test_vars_and_outputs_see_a_secret_that_the_step_has_just_made() -> None:
    """An execution that had no secret before: each further assignment of the same step decrypts it."""
    text = """
version: 1.0
name: wf
secrets: [kept]
vars: [{kept: literal-secret}, {made: <% ctx().kept + '!' %>}, {read: <% st2kv('system.password') %>},
       {more: "<% ctx().read + '?' %>"}]
output: [{a: <% ctx().more + 'x' %>}]
tasks:
  t1: {action: std.echo, input: {output: "<% list(ctx().made, ctx().more) %>"}}
"""
    here, seen = world(text)
    here.environments["system"] = {"password": hide(PASSWORD, CIPHER)}
    execution = here.start("wf")
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs == [("t1", {"output": ["literal-secret!", f"{PASSWORD}?"]})]
    assert execution.output is not None
    assert show(execution.output.data, CIPHER) == {"a": f"{PASSWORD}?x"}
    assert_hidden(here, PASSWORD)


def test_branches_see_a_secret_that_they_have_just_published() -> None:
    """publish of Orquesta: a later assignment reads what an earlier one took from a stored environment."""
    text = """
version: 1.0
name: wf
output: [{a: <% ctx().b %>}]
tasks:
  t1:
    action: std.echo output=1
    next:
      - publish: [{a: <% st2kv('system.password') %>}, {b: <% ctx().a + '!' %>}]
"""
    here, _ = world(text)
    here.environments["system"] = {"password": hide(PASSWORD, CIPHER)}
    execution = here.start("wf")
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert execution.output is not None
    assert show(execution.output.data, CIPHER) == {"a": f"{PASSWORD}!"}
    assert_hidden(here, PASSWORD)


def test_items_of_a_stored_secret_are_decrypted() -> None:
    """The list of items is a secret of a stored environment, and the first secret of the execution."""
    text = """
version: 1.0
name: wf
tasks:
  t1: {with: <% st2kv('system.keys') %>, action: std.echo, input: {output: <% item() + '!' %>}}
"""
    here, seen = world(text)
    here.environments["system"] = {"keys": hide(["first-key", "second-key"], CIPHER)}
    execution = here.start("wf")
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert [given["output"] for _, given in seen.inputs] == ["first-key!", "second-key!"]
    assert_hidden(here, "first-key", "second-key")


def test_records_of_other_executions_are_decrypted() -> None:
    """tasks() and executions() of an execution that has no secrets itself."""
    text = """
version: '2.0'
parent:
  tasks:
    t1: {workflow: child, on-success: t2}
    t2:
      action: std.echo
      input: {output: "<% tasks(execution().id, true).where($.name = c1).select($.result + '!') %>"}
child:
  tasks:
    c1: {action: std.echo output=1, secret: true}
"""
    here, seen = world(text, lambda task, given: Played(result="fetched-secret") if task == "c1" else None)
    execution = here.start("parent")
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs[-1] == ("t2", {"output": ["fetched-secret!"]})
    assert_hidden(here, "fetched-secret")


def test_an_operation_replaces_a_secret_within_a_value() -> None:
    """The new input of a rerun, and an edited variable: what replaces a member that is a secret is one."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t0: {action: std.noop, publish: {tree: {host: a, keys: [{password: <% $.password %>}]}}, on-success: t1}
    t1: {action: std.echo, input: {output: {host: a, password: <% $.password %>}}}
"""
    tries: list[Any] = []

    def fail_once(task: str, given: Any) -> Played | None:
        tries.append(given)
        return Played("failed", error="no") if task == "t1" and len(tries) < 3 else None

    here, seen = world(text, fail_once)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    shown = {"tree": Value(data={"host": "a", "keys": [{"password": MASK}]})}
    with pytest.raises(InvalidRequest, match="how secrets are shown"):
        here.tell(execution.id, ContextUpdated(at_s=here.now_s, task="t0", values=shown))
    tree = {"tree": Value(data={"host": "b", "keys": [{"password": "edited-secret"}]})}
    here.tell(execution.id, ContextUpdated(at_s=here.now_s, task="t0", values=tree))
    given = Value(data={"output": {"host": "b", "password": "another secret"}})
    here.tell(execution.id, RerunRequested(at_s=here.now_s, choices=(TaskChoice(task="t1", input=given),)))
    here.run()

    assert seen.inputs[-1] == ("t1", {"output": {"host": "b", "password": "another secret"}})
    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert_hidden(here, PASSWORD, "another secret", "edited-secret")


def test_the_new_input_of_an_ad_hoc_action_is_a_secret() -> None:
    """The names of its inputs are not those that its base was given."""
    text = """
version: '2.0'
actions:
  send:
    input: [token]
    base: std.echo
    base-input: {output: "token <% $.token %>"}
workflows:
  wf:
    input: [password]
    secrets: [password]
    tasks:
      t1: {action: send, input: {token: <% $.password %>}}
"""
    tries: list[Any] = []

    def fail_once(task: str, given: Any) -> Played | None:
        tries.append(given)
        return Played("failed", error="no") if len(tries) < 2 else None

    here, seen = world("name: book\n" + text.lstrip(), fail_once)
    execution = here.start("book.wf", {"password": PASSWORD})
    here.run()
    given = Value(data={"token": "another secret"})
    here.tell(execution.id, RerunRequested(at_s=here.now_s, choices=(TaskChoice(task="t1", input=given),)))
    here.run()

    assert seen.inputs[-1] == ("t1", {"output": "token another secret"})
    assert_hidden(here, PASSWORD, "another secret")


def test_a_part_of_what_an_action_was_given_is_masked() -> None:
    """The action was given a URL with the password in it, and tells the password alone."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t1: {action: std.echo, input: {output: "https://anna:<% $.password %>@example.com"}}
"""
    told = {"said": f"wrong password {PASSWORD}"}
    here, _ = world(text, lambda task, given: Played("failed", result=told, error=f"bad {PASSWORD}"))
    execution = here.start("wf", {"password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert_hidden(here, PASSWORD)


SPECIAL = 'my p@ss:"word"\n$1!é'


@pytest.mark.parametrize(
    "told",
    [
        'my%20p@ss:"word"',
        "my%20p@ss:%22word%22%0A$1!%C3%A9",
        "my+p%40ss%3A%22word%22%0A%241!%c3%a9",
        'my p@ss:\\"word\\"\\n$1!é',
        'my p@ss:\\"word\\"\\n$1!\\u00e9',
        repr(SPECIAL),
    ],
)
def test_other_forms_of_a_secret_are_masked(told: str) -> None:
    """Percent-encoded by programs that encode other characters, and as texts of JSON and Python."""
    given = SPECIAL if "$" in told or "%24" in told else SPECIAL[:14]
    here, _ = world(ECHO, lambda task, _: Played("failed", result={"said": f"<{told}>"}, error=f"bad {told}"))
    execution = here.start("wf", {"password": given})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert_hidden(here, told, given)


def test_an_error_that_was_cut_within_a_secret_is_masked() -> None:
    """Long errors are cut by whoever tells them: the rest of a secret at the end is masked too."""
    for end in ("", "…", "..."):
        here, _ = world(ECHO, lambda task, _, end=end: Played("failed", error=f"bad {PASSWORD[:-3]}{end}"))
        here.start("wf", {"password": PASSWORD})
        here.run()
        assert_hidden(here, PASSWORD[:-3])


def test_a_pause_before_a_task_reads_a_secret() -> None:
    """pause-before is a condition like the others."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  tasks:
    t1: {action: std.noop, on-success: t2}
    t2: {action: std.noop, pause-before: <% $.password.startsWith('wrong') %>, on-success: t3}
    t3: {action: std.noop, pause-before: <% $.password.startsWith('correct') %>}
"""
    here, seen = world(text)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    assert execution.state is ExecutionState.PAUSED, execution.info
    assert [name for name, _ in seen.inputs] == ["t1", "t2"]
    here.tell(execution.id, ResumeRequested(at_s=here.now_s))
    here.run()
    assert [name for name, _ in seen.inputs] == ["t1", "t2", "t3"]


def test_items_of_a_secret_that_is_no_list_are_refused() -> None:
    """with-items over a number: an error without the value, and no item for each character of its encrypted text."""
    text = """
version: '2.0'
wf:
  input: [pin]
  secrets: [pin]
  tasks:
    t1: {with-items: n in <% $.pin %>, action: std.echo output=<% $.n %>}
"""
    here, seen = world(text)
    execution = here.start("wf", {"pin": 70123456})
    here.run()

    assert execution.state is ExecutionState.ERROR
    assert "list" in execution.info
    assert seen.inputs == []
    assert_hidden(here, "70123456")


def test_whole_inputs_and_publications_may_be_secrets() -> None:
    """An input and a publication that are one expression, which makes a dict of a secret."""
    text = """
version: '2.0'
wf:
  input: [tree]
  secrets: [tree]
  output: {b: <% $.b %>}
  tasks:
    t1: {action: std.echo, input: <% $.tree.given %>, publish: {b: <% $.tree.published.b %>}}
"""
    here, seen = world(text)
    execution = here.start("wf", {"tree": {"given": {"output": PASSWORD}, "published": {"b": "b-secret"}}})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert seen.inputs == [("t1", {"output": PASSWORD})]
    assert execution.output is not None
    assert show(execution.output.data, CIPHER) == {"b": "b-secret"}
    assert_hidden(here, PASSWORD, "b-secret")


def test_a_large_result_of_an_ad_hoc_action_is_transformed() -> None:
    """A result that is hidden as a whole is decrypted for the output of the ad-hoc action."""
    text = """
name: book
version: '2.0'
actions:
  send:
    input: [token]
    base: std.echo
    base-input: {output: <% $.token %>}
    output: {first: "<% $.rows[0] %>", all: <% $.rows.len() %>}
workflows:
  wf:
    input: [password]
    secrets: [password]
    output: {first: <% $.first %>}
    tasks:
      t1: {action: send, input: {token: <% $.password %>}, publish: {first: <% task().result.first %>}}
"""
    here, _ = world(text.lstrip(), lambda task, given: Played(result={"rows": [PASSWORD, *["x" * 50] * 5_000]}))
    execution = here.start("book.wf", {"password": PASSWORD})
    here.run()

    assert execution.state is ExecutionState.SUCCESS, execution.info
    assert execution.output is not None
    assert show(execution.output.data, CIPHER) == {"first": PASSWORD}
    assert_hidden(here, PASSWORD)


def test_output_on_error_may_be_one_secret() -> None:
    """output-on-error as one expression that makes a dict of a secret."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  output-on-error: {said: "<% $.password + '!' %>"}
  tasks:
    t1: {action: std.fail}
"""
    here, _ = world(text)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()
    assert execution.output is not None
    shown: Any = show(execution.output.data, CIPHER)
    assert shown["said"] == f"{PASSWORD}!"
    assert_hidden(here, PASSWORD)


def test_the_error_of_a_secret_task_with_a_result() -> None:
    """A failed secret task: its result is not in clear."""
    text = """
version: '2.0'
wf:
  tasks:
    t1: {action: std.echo output=1, secret: true}
"""
    here, _ = world(text, lambda task, given: Played("failed", result={"token": PASSWORD}, error="no"))
    here.start("wf")
    here.run()
    assert_hidden(here, PASSWORD)


def test_a_revert_reads_secrets() -> None:
    """The input, the conditions and the publication of a revert, in a workflow whose failure reverts it."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  on-failure: revert
  tasks:
    t1:
      action: std.echo output=1
      publish: {made: <% $.password + '!' %>}
      revert: {action: std.echo, input: {output: "<% $.made + '?' %>"}, publish: {undone: <% task().result %>}}
      on-success: t2
    t2: {action: std.fail}
"""
    here, seen = world(text)
    here.start("wf", {"password": PASSWORD})
    here.run()
    assert seen.inputs[-1] == ("t1", {"output": f"{PASSWORD}!?"})
    assert_hidden(here, PASSWORD)


def test_nothing_but_an_encrypted_value_is_taken_for_one() -> None:
    """A text that only begins with the mark, or goes on behind an encrypted value, decrypts to itself."""
    secret = hide(PASSWORD, CIPHER)
    for text in (MARK, f"{MARK}abc", f"{secret}!", f"{secret}!!!!", f"{secret} and more", secret[:-4]):
        assert show(text, CIPHER) == text


def test_an_event_pays_for_what_it_decrypts() -> None:
    """Reading a large secret uses up the steps of an event, so that it ends before it delays others."""
    scope = PlainScope({"large": hide("x" * 1_000_000, CIPHER)})
    before = scope.steps_left
    shown = DecryptingScope(scope, CIPHER).variable("large")
    assert isinstance(shown, str)
    assert len(shown) == 1_000_000
    assert before - scope.steps_left > 1_000_000 / CHARACTERS_PER_STEP
    left = scope.steps_left
    DecryptingScope(scope, CIPHER).lasting().variable("large")
    assert scope.steps_left == left


def test_a_mark_before_a_secret_does_not_reveal_it() -> None:
    """An expression that puts the mark of encrypted values before a password makes a secret of both."""
    text = """
version: '2.0'
wf:
  input: [password]
  secrets: [password]
  output: {made: <% $.made %>}
  tasks:
    t1: {action: std.noop, publish: {made: "MARK<% $.password %>"}}
""".replace("MARK", MARK)
    here, _ = world(text)
    execution = here.start("wf", {"password": PASSWORD})
    here.run()

    assert execution.output is not None
    assert show(execution.output.data, CIPHER) == {"made": MARK + PASSWORD}
    assert_hidden(here, PASSWORD, "battery")
