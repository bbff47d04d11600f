"""What a definition becomes: every key of a task and of a workflow on the compiled model."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from tests.unit.expressions.scopes import PlainScope

from dalsegno.definitions.document import load_stored, read
from dalsegno.workflow.model import (
    JOIN_ALL,
    ORQUESTA_RULES,
    Branch,
    Command,
    Policies,
    Retry,
    Task,
    Transition,
    Workflow,
)
from dalsegno.workflow.scope import Constant, Template


def compile_text(text: str) -> Workflow:
    """The workflow of a text without problems."""
    document = read(text, name="pack.w")
    assert document.problems == ()
    (member,) = document.members
    assert member.workflow is not None
    return member.workflow


def compile_tasks(tasks: str, head: str = "input: [x]") -> dict[str, Task]:
    """Compiled tasks by name."""
    body = textwrap.indent(textwrap.dedent(tasks).strip("\n"), "  ")
    return dict(compile_text(f"version: 1.0\n{head}\ntasks:\n{body}\n").tasks)


def compile_task(body: str) -> Task:
    """A task `t`, with `a` and `b` beside it to lead to and `x` in the context."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "  ")
    return compile_tasks(f"t:\n{lines}\na: {{action: core.noop}}\nb: {{action: core.noop}}")["t"]


def value(template: Template | None, **variables: object) -> Any:
    """What a template gives."""
    assert template is not None
    return template.evaluate(PlainScope(variables))


def constant(template: Template | None) -> Any:
    assert isinstance(template, Constant)
    return template.value


def shown(assignments: tuple[tuple[str, Template], ...], **variables: object) -> list[tuple[str, Any]]:
    return [(name, value(template, **variables)) for name, template in assignments]


def test_workflow() -> None:
    """Name, words, input, vars and output arrive in their order; input is never required and may have expressions."""
    workflow = compile_text(
        """
        version: 1.0
        name: ignored
        description: What it does
        tags: [nightly, city]
        input: [a, {b: 2}, {c: <% ctx(b) + 1 %>}]
        vars: [{d: <% ctx(c) %>}, {e: [1]}]
        output: [{f: <% ctx(d) %>}, {g: '{{ ctx("f") }}'}]
        tasks:
          z: {action: core.noop}
          y: {action: core.noop, next: [{do: x}]}
          x: {action: core.noop}
        """
    )
    assert (workflow.name, workflow.language, workflow.rules) == ("pack.w", "orquesta", ORQUESTA_RULES)
    assert (workflow.description, workflow.tags, workflow.starts) == ("What it does", ("nightly", "city"), ("y", "z"))
    assert [parameter.name for parameter in workflow.input] == ["a", "b", "c"]
    assert not any(parameter.required for parameter in workflow.input)
    assert [value(parameter.default, b=5) for parameter in workflow.input] == [None, 2, 6]
    assert shown(workflow.initial, c=3) == [("d", 3), ("e", [1])]
    assert shown(workflow.outputs, d=4, f=5) == [("f", 4), ("g", 5)]
    assert (workflow.spec["name"], workflow.spec["tags"]) == ("pack.w", ["nightly", "city"])
    assert list(workflow.tasks) == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("body", "action", "given"),
    [
        ("action: core.echo", "core.echo", None),
        ("action: core.echo\ninput: {message: <% ctx(x) %>, n: 1}", "core.echo", {"message": 7, "n": 1}),
        ("action: core.echo message=<% ctx(x) %> n=1", "core.echo", {"message": 7, "n": 1}),
        ("action: core.echo n=1\ninput: {message: lost}", "core.echo", {"n": 1}),
        ("action: core.echo\ninput: <% dict(message => ctx(x)) %>", "core.echo", {"message": 7}),
        ("action: <% concat('core.', 'echo') %>", "core.echo", None),
        ("action: core.echo\ninput: {'<% concat(me, ssage) %>': 1}", "core.echo", {"message": 1}),
    ],
)
def test_action_and_input(body: str, action: str, given: dict[str, object] | None) -> None:
    """The action may be an expression; parameters behind it replace `input`; keys of the input are evaluated."""
    task = compile_task(body)
    assert value(task.action) == action
    assert task.workflow is None
    assert (None if task.input is None else value(task.input, x=7)) == given


