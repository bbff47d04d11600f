"""Variables referenced before they are assigned."""

from __future__ import annotations

import pytest
from tests.unit.definitions.orquesta.texts import find_places, find_problems

from dalsegno.definitions.problems import CONTEXT


def find_variables(tasks: str, **parts: str) -> list[tuple[str, str]]:
    """Path and variable of each problem, all of which are of the context."""
    problems = find_problems(tasks, **parts)
    assert {problem.category for problem in problems} <= {CONTEXT}
    return [(problem.path, problem.message.split("`")[1]) for problem in problems]


@pytest.mark.parametrize(
    "expression",
    [
        "<% ctx(n) %>",
        "<% ctx('n') %>",
        '<% ctx("n") %>',
        "<% ctx().n %>",
        "<% ctx().n.m.where($ > 1) %>",
        "<% ctx(n).m + 1 %>",
        "<% [1, 2].select($ + ctx(n)) %>",
        "<% dict(a => ctx(n)) %>",
        "<% {a => [ctx().n]} %>",
        "<% not ctx(n) %>",
        "a <% 1 %> and <% ctx(n) %>",
        "{{ ctx('n') }}",
        "{{ ctx().n }}",
        "{{ ctx().n.m | upper }}",
        "{{ ctx().n.get('m') }}",
        "{{ ctx(n) }}",
        "{{ 1 if ctx().n else 2 }}",
        "{{ f(a=ctx().n) }}",
        "{% if true %}{{ ctx().n }}{% endif %}",
    ],
)
def test_references(expression: str) -> None:
    """A variable that an expression names literally is found, wherever in the expression it stands."""
    task = f"t: {{action: core.echo, input: {{message: '{expression.replace(chr(39), chr(39) * 2)}'}}}}"
    assert find_variables(task) == [("tasks.t.input.message", "n")]
    assert find_variables(task, input="[n]") == []


@pytest.mark.parametrize(
    "expression",
    [
        "<% ctx().get(n) %>",
        "<% ctx().get(n, 1) %>",
        "<% ctx()[n] %>",
        "<% 'ctx(n)' %>",
        "<% ctx() %>",
        "<% ctx(concat(a, b)) %>",
        "<% ctx(st2).user %>",
        "<% ctx().parent.pack %>",
        "{{ ctx().get('n') }}",
        "{{ ctx()['n'] }}",
        "{% if ctx().n is defined %}yes{% endif %}",
        "{% raw %}{{ ctx().n and }}{% endraw %}",
        "ctx(n)",
    ],
)
def test_what_escapes(expression: str) -> None:
    """What is asked for only when it is evaluated is not judged, nor is what StackStorm itself provides."""
    task = f"t: {{action: core.echo, input: {{message: '{expression.replace(chr(39), chr(39) * 2)}'}}}}"
    assert find_variables(task) == []


def test_a_minus() -> None:
    """A hyphen in YAQL is a minus."""
    assert find_variables("t: {action: core.echo message=<% ctx().a-1 %>}", input="[a]") == []


def test_private() -> None:
    """Names that begin with two underscores are the engine's."""
    (problem,) = find_problems("t: {action: core.echo, input: {message: <% ctx('__state') %>}}")
    assert (problem.category, problem.path) == (CONTEXT, "tasks.t.input.message")
    assert "private" in problem.message


def test_order_at_the_top() -> None:
    """Input comes before vars, vars before tasks, and an item sees those above it but not itself."""
    found = find_variables(
        "t: {action: core.noop, next: [{publish: [{p: 1}]}]}",
        input="[{a: <% ctx(b) %>}, b, {c: <% ctx(c) %>}, {d: <% ctx(b) %>}]",
        vars="[{v: <% ctx(d) %>}, {w: <% ctx(o) %>}, {u: <% ctx(v) %>}]",
        output="[{o: <% ctx(p) %>}, {q: <% ctx(o) %>}, {r: <% ctx(s) %>}]",
    )
    assert found == [("input[0].a", "b"), ("input[2].c", "c"), ("vars[1].w", "o"), ("output[2].r", "s")]


