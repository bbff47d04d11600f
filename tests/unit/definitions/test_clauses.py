"""What follows a task: the forms of a clause, and task-defaults."""

from __future__ import annotations

import pytest
from tests.unit.definitions.mistral_texts import compile_task, compile_tasks, find_problems

from dalsegno.workflow.model import Clause, Command
from dalsegno.workflow.scope import Constant, Template


def targets(clause: Clause) -> list[tuple[str, bool]]:
    """Each target, and whether it has a condition."""
    return [(transition.target, transition.when is not None) for transition in clause.next]


def constant(template: Template | None) -> object:
    assert isinstance(template, Constant)
    return template.value


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("a", [("a", False)]),
        ("[a, b]", [("a", False), ("b", False)]),
        ("[a, {b: '<% $.x %>'}]", [("a", False), ("b", True)]),
        ("{a: '{{ _.x }}'}", [("a", True)]),
        ("{next: a}", [("a", False)]),
        ("{next: {a: '<% $.x %>'}}", [("a", True)]),
        ("{next: [a, b], publish: {branch: {v: 1}}}", [("a", False), ("b", False)]),
        ("{publish: {global: {v: 1}}}", []),
        ("[fail, succeed, pause, noop]", [("fail", False), ("succeed", False), ("pause", False), ("noop", False)]),
        ("fail msg='no'", [("fail", False)]),
        ("'fail(msg=\"two words\")'", [("fail", False)]),
        ("{fail msg='no': '<% $.x %>'}", [("fail", True)]),
    ],
)
def test_forms(clause: str, expected: list[tuple[str, bool]]) -> None:
    """Every form of a clause gives its targets in order."""
    assert targets(compile_task(f"on-success: {clause}").on_success) == expected


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("", "must name a task"),
        ("''", "must name a task"),
        ("5", "must name a task"),
        ("[]", "list is empty"),
        ("{}", "clause is empty"),
        ("[a, a]", "is twice in the list"),
        ("[{a: <% 1 %>}, {a: <% 1 %>}]", "is twice in the list"),
        ("[{a: <% 1 %>, b: <% 2 %>}]", "exactly one key"),
        ("{a: <% 1 %>, b: <% 2 %>}", "exactly one key"),
        ("[{a: yes}]", "must be an expression"),
        ("{next: {a: a}}", "must be an expression"),
        ("'a b'", "white space"),
        ("fail(msg='boom')", "can be read as a task's name or as a call"),
        ("{publish: {}}", "has neither"),
        ("{publish: {v: 1}}", "has neither"),
        ("{publish: {branch: {}}}", "mapping that is not empty"),
        ("{publish: {branch: {v: 1}, locale: {v: 1}}}", "has no key `locale`"),
        ("{publish: v}", "must be a mapping"),
        ("c", "there is no task `c`"),
    ],
)
def test_refusals(clause: str, said: str) -> None:
    """What is no clause is one problem, in its line."""
    problems = find_problems(f"t:\n  on-error: {clause}\na: {{action: std.noop}}\nb: {{action: std.noop}}")
    assert len(problems) == 1
    assert said in problems[0][2]
    assert problems[0][0].startswith("wf.tasks.t.on-error")
    assert problems[0][1] == 5


def test_commands_carry_their_message() -> None:
    """`msg` of an engine command, in either form, is its message."""
    task = compile_task("on-error: [fail msg='no way', 'succeed(msg=\"well done\")', pause]")
    fail, succeed, pause = task.on_error.next
    assert (fail.command, constant(fail.message)) == (Command.FAIL, "no way")
    assert (succeed.command, constant(succeed.message)) == (Command.SUCCEED, "well done")
    assert (pause.command, pause.message) == (Command.PAUSE, None)


def test_publish_keeps_both_scopes() -> None:
    """Branch and global variables of a clause stay apart, and the task's own stay beside them."""
    task = compile_task("publish: {p: 1}\non-success: {publish: {branch: {b: 2}, global: {g: 3}, atomic: {x: 4}}}")
    assert constant(task.publish) == {"p": 1}
    assert constant(task.on_success.branch) == {"b": 2}
    assert constant(task.on_success.globals) == {"g": 3}


def test_defaults() -> None:
    """task-defaults give targets to clauses that have none, except the task itself; their publish is ignored."""
    workflow = compile_tasks(
        """
        first: {on-error: noop}
        t:
          on-error: {publish: {branch: {v: 1}}}
        u:
          on-error: t
        handler: {action: std.noop}
        """,
        task_defaults="on-error: {next: [handler, {u: <% 1 %>}], publish: {branch: {lost: 1}}}\non-complete: noop",
    )
    assert targets(workflow.tasks["t"].on_error) == [("handler", False), ("u", True)]
    assert constant(workflow.tasks["t"].on_error.branch) == {"v": 1}
    assert targets(workflow.tasks["u"].on_error) == [("t", False)]
    assert workflow.tasks["u"].on_error.branch is None
    assert targets(workflow.tasks["handler"].on_error) == [("u", True)]
    assert all(targets(task.on_complete) == [("noop", False)] for task in workflow.tasks.values())
    assert workflow.tasks["handler"].inbound == ("t",)
    assert workflow.tasks["u"].inbound == ("t", "handler")


def test_defaults_cannot_fill_the_memory() -> None:
    """Targets of task-defaults times tasks is bounded."""
    count = 1_100
    tasks = "\n".join(f"t{number}: {{action: std.noop}}" for number in range(count))
    names = ", ".join(f"t{number}" for number in range(count - 1))
    problems = find_problems(tasks, task_defaults=f"on-success: [{names}]")
    assert [(path, message) for path, _, message in problems] == [
        ("wf.task-defaults", "more than 1,000,000 transitions")
    ]
