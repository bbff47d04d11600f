"""What only a registry of actions can say."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dalsegno.definitions.load import load
from dalsegno.definitions.orquesta.content import Signature
from dalsegno.definitions.orquesta.inspect import inspect_workflow
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Problem, Problems


class Registry:
    """Three actions."""

    actions = {  # noqa: RUF012
        "core.echo": Signature(frozenset({"message"}), frozenset({"env"})),
        "core.noop": Signature(),
        "example.any": Signature(frozenset({"id"}), is_open=True),
    }

    def signature(self, reference: str) -> Signature | None:
        return self.actions.get(reference)

    def references(self) -> Iterable[str]:
        return self.actions


def inspect(task: str) -> list[Problem]:
    problems = Problems()
    source = load(f"tasks:\n  t: {task}", problems)
    inspect_workflow(Reader(source, problems), source.data, actions=Registry(), own_name="example.self")
    return list(problems.listed())


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
def test_actions_that_fit(task: str) -> None:
    """A registered action with the input it needs is accepted; what is an expression is known only at run time."""
    assert inspect(task) == []


@pytest.mark.parametrize(
    ("task", "path", "said"),
    [
        ("{action: echo message=1}", "tasks.t.action", "no reference"),
        ("{action: core., input: {a: 1}}", "tasks.t.action", "no reference"),
        ("{action: core.ecko message=1}", "tasks.t.action", "there is no action"),
        ("{action: core.echo}", "tasks.t.action", "needs the input `message`"),
        ("{action: core.echo, input: {env: {}}}", "tasks.t.input", "needs the input `message`"),
        ("{action: core.echo, input: {message: x, massage: y}}", "tasks.t.input.massage", "has no input `massage`"),
        ('{action: core.echo message="x" massage="y"}', "tasks.t.action", "has no input `massage`"),
        ("{action: example.any, input: {more: 2}}", "tasks.t.input", "needs the input `id`"),
    ],
)
def test_actions_that_do_not_fit(task: str, path: str, said: str) -> None:
    """An action that is not there or takes other input is a problem of content, where it stands."""
    (problem,) = inspect(task)
    assert (problem.category, problem.path) == ("content", path)
    assert said in problem.message


def test_hints() -> None:
    """What nearly fits is named."""
    assert [problem.hint for problem in inspect("{action: core.ecko}")] == ["did you mean `core.echo`?"]
    assert [problem.hint for problem in inspect("{action: coreecho}")] == ["did you mean `core.echo`?"]
    assert [problem.hint for problem in inspect("{action: x}")] == ["it has the form pack.name: core.echo"]