def test_publish_is_rolling() -> None:
    """In `publish` an item sees those above it; what one transition publishes the next one does not see."""
    found = find_variables(
        """
        t:
          action: core.noop
          next:
            - when: <% ctx(y) %>
              publish: [{x: <% ctx(y) %>}, {y: <% ctx(x) %>}]
              do: a
            - publish: z=<% ctx(x) %>
              do: b
        a: {action: core.echo message=<% ctx(y) %>}
        b: {action: core.echo message=<% ctx(y) %>}
        """
    )
    assert found == [
        ("tasks.t.next[0].when", "y"),
        ("tasks.t.next[0].publish[0].x", "y"),
        ("tasks.t.next[1].publish", "x"),
        ("tasks.b.action", "y"),
    ]


def test_everything_that_begins_with_the_task() -> None:
    """Action, input, delay, items and concurrency are judged; `retry` is not, as in Orquesta."""
    found = find_variables(
        """
        t:
          action: <% ctx(a) %>
          input: <% ctx(b) %>
          delay: <% ctx(c) %>
          with: {items: i in <% ctx(d) %>, concurrency: <% ctx(e) %>}
          retry: {count: <% ctx(f) %>}
        """
    )
    assert [variable for _, variable in found] == ["a", "b", "c", "d", "e"]


FORK = """
start: {{action: core.noop, next: [{{do: left}}, {{do: right}}]}}
left: {{action: core.noop, next: [{{publish: v=1, do: end}}]}}
right: {{action: core.noop, next: [{{publish: w=1, do: end}}]}}
end: {{{join}action: core.echo message=<% ctx(v) %>}}
"""


def test_each_arrival_counts_without_a_join() -> None:
    """A task that several lead to runs for each: what one of them has not published is missing there."""
    assert find_variables(FORK.format(join="")) == [("tasks.end.action", "v")]
    assert find_variables(FORK.format(join=""), vars="[{v: 0}]") == []


def test_a_join_has_what_any_branch_published() -> None:
    """A join merges the contexts, also of a branch that is longer than the others."""
    assert find_variables(FORK.format(join="join: all, ")) == []
    longer = FORK.format(join="join: all, ").replace("do: left", "do: before")
    assert find_variables(f"{longer}\nbefore: {{action: core.noop, next: [{{do: left}}]}}") == []


def test_a_longer_way_is_not_held_against_a_task() -> None:
    """A handler that comes back by a longer way, or a cycle, is accepted, as Orquesta accepts it."""
    tasks = """
    t: {action: core.noop, next: [{when: <% succeeded() %>, publish: v=1, do: end}, {when: <% failed() %>, do: mend}]}
    mend: {action: core.noop, next: [{do: end}]}
    end: {action: core.echo message=<% ctx(v) %>, next: [{do: mend}]}
    """
    assert find_variables(tasks) == []


def test_output_knows_every_publish() -> None:
    """`output` is judged by what any task may have published, with or without a task that follows."""
    tasks = """
    t: {action: core.noop, next: [{publish: a=1}, {do: u}]}
    u: {action: core.noop, next: [{publish: b=1}, {publish: c=1, do: noop}]}
    """
    output = "[{a: <% ctx(a) %>}, {b: <% ctx(b) %>}, {c: <% ctx(c) %>}, {d: <% ctx(d) %>}]"
    assert find_variables(tasks, output=output) == [("output[3].d", "d")]


def test_what_leads_nowhere_is_judged_too() -> None:
    """A transition to a task that does not exist is a problem, and so is what it publishes."""
    tasks = "t: {action: core.noop, next: [{publish: a=<% ctx(b) %>, do: gone}]}"
    assert find_places(tasks) == [("context", "tasks.t.next[0].publish"), ("semantic", "tasks.t.next[0].do")]


def test_hints() -> None:
    """A variable with a name that is nearly right is named."""
    (problem,) = find_problems("t: {action: core.echo message=<% ctx(mesage) %>}", input="[message]")
    assert problem.hint == "did you mean `message`?"
