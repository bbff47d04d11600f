"""Forms of a definition whose meaning is seen only when it runs."""

from __future__ import annotations

import textwrap

import pytest
from tests.world import STANDARD, Played, World, described

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt


def give_input(execution: Execution, attempt: Attempt) -> Played:
    """Plays every action: its result is its input."""
    return Played(result=attempt.input.data)


def output_of(tasks: str) -> dict[str, object]:
    """The output of a workflow with the input `m` and `who` that publishes its results as `told`."""
    here = World(player=give_input, actions={**STANDARD, "core.echo": described("core.echo", accepts_any=True)})
    head = "version: 1.0\ninput: [m: {a: 1, b: 2}, who: Ada]\noutput: [told: <% ctx().get(told) %>, m: <% ctx(m) %>]"
    here.define(f"{head}\ntasks:\n{textwrap.indent(textwrap.dedent(tasks).strip(), '  ')}\n", name="demo.w")
    execution = here.start("demo.w")
    here.run()
    assert execution.state == "SUCCESS"
    here.check_journals()
    assert execution.output is not None
    assert isinstance(execution.output.data, dict)
    return execution.output.data


ECHO = "t:\n  action: core.echo {}\n  next: [{{publish: [told: <% result() %>]}}]"


def test_an_inline_list_with_quotes_is_text() -> None:
    """The expressions in it are put into the text; a list without quotes is a list."""
    assert output_of(ECHO.format('message=["<% ctx(who) %>"]'))["told"] == {"message": '["Ada"]'}
    assert output_of(ECHO.format("message=[1, null]"))["told"] == {"message": [1, None]}


@pytest.mark.parametrize("items", ["<% ctx(m).items() %>", "<% ctx().m.items() %>", "{{ ctx().m.items() }}"])
@pytest.mark.parametrize("form", ["k, v in {}", "{{items: 'k, v in {}'}}"])
def test_items_of_a_dict_have_two_names(form: str, items: str) -> None:
    """`with: k, v in ...items()`: each pair gives both names their values."""
    body = f"""
        t:
          with: {form.format(items)}
          action: core.echo message="<% item(k) %> is <% item(v) %>"
          next: [{{publish: [told: <% result().message %>]}}]
    """
    assert output_of(body)["told"] == ["a is 1", "b is 2"]


PUBLISH = "t:\n  next: [{{publish: {}, do: u}}]\nu:\n  next: [{{publish: {}}}]"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("[{m: <% dict(c => 3) %>}]", "[{x: 1}]", {"a": 1, "b": 2, "c": 3}),
        ("[{m: {}}]", "[{x: 1}]", {"a": 1, "b": 2}),
        ("[{m: null}, {m: {c: 3}}]", "[{x: 1}]", {"a": 1, "b": 2, "c": 3}),
        ("[{m: null}]", "[{m: <% dict(c => 3) %>}]", {"c": 3}),
        ("[{m: null}, {n: <% ctx(m) %>}]", "[{m: {c: <% ctx(n) %>}}]", {"c": None}),
        ("[{m: [1]}]", "[{x: 1}]", [1]),
    ],
)
def test_a_published_dict_is_merged_into_the_old_one(first: str, second: str, expected: object) -> None:
    """As in Orquesta: only what an earlier transition has set to null is replaced by a dict."""
    assert output_of(PUBLISH.format(first, second))["m"] == expected
