"""Keys and forms of a definition: which are taken, and where a problem is shown."""

from __future__ import annotations

import pytest
from tests.unit.definitions.orquesta.texts import find_places, find_problems, find_task_problems

from dalsegno.definitions.document import DocumentKind, explain_nameless, read
from dalsegno.definitions.problems import EXPRESSION, SEMANTIC, SYNTAX


@pytest.mark.parametrize(
    "body",
    [
        "action: core.echo message=<% ctx(x) %>",
        "action: <% ctx(x) %>",
        "action: <% ctx(x) %>.name n=1",
        "action: core.<% ctx(x) %> n=<% ctx(x) %>",
        "action: <% switch(ctx(x)=1 => 'core.noop') %>",
        "action: core.echo\ninput: {message: hello, 'odd key': null}",
        "action: core.echo\ninput: <% ctx(x) %>",
        "next: [{do: a}]",
        "action: core.noop\nnext: []",
        "action: core.noop\nnext: [{when: <% succeeded() %>}]",
        "action: core.noop\nnext: [{publish: y=1 z=<% result() %>}]",
        "action: core.noop\nnext: [{publish: [{y: 1}, {z: <% ctx(y) %>}]}]",
        "action: core.noop\nnext: [{do: 'a, b'}, {do: [a, b]}, {do: fail}, {do: noop}, {do: continue}]",
        "action: core.noop\nnext: [{do: 'a, a'}]",
        "action: core.noop\nnext: [{do: retry}]",
        "action: core.noop\ndelay: 0",
        "action: core.noop\ndelay: <% ctx(x) %>",
        "action: core.noop\njoin: all",
        "action: core.noop\njoin: 0",
        "action: core.noop\nwith: <% ctx(x) %>",
        "action: core.noop\nwith: one in <% ctx(x) %>",
        "action: core.noop\nwith: 'one,two, three in {{ ctx(x) }} '",
        "action: core.noop\nwith: {items: <% ctx(x) %>, concurrency: 2}",
        "action: core.noop\nwith: {items: i in <% ctx(x) %>, concurrency: <% ctx(x) %>}",
        "action: core.noop\nretry: {count: 3}",
        "action: core.noop\nretry: {count: <% ctx(x) %>, delay: 1, when: <% failed() %>}",
    ],
)
def test_forms_of_a_task(body: str) -> None:
    """Every form that the language has is accepted."""
    assert find_task_problems(body) == ()


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        ("action: ''", "action", "must not be empty"),
        ("action: 3", "action", "must be text"),
        ("action: core.echo\ninput: {}", "input", "not empty"),
        ("action: core.echo\ninput: [1]", "input", "must be a mapping"),
        ("action: core.echo\ninput: ''", "input", "must not be empty"),
        ("action: core.echo\ninput: {on: 1}", "input.true", "read by YAML as true"),
        ("action: core.echo\ndescription: no", "description", "no key `description`"),
        ("acton: core.echo", "acton", "no key `acton`"),
        ("action: 'core.echo,message=\"x\"'", "action", "a space"),
        ("action: core.noop\ndelay: -1", "delay", "whole number"),
        ("action: core.noop\ndelay: true", "delay", "whole number"),
        ("action: core.noop\ndelay: ''", "delay", "whole number"),
        ("action: core.noop\njoin: any", "join", "all or a whole number"),
        ("action: core.noop\njoin: '2'", "join", "all or a whole number"),
        ("action: core.noop\njoin: true", "join", "all or a whole number"),
        ("action: core.noop\nwith: list", "with", "not of the form"),
        ("action: core.noop\nwith: a b in <% ctx(x) %>", "with", "not of the form"),
        ("action: core.noop\nwith: a in [1, 2]", "with", "not of the form"),
        ("action: core.noop\nwith: [1]", "with", "a text or a mapping"),
        ("action: core.noop\nwith: {items: [1]}", "with.items", "must be text"),
        ("action: core.noop\nwith: {concurrency: 1}", "with", "`items` is missing"),
        ("action: core.noop\nwith: {items: <% ctx(x) %>, concurrency: -1}", "with.concurrency", "whole number"),
        ("action: core.noop\nwith: {items: <% ctx(x) %>, size: 1}", "with.size", "no key `size`"),
        ("action: core.noop\nretry: 3", "retry", "must be a mapping"),
        ("action: core.noop\nretry: {delay: 1}", "retry", "`count` is missing"),
        ("action: core.noop\nretry: {count: 1.5}", "retry.count", "whole number"),
        ("action: core.noop\nretry: {count: 1, when: true}", "retry.when", "must be text"),
        ("action: core.noop\nretry: {count: 1, times: 2}", "retry.times", "no key `times`"),
        ("action: core.noop\nnext: {do: a}", "next", "must be a list"),
        ("action: core.noop\nnext: [a]", "next[0]", "must be a mapping"),
        ("action: core.noop\nnext: [{}]", "next[0]", "not empty"),
        ("action: core.noop\nnext: [{then: a}]", "next[0].then", "no key `then`"),
        ("action: core.noop\nnext: [{when: true}]", "next[0].when", "must be text"),
        ("action: core.noop\nnext: [{do: 3}]", "next[0].do", "must be a name"),
        ("action: core.noop\nnext: [{do: []}]", "next[0].do", "not empty"),
        ("action: core.noop\nnext: [{do: [a, a]}]", "next[0].do[1]", "is twice in the list"),
        ("action: core.noop\nnext: [{publish: {y: 1}}]", "next[0].publish", "must be a list"),
        ("action: core.noop\nnext: [{publish: []}]", "next[0].publish", "must be a list"),
        ("action: core.noop\nnext: [{publish: [y]}]", "next[0].publish[0]", "exactly one key"),
        ("action: core.noop\nnext: [{publish: [{y: 1, z: 2}]}]", "next[0].publish[0]", "exactly one key"),
        ("action: core.noop\nnext: [{publish: [{y: 1}, {y: 1}]}]", "next[0].publish[1]", "is twice in the list"),
    ],
)
def test_what_does_not_fit_a_task(body: str, path: str, said: str) -> None:
    """Each form that the language lacks is one problem of syntax, at the place where it stands."""
    (problem,) = find_task_problems(body)
    assert (problem.category, problem.path) == (SYNTAX, f"tasks.t.{path}")
    assert said in problem.message