def test_a_task_without_action() -> None:
    """It has neither action nor input, and its ways out like any other."""
    task = compile_task("next: [{do: a}]")
    assert (task.action, task.workflow, task.input, task.items, task.policies) == (None, None, None, (), Policies())
    assert task.branches == (Branch(next=(Transition("a"),)),)


@pytest.mark.parametrize(
    ("written", "names", "concurrency"),
    [
        ("<% ctx(x) %>", (), None),
        ("i in <% ctx(x) %>", ("i",), None),
        ("first, second in <% ctx(x) %>", ("first", "second"), None),
        ("{items: '  i in {{ ctx().x }} '}", ("i",), None),
        ("{items: <% ctx(x) %>, concurrency: 2}", (), 2),
        ("{items: <% ctx(x) %>, concurrency: 0}", (), 1),
        ("{items: <% ctx(x) %>, concurrency: <% ctx(x).len() %>}", (), 3),
        ("{items: <% ctx(x) %>, concurrency: <% ctx(x).len() - 5 %>}", (), 1),
    ],
)
def test_items(written: str, names: tuple[str, ...], concurrency: int | None) -> None:
    """One list, names for the members of its items, and at least one item at once where a number is given."""
    task = compile_task(f"action: core.noop\nwith: {written}")
    (items,) = task.items
    assert items.names == names
    assert value(items.values, x=[1, 2, 3]) == [1, 2, 3]
    given = task.policies.concurrency
    assert (None if given is None else value(given, x=[1, 2, 3])) == concurrency


def test_delay_and_retry() -> None:
    """A delay goes before the action, and a retry has none unless it says so; without `when` it is after failures."""
    task = compile_task("action: core.noop\ndelay: 3\nretry: {count: <% ctx(x) %>}")
    assert constant(task.policies.wait_before_s) == 3
    assert task.policies.retry is not None
    assert value(task.policies.retry.count, x=2) == 2
    assert (task.policies.retry.delay_s, task.policies.retry.when) == (Constant(0), None)
    task = compile_task("action: core.noop\nretry: {count: 2, delay: 5, when: <% ctx(x) = 1 %>}")
    assert task.policies.retry is not None
    assert (task.policies.retry.count, task.policies.retry.delay_s) == (Constant(2), Constant(5))
    assert value(task.policies.retry.when, x=1) is True


def test_the_command_retry() -> None:
    """It is no way out: it is a retry when its condition holds, and goes before a `retry` block."""
    task = compile_task(
        """
        action: core.noop
        retry: {count: 9, delay: 9}
        next:
          - {when: <% ctx(x) = 1 %>, publish: [{lost: 1}], do: retry}
          - {when: <% ctx(x) = 2 %>, do: [b, retry, a]}
          - {do: a}
        """
    )
    retry = task.policies.retry
    assert retry is not None
    assert (retry.count, retry.delay_s) == (Constant(3), Constant(0))
    assert (value(retry.when, x=1), value(retry.when, x=2)) == (False, True)
    assert [[following.target for following in branch.next] for branch in task.branches] == [["a", "b"], ["a"]]
    always = compile_task("action: core.noop\nnext: [{do: retry}]")
    assert (always.branches, always.policies.retry) == ((), Retry(Constant(3), Constant(0), when=Constant(True)))


def test_branches() -> None:
    """Each item of `next` stands for itself, in order, with its targets by name, none twice, and commands marked."""
    task = compile_task(
        """
        action: core.noop
        next:
          - when: <% ctx(x) = 1 %>
            publish: [{v: <% ctx(x) %>}, {w: 2}]
            do: [b, a]
          - publish: v=3 w=<% ctx(x) %>
            do: noop, b, a, fail, b
          - publish: [{v: 4}]
        """
    )
    first, second, third = task.branches
    assert (value(first.when, x=1), value(first.when, x=2), second.when) == (True, False, None)
    assert shown(first.publish, x=1) == [("v", 1), ("w", 2)]
    assert shown(second.publish, x=1) == [("v", 3), ("w", 1)]
    assert [each.target for each in first.next] == ["a", "b"]
    assert [(each.target, each.command) for each in second.next] == [
        ("a", None),
        ("b", None),
        ("fail", Command.FAIL),
        ("noop", Command.NOOP),
    ]
    assert third.next == (Transition("continue", command=Command.CONTINUE),)


