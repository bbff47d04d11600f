"""Whole documents: kinds, names, problems, and what was stored before."""

from __future__ import annotations

import pytest

from dalsegno.definitions.document import DocumentKind, MemberKind, load_stored, read

WORKBOOK = """
version: '2.0'
name: book
description: A workbook
actions:
  greet:
    base: std.echo output="<% $.who %>"
    input: [who, {how: kindly}]
    output: <% $ %>!
workflows:
  main:
    description: The workflow
    tags: [x]
    input: [a]
    tasks:
      t: {action: greet who=<% $.a %>}
"""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("version: '2.0'\nw: {tasks: {t: {action: std.noop}}}", DocumentKind.WORKFLOWS),
        ("version: 2.0\nw: {tasks: {t: {action: std.noop}}}\nv: {tasks: {t: {join: 0}}}", DocumentKind.WORKFLOWS),
        ("version: '2.0'\nname: {tasks: {t: {action: std.noop}}}", DocumentKind.WORKFLOWS),
        ("version: '2.0'\nactions: {tasks: {t: {action: std.noop}}}", DocumentKind.WORKFLOWS),
        ("version: '2.0'\na: {base: std.echo, base-input: {output: 1}}", DocumentKind.ACTIONS),
        (WORKBOOK, DocumentKind.WORKBOOK),
        ("version: 2\nname: book", DocumentKind.WORKBOOK),
        ("version: v2.0\nw: {tasks: {t: {action: std.noop}}}", DocumentKind.WORKFLOWS),
        ("version: 'v2.0'\na: {base: std.echo, base-input: {output: 1}}", DocumentKind.ACTIONS),
        ("version: v2.0\nname: book\nworkflows: {version: v2.0, w: {tasks: {t: {join: 0}}}}", DocumentKind.WORKBOOK),
    ],
)
def test_kinds(text: str, kind: DocumentKind) -> None:
    """The kind of a document is seen from its shape."""
    document = read(text)
    assert document.problems == ()
    assert document.kind is kind
    assert document.language == "mistral"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("just text", "not 'just text'"),
        ("[1, 2]", "a definition is a mapping"),
        ("version: '2.0'", "defines nothing"),
        ("w: {tasks: {t: {action: std.noop}}}", "`version` is missing"),
        ("version: '3.0'\nw: {tasks: {t: {action: std.noop}}}", "version '3.0' is not known"),
        ("version: v3.0\nw: {tasks: {t: {action: std.noop}}}", "version 'v3.0' is not known"),
        ("version: vv2.0\nw: {tasks: {t: {action: std.noop}}}", "version 'vv2.0' is not known"),
        ("version: v2.0\ntasks: {t: {action: std.noop}}", "`tasks` stands within a workflow"),
        ("version: true\nname: book", "version true is not known"),
        ("version: true\nw: {tasks: {t: {action: std.noop}}}", "version true is not known"),
        ("version: '2.0'\nw: {type: direct}", "`tasks` is missing"),
        ("version: '2.0'\nw: {tasks: {t: {action: a}}, type: round}", "must be direct or reverse"),
        ("version: '2.0'\ntasks: {t: {action: std.noop}}", "`tasks` stands within a workflow"),
        ("version: 1.0\ntasks: {t: {act: core.noop}}", "a task has no key `act`"),
        ("version: '2.0'\nname: 12", "must be text"),
        ("version: '3.0'\nname: book", "is not known"),
        ("version: '1.0'\nname: book\nworkflows: {w: {tasks: {t: {action: a}}}}", "is not known"),
        ("name: book", "`version` is missing"),
        ("version: '2.0'\nworkflows: {w: {tasks: {t: {join: 0}}}}", "needs a `name`"),
        ("version: '2.0'\nname: b\nactions: {}", "not empty"),
        ("version: '2.0'\nname: b\nactions: {version: '1.0'}", "is not known"),
        ("version: '2.0'\nname: b\nactions: {a b: {base: x}}", "letters, digits"),
        ("version: '2.0'\nname: b\nactions: {a: {}}", "not empty"),
        ("version: '2.0'\nname: b\nactions: {a: {output: 1}}", "`base` is missing"),
        ("version: '2.0'\nname: b\nactions: {a: {base: x, base-input: {}}}", "not empty"),
        ("version: '2.0'\nname: b\nactions: {a: {base: x, input: [{a: 1, b: 2}]}}", "exactly one key"),
        ("version: '2.0'\nname: b\nextra: 1", "has no key `extra`"),
    ],
)
def test_refusals(text: str, said: str) -> None:
    """What is wrong with a document as a whole is one problem."""
    problems = read(text).problems
    assert len(problems) == 1
    assert said in problems[0].message


def test_workbook_members() -> None:
    """Members of a workbook are stored under its name, and know it."""
    document = read(WORKBOOK)
    assert document.name == "book"
    assert [(member.kind, member.name) for member in document.members] == [
        (MemberKind.ACTION, "book.greet"),
        (MemberKind.WORKFLOW, "book.main"),
    ]
    action, workflow = document.members
    assert action.action is not None
    assert action.action.workbook == "book"
    assert action.action.base_input is not None
    assert [parameter.name for parameter in action.input] == ["who", "how"]
    assert workflow.workflow is not None
    assert workflow.workflow.workbook == "book"
    assert (workflow.description, workflow.tags) == ("The workflow", ("x",))
    assert document.member("book.main") is workflow
    assert document.member("main") is None


def test_five_mistakes() -> None:
    """A definition with five mistakes gets five problems, each in its line, with path and hint."""
    text = """\
version: '2.0'
wf:
  inputs: [a]
  tasks:
    fetch:
      action: std.http url=<% $. %>
      retry: {count: '3', delay: 1}
      on-success: shwo
    show:
      action: std.echo
      publsh: {x: 1}
"""
    document = read(text)
    assert [(problem.line, problem.path) for problem in document.problems] == [
        (3, "wf.inputs"),
        (6, "wf.tasks.fetch.action"),
        (7, "wf.tasks.fetch.retry.count"),
        (8, "wf.tasks.fetch.on-success"),
        (11, "wf.tasks.show.publsh"),
    ]
    assert [problem.category for problem in document.problems] == [
        "syntax",
        "expression",
        "syntax",
        "semantic",
        "syntax",
    ]
    assert document.problems[3].hint == "did you mean `show`?"


def test_stored_definitions_stay_loadable() -> None:
    """A stored text is compiled whatever later rules say of it; only a missing member is an error."""
    text = "version: '2.0'\nwf:\n  someday-refused: 1\n  tasks:\n    t: {action: std.noop, also-refused: 2}\n"
    assert read(text).problems
    workflow = load_stored(text, "wf").workflow
    assert workflow is not None
    assert list(workflow.tasks) == ["t"]
    assert load_stored(WORKBOOK, "book.greet", MemberKind.ACTION).action is not None
    with pytest.raises(KeyError):
        load_stored(text, "other")
