"""Everything that is wrong with a definition is told in one answer, each with its line and path."""

from __future__ import annotations

from dalsegno.definitions.document import read

WRONG = """\
version: 1.0
color: red
input: [given]
output:
  - said: <% ctx(nowhere) %>
tasks:
  noop:
    action: core.noop
  start:
    action: core.echo
    timeout: 5
    input:
      message: "<% ctx(given) %> and {{ ctx('given') }}"
    next:
      - do: [left, right, missing]
  left:
    action: core.noop
    next: [{do: shared}, {do: meet}]
  right:
    action: core.noop
    next: [{do: shared}]
  shared:
    action: core.noop
    next: [{do: meet}]
  meet:
    join: all
    action: core.echo message=<% ctx(later) %>
    next:
      - publish: [{later: <% result( %>}]
"""


def test_all_problems_of_a_definition_come_at_once() -> None:
    """Both languages in one text, unknown keys, a reserved name, a missing target, an unreachable join, a variable
    before its assignment and a text that is no expression: each its own problem, where it stands."""
    problems = read(WRONG, name="demo.wrong").problems
    found = {(problem.category, problem.line, problem.path) for problem in problems}
    assert {
        ("syntax", 2, "color"),
        ("context", 5, "output[0].said"),
        ("semantic", 7, "tasks.noop"),
        ("syntax", 11, "tasks.start.timeout"),
        ("expression", 13, "tasks.start.input.message"),
        ("semantic", 15, "tasks.start.next[0].do[2]"),
        ("semantic", 25, "tasks.meet"),
        ("context", 27, "tasks.meet.action"),
        ("expression", 29, "tasks.meet.next[0].publish[0].later"),
    } == found
    assert all(problem.message for problem in problems)