def test_joins() -> None:
    """`all` or a number; one that waits for nobody is there once all the same; where nothing leads there is no join."""
    tasks = compile_tasks(
        """
        a: {next: [{do: 'all, two, none'}]}
        b: {next: [{do: all}, {do: two}, {do: two}]}
        all: {join: all}
        two: {join: 2}
        none: {join: 0}
        start: {join: all}
        """
    )
    assert {name: task.join for name, task in tasks.items()} == {
        "a": None,
        "b": None,
        "all": JOIN_ALL,
        "two": 2,
        "none": 1,
        "start": None,
    }
    assert (tasks["two"].inbound, tasks["none"].inbound) == (("a", "b"), ("a",))


def test_splits_and_cycles() -> None:
    """A task with several ways in and no join opens routes, unless it lies in a cycle."""
    tasks = compile_tasks(
        """
        a: {next: [{do: 's, c'}]}
        b: {next: [{do: 's, j'}]}
        s: {next: [{do: noop}]}
        c: {next: [{do: d}]}
        d: {next: [{when: <% ctx(x) %>, do: c}, {do: j}]}
        j: {join: all}
        """
    )
    assert [name for name, task in tasks.items() if task.is_split] == ["s"]
    assert [name for name, task in tasks.items() if task.is_in_cycle] == ["c", "d"]


def test_safe_rerun() -> None:
    """Whether a lost action may be run again can be said here too, though Orquesta has no word for it."""
    assert constant(compile_task("action: core.http\nsafe-rerun: true").safe_rerun) is True
    assert value(compile_task("action: core.http\nsafe-rerun: <% ctx(x) %>").safe_rerun, x=False) is False
    (problem,) = read("tasks: {t: {action: core.http, safe-rerun: 2}}").problems
    assert (problem.path, problem.category) == ("tasks.t.safe-rerun", "syntax")


def test_values_that_look_like_expressions_stay_what_they_are() -> None:
    """What comes out of an expression is data and nothing else: it is not evaluated again."""
    task = compile_task("action: core.echo message=<% ctx(x) %>")
    assert value(task.input, x="<% 1 + 1 %>") == {"message": "<% 1 + 1 %>"}
    assert value(task.input, x=["{{ 1 + 1 }}"]) == {"message": ["{{ 1 + 1 }}"]}


def test_a_wrong_expression_is_told_once() -> None:
    """Inspection and compilation both read it, in whatever key it stands, and it is one problem."""
    text = """
    version: 1.0
    input: [{i: <% 1 + %>}]
    output: [{o: '{{ 1 + }}'}]
    tasks:
      t:
        action: <% 2 + %>
        input: {v: {w: [<% 3 + %>]}}
        delay: <% 4 + %>
        with: {items: <% 5 + %>, concurrency: <% 6 + %>}
        retry: {count: <% 7 + %>, when: <% 8 + %>, delay: <% 9 + %>}
        next: [{when: <% 10 + %>, publish: [{p: <% 11 + %>}], do: noop}]
    """
    problems = read(text).problems
    assert {problem.category for problem in problems} == {"expression"}
    assert len(problems) == 12


def test_what_is_stored_is_loaded() -> None:
    """A stored workflow is compiled under its name whatever later rules say of its text."""
    text = "version: 1.0\nsomeday-refused: 1\ntasks: {t: {action: core.noop, also-refused: 2, next: [{do: gone}]}}"
    assert read(text).problems
    workflow = load_stored(text, "pack.w").workflow
    assert workflow is not None
    assert (workflow.name, list(workflow.tasks)) == ("pack.w", ["t"])