@pytest.mark.parametrize(
    ("task", "said"),
    [("t:", "must be a mapping"), ("t: {}", "must be a mapping"), ("t: core.noop", "must be a mapping")],
)
def test_a_task_without_content(task: str, said: str) -> None:
    """What makes Orquesta break down is a problem like any other."""
    (problem,) = find_problems(task)
    assert (problem.category, problem.path) == (SYNTAX, "tasks.t")
    assert said in problem.message


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"input": "{a: 1}"}, "input"),
        ({"input": "[]"}, "input"),
        ({"input": "[a, a]"}, "input[1]"),
        ({"input": "[{a: 1, b: 2}]"}, "input[0]"),
        ({"vars": "[a]"}, "vars[0]"),
        ({"output": "{a: 1}"}, "output"),
        ({"name": "''"}, "name"),
        ({"description": "5"}, "description"),
        ({"tags": "[a, a]"}, "tags[1]"),
        ({"type": "direct"}, "type"),
    ],
)
def test_what_does_not_fit_the_top(parts: dict[str, str], path: str) -> None:
    """The keys at the top are checked like those of a task."""
    assert find_places("t: {action: core.noop}", **parts) == [(SYNTAX, path)]


@pytest.mark.parametrize("version", ["1.0", "'1.0'", "1"])
def test_versions(version: str) -> None:
    """The version is 1.0, as a number or as text; without one a document with `tasks` is Orquesta's too."""
    tasks = "tasks: {t: {action: core.noop}}"
    for text in (f"version: {version}\n{tasks}", tasks):
        document = read(text)
        assert (document.kind, document.language, document.problems) == (DocumentKind.ORQUESTA, "orquesta", ())


def test_version_without_tasks() -> None:
    """What says that it is Orquesta's is told what an Orquesta workflow lacks."""
    (problem,) = read("version: 1.0\ndescription: Nothing\ntask: {}").problems[:1]
    assert problem.message == "`tasks` is missing"
    assert problem.hint == "did you mean `task`?"


