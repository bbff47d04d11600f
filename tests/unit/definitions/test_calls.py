"""What a definition of either language calls, compared with what is known."""

from __future__ import annotations

import pytest

from dalsegno.definitions.calls import KnownCallees, Signature, check
from dalsegno.definitions.document import read
from dalsegno.definitions.problems import Problem

ACTIONS = {
    "core.echo": Signature(frozenset({"message"}), frozenset({"env"})),
    "core.noop": Signature(),
    "example.any": Signature(frozenset({"id"}), is_open=True),
    "std.ssh": Signature(is_open=True, off="nobody allows it", hint="allow it"),
    "book.greet": Signature(frozenset({"who"})),
}
WORKFLOWS = {"sail": Signature(frozenset({"port"})), "example.self": Signature(is_open=True)}


def find(text: str) -> list[Problem]:
    """What is told of the calls of a document."""
    document = read(text, with_calls=True)
    assert not document.problems
    return check(document.calls, KnownCallees(ACTIONS, WORKFLOWS), document.name)


def orquesta(task: str) -> list[Problem]:
    return find(f"version: 1.0\ntasks:\n  t: {task}\n  u: {{action: core.noop}}")


def mistral(task: str) -> list[Problem]:
    return find(f"version: '2.0'\nw:\n  tasks:\n    t: {task}\n")


@pytest.mark.parametrize(
    "task",
    [
        '{action: core.echo message="x"}',
        "{action: core.echo, input: {message: x, env: {}}}",
        "{action: core.noop}",
        "{action: core.echo, input: '<% dict(message => 1) %>'}",
        "{action: example.any, input: {id: 1, more: 2}}",
        "{action: '<% concat(core, \".\", nothing) %>'}",
        "{action: '{{ ''core.'' }}nothing x=1'}",
        "{next: [{do: noop}]}",
        "{action: example.self, input: {any: 1}}",
    ],
)
def test_orquesta_calls_that_fit(task: str) -> None:
    """A known action with the input it needs is accepted; what is an expression is known only at run time."""
    assert orquesta(task) == []


@pytest.mark.parametrize(
    ("task", "path", "said"),
    [
        ("{action: echo message=1}", "tasks.t.action", "no reference"),
        ("{action: core., input: {a: 1}}", "tasks.t.action", "no reference"),
        ("{action: core.ecko message=1}", "tasks.t.action", "no action `core.ecko` is known now"),
        ("{action: core.echo}", "tasks.t.action", "needs the input `message`"),
        ("{action: core.echo, input: {env: {}}}", "tasks.t.input", "needs the input `message`"),
        ("{action: core.echo, input: {message: x, massage: y}}", "tasks.t.input.massage", "has no input `massage`"),
        ('{action: core.echo message="x" massage="y"}', "tasks.t.action", "has no input `massage`"),
        ("{action: example.any, input: {more: 2}}", "tasks.t.input", "needs the input `id`"),
        ("{action: std.ssh}", "tasks.t.action", "is off: nobody allows it"),
    ],
)
def test_orquesta_calls_that_do_not_fit(task: str, path: str, said: str) -> None:
    """An action that is not known, takes other input or is off is told where it stands."""
    (problem,) = orquesta(task)
    assert (problem.category, problem.path) == ("content", path)
    assert said in problem.message


@pytest.mark.parametrize(
    "task",
    [
        '{action: core.echo message="x"}',
        "{action: core.echo env=1, input: {message: x}}",
        "{action: core.echo, input: '<% $.all %>'}",
        "{action: <% $.name %>}",
        "{action: 'core.{{ _.name }} x=1'}",
        "{workflow: sail port=1}",
        "{workflow: example.self, input: {any: 1}}",
        "{publish: {a: 1}}",
    ],
)
def test_mistral_calls_that_fit(task: str) -> None:
    """The same in the other language, which tells actions from workflows."""
    assert mistral(task) == []


@pytest.mark.parametrize(
    ("task", "path", "said"),
    [
        ("{action: core.ecko message=1}", "w.tasks.t.action", "no action `core.ecko` is known now"),
        ("{action: sail port=1}", "w.tasks.t.action", "no action `sail` is known now"),
        ("{workflow: core.noop}", "w.tasks.t.workflow", "no workflow `core.noop` is known now"),
        ("{action: core.echo}", "w.tasks.t.action", "the action `core.echo` needs the input `message`"),
        ("{workflow: sail}", "w.tasks.t.workflow", "the workflow `sail` needs the input `port`"),
        ("{action: core.echo, input: {message: x, massage: y}}", "w.tasks.t.input.massage", "has no input `massage`"),
        ("{action: core.echo message=1 massage=2}", "w.tasks.t.action", "has no input `massage`"),
        ("{action: std.ssh}", "w.tasks.t.action", "is off: nobody allows it"),
    ],
)
def test_mistral_calls_that_do_not_fit(task: str, path: str, said: str) -> None:
    """Each is told with its place, which is the line of the task here."""
    (problem,) = mistral(task)
    assert (problem.category, problem.path, problem.line) == ("content", path, 4)
    assert said in problem.message


def test_a_workbook_looks_into_itself_first() -> None:
    """`greet` there is `book.greet`; the bases of ad-hoc actions are calls too."""
    text = """
version: '2.0'
name: book
actions:
  greet: {base: core.ecko, base-input: {message: <% $.who %>}, input: [who]}
workflows:
  w: {tasks: {t: {action: greet}, u: {action: greet who=1}}}
"""
    assert [(each.path, each.message) for each in find(text)] == [
        ("actions.greet.base", "no action `core.ecko` is known now"),
        ("workflows.w.tasks.t.action", "the action `greet` needs the input `who`"),
    ]


def test_hints() -> None:
    """What nearly fits is named, and else what to do."""
    assert [each.hint for each in orquesta("{action: core.ecko}")] == ["did you mean `core.echo`?"]
    assert [each.hint for each in orquesta("{action: coreecho}")] == ["did you mean `core.echo`?"]
    assert [each.hint for each in orquesta("{action: x}")] == ["it has the form pack.name: core.echo"]
    assert [each.hint for each in mistral("{action: core.noop x=1}")] == ["it takes no input"]
    assert [each.hint for each in mistral("{action: std.ssh}")] == ["allow it"]
    (unknown,) = mistral("{action: wholly.else}")
    assert "an executor that has it describes it when it connects" in unknown.hint