def test_names() -> None:
    """The name comes from outside or stands at the top; without any it has no problem and cannot be stored."""
    text = "version: 1.0\ntasks: {t: {action: core.noop}}"
    nameless = read(text)
    (problem,) = explain_nameless(nameless)
    assert nameless.problems == ()
    assert (problem.path, "pack.name" in problem.hint) == ("name", True)
    for named in (
        read(text, name="pack.w"),
        read(f"name: pack.w\n{text}"),
        read(f"name: other\n{text}", name="pack.w"),
    ):
        assert [member.name for member in named.members] == ["pack.w"]
        assert (named.problems, explain_nameless(named)) == ((), ())


def test_names_that_do_not_fit() -> None:
    """A name is short enough for the store and no id."""
    text = "version: 1.0\ntasks: {t: {action: core.noop}}\nname: "
    for name in ("n" * 256, "01890a5d-ac96-774b-bcce-b302099a8057"):
        (problem,) = read(text + name).problems
        assert (problem.path, problem.line, problem.category) == ("name", 3, SEMANTIC)


def test_everything_at_once() -> None:
    """One reading finds problems of every category, each with its own line and path, in the order of the text."""
    problems = find_problems(
        """
        noop: {action: core.noop}
        a:
          action: core.echo message="<% ctx(x) %> {{ ctx('x') }}"
          wait: 1
          next:
            - do: c
            - publish: [{y: <% ctx(nowhere) %>}]
              do: [b, b2]
        b: {action: <% 1 + %>, next: [{do: j}]}
        b2: {action: core.noop, next: [{do: c}]}
        c: {action: core.noop, next: [{do: j}]}
        j: {join: all, action: core.noop}
        """
    )
    assert [(problem.category, problem.line, problem.path) for problem in problems] == [
        (SEMANTIC, 3, "tasks.noop"),
        (EXPRESSION, 5, "tasks.a.action"),
        (SYNTAX, 6, "tasks.a.wait"),
        ("context", 9, "tasks.a.next[1].publish[0].y"),
        (EXPRESSION, 11, "tasks.b.action"),
        (SEMANTIC, 14, "tasks.j"),
    ]
    assert all(problem.column > 1 for problem in problems)


def test_anchors() -> None:
    """StackStorm's YAML has anchors, aliases and merge keys, so they work here; the same text in quotes stays text."""
    tasks = """
    a: &model
      action: core.echo
      input: {message: '*model'}
      next: [{do: b}]
    b:
      <<: *model
      next: &end [{do: noop}]
    c: {action: core.noop, next: *end}
    """
    assert find_problems(tasks) == ()
    (problem,) = find_problems("a: {action: core.echo, input: *gone}")
    assert "`*gone` stands for nothing" in problem.message
    assert (problem.line, problem.path) == (3, "tasks.a.input")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a{n}: &a{n} {{action: x.y, input: {{l: *a{m}, r: *a{m}}}}}", "more than 1,000,000 values"),
        ("a{n}: &a{n} {{action: x.y, input: {{l: *a{m}}}}}", "nested more than 100 levels"),
    ],
)
def test_aliases_that_grow(line: str, said: str) -> None:
    """What an alias repeats counts each time, in size and in depth."""
    lines = "\n".join(line.format(n=number, m=number - 1) for number in range(1, 200))
    (problem,) = find_problems(f"a0: &a0 {{action: x.y}}\n{lines}")
    assert said in problem.message


def test_an_alias_within_itself() -> None:
    """A value cannot contain itself."""
    (problem,) = find_problems("a: &a {action: core.echo, input: {again: *a}}")
    assert "`*a` stands for nothing" in problem.message


@pytest.mark.parametrize("version", ["1.1", "'1'", "true", "3"])
def test_a_version_that_is_not_known(version: str) -> None:
    """A workflow with its tasks at the top is Orquesta's, whatever version but Mistral's it says."""
    text = f"version: {version}\ntasks: {{a: {{action: core.noop}}}}\n"
    (problem,) = read(text).problems
    assert (problem.path, problem.hint) == ("version", "write `version: 1.0`")
