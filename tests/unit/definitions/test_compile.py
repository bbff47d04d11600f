"""Tasks and workflows: every key, its forms, and what the graph makes of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.unit.definitions.mistral_texts import compile_task, compile_tasks, find_problems, read_tasks

from dalsegno.definitions.document import read
from dalsegno.workflow.model import JOIN_ALL, Policies, Retry
from dalsegno.workflow.scope import Constant, Template


def constant(template: Template | None) -> Any:
    assert isinstance(template, Constant)
    return template.value


def test_action_and_input() -> None:
    """Inline parameters and `input` are one input, in which the inline ones win."""
    task = compile_task("action: my.act a=1 b='x'\ninput: {b: y, c: [2]}")
    assert constant(task.action) == "my.act"
    assert constant(task.input) == {"a": 1, "b": "x", "c": [2]}
    assert task.workflow is None


def test_workflow_and_dynamic_names() -> None:
    """A name may be an expression; a task without either runs nothing in particular."""
    task = compile_task("workflow: <% $.which %> a=1")
    assert task.workflow is not None
    assert not isinstance(task.workflow, Constant)
    assert task.action is None
    nothing = compile_task("publish: {v: 1}")
    assert (nothing.action, nothing.workflow, nothing.input) == (None, None, None)


def test_task_keys() -> None:
    """The remaining keys of a task arrive on the compiled task."""
    task = compile_task(
        """
        action: std.noop
        description: Does nothing
        tags: [x, y]
        with-items: [i in <% $.l %>, 'j in [1, "2", <% $.x %>]', 'k in [1, 2] and more']
        keep-result: false
        safe-rerun: true
        target: node1
        publish: {a: 1}
        publish-on-error: {b: 2}
        publish-on-skip: {c: 3}
        """.replace(", <% $.x %>]", "]")
    )
    assert (task.description, task.tags, task.keep_result) == ("Does nothing", ("x", "y"), False)
    assert [item.names for item in task.items] == [("i",), ("j",), ("k",)]
    assert constant(task.items[1].values) == [1, "2"]
    assert constant(task.safe_rerun) is True
    assert constant(task.target) == "node1"
    assert [constant(task.publish), constant(task.publish_on_error), constant(task.publish_on_skip)] == [
        {"a": 1},
        {"b": 2},
        {"c": 3},
    ]
    assert task.spec["name"] == "t"
    assert task.spec["type"] == "direct"


def test_policies() -> None:
    """Policies are taken unchanged, the retry in both forms, and 0 or false is as good as none."""
    expected = Policies(
        pause_before=Constant(True),
        wait_before_s=Constant(1),
        wait_after_s=None,
        timeout_s=Constant(3),
        retry=Retry(Constant(3), Constant(0)),
        concurrency=Constant(2),
    )
    common = "pause-before: true\nwait-before: 1\nwait-after: 0\ntimeout: 3.0\nconcurrency: 2\nfail-on: false\n"
    assert compile_task(common + "retry: count=3 delay=0").policies == expected
    assert compile_task(common + "retry: {count: 3, delay: 0}").policies == expected
    retry = compile_task("retry: count=<% $.c %> delay=1 break-on=<% $.b %> continue-on=<% $.d %>").policies.retry
    assert retry is not None
    assert retry.break_on is not None
    assert retry.continue_on is not None


def test_policies_from_defaults() -> None:
    """The task's value wins; its 0 does not switch a default off."""
    workflow = compile_tasks(
        "t: {timeout: 1, wait-before: 0}\nu: {action: std.noop, safe-rerun: false}",
        task_defaults="timeout: 2\nwait-before: 3\nretry: count=1 delay=1\nsafe-rerun: true",
    )
    assert constant(workflow.tasks["t"].policies.timeout_s) == 1
    assert constant(workflow.tasks["t"].policies.wait_before_s) == 3
    assert constant(workflow.tasks["u"].policies.timeout_s) == 2
    assert workflow.tasks["u"].policies.retry is not None
    assert constant(workflow.tasks["t"].safe_rerun) is True
    assert constant(workflow.tasks["u"].safe_rerun) is False


def test_graph() -> None:
    """Starts, inbound tasks and joins follow the clauses, conditions ignored."""
    workflow = compile_tasks(
        """
        a: {on-success: [j, {k: <% $.x %>}]}
        b: {on-error: j, on-complete: [j, k]}
        j: {join: all}
        k: {join: 2, on-success: l}
        l: {join: 0, on-skip: m}
        m: {join: one}
        """
    )
    assert workflow.starts == ("a", "b")
    assert workflow.tasks["j"].inbound == ("a", "b")
    assert [workflow.tasks[name].join for name in "jklm"] == [JOIN_ALL, 2, 0, 1]
    assert not workflow.tasks["l"].has_join


def test_reverse() -> None:
    """A reverse workflow has `requires`, and those of task-defaults for every other task."""
    text = """
version: '2.0'
wf:
  type: reverse
  task-defaults: {requires: c}
  tasks:
    a: {requires: [b]}
    b: {requires: a, action: std.noop}
    c: {action: std.noop}
"""
    document = read(text)
    assert document.problems == ()
    workflow = document.members[0].workflow
    assert workflow is not None
    assert workflow.reverse
    assert workflow.starts == ()
    assert {name: task.requires for name, task in workflow.tasks.items()} == {"a": ("b", "c"), "b": ("a", "c"), "c": ()}
    refused = read(text.replace("{requires: [b]}", "{requires: [x], join: all, on-success: b}"))
    assert sorted(problem.path for problem in refused.problems) == [
        "wf.tasks.a.join",
        "wf.tasks.a.on-success",
        "wf.tasks.a.requires",
    ]


def test_workflow_parts() -> None:
    """Input defaults are plain values; vars and outputs are templates."""
    workflow = compile_tasks(
        "t: {action: std.noop}",
        input="- a\n- b: <% $.a %>\n- c: null",
        vars="v: <% $.a %>",
        output="o: 1",
        output_on_error="e: 2",
        tags="- x",
    )
    assert [(item.name, item.required) for item in workflow.input] == [("a", True), ("b", False), ("c", False)]
    assert constant(workflow.input[1].default) == "<% $.a %>"
    assert constant(workflow.input[2].default) is None
    assert workflow.vars is not None
    assert constant(workflow.output) == {"o": 1}
    assert constant(workflow.output_on_error) == {"e": 2}
    assert workflow.tags == ("x",)


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        ("{}", "", "mapping that is not empty"),
        ("", "", "mapping that is not empty"),
        ("{acton: std.noop}", ".acton", "has no key `acton`"),
        ("{action: a, workflow: b}", ".workflow", "not both"),
        ("{action: null}", ".action", "must be text"),
        ("{action: '- x'}", ".action", "does not begin with a name"),
        ("{action: a b=1, input: text}", ".input", "cannot be joined"),
        ("{action: a, input: []}", ".input", "mapping that is not empty"),
        ("{action: a, input: {on: 1}}", ".input.true", "not as text"),
        ("{with-items: 'i in []'}", ".with-items", "is not of the form"),
        ("{with-items: 'i in [1,,3]'}", ".with-items", "no JSON list"),
        ("{with-items: [i in <% 1 %>, 5]}", ".with-items[1]", "must be text"),
        ("{with-items: i <% $.l %>}", ".with-items", "is not of the form"),
        ("{with-items: 'i in " + "[" * 200 + "1" + "]" * 200 + "'}", ".with-items", "no JSON list"),
        ("{retry: {count: 1}}", ".retry", "`delay` is missing"),
        ("{retry: {count: '1', delay: 1}}", ".retry.count", "whole number"),
        ("{retry: count=3}", ".retry", "`count` is missing"),
        ("{retry: count=3 delay=1 every=2}", ".retry.every", "has no key `every`"),
        ("{wait-before: -1}", ".wait-before", "whole number"),
        ("{wait-after: 1.5}", ".wait-after", "whole number"),
        ("{timeout: true}", ".timeout", "whole number"),
        ("{pause-before: 1}", ".pause-before", "true, false"),
        ("{fail-on: text}", ".fail-on", "true, false"),
        ("{keep-result: null}", ".keep-result", "true, false"),
        ("{join: two}", ".join", "must be all, one or a whole number"),
        ("{join: all}", ".join", "nothing leads to"),
        ("{join: 1}", ".join", "waits for 1"),
        ("{requires: [u]}", ".requires", "has no key `requires`"),
        ("{publish: {}}", ".publish", "mapping that is not empty"),
        ("{publish: {v: <% * %>}}", ".publish.v", "<% * %>"),
        ("{action: std.echo output=<% * %>}", ".action", "<% * %>"),
        ("{action: a, input: {x: {y: ['<% * %>']}}}", ".input.x.y[0]", "<% * %>"),
        ("{action: a, input: {x: '<% $.a %> {{ _.b }}'}}", ".input.x", "YAQL and Jinja"),
    ],
)
def test_refusals(body: str, path: str, said: str) -> None:
    """What is wrong with a task is told with its path and in its line."""
    problems = find_problems(f"u: {{action: std.noop}}\nt: {body}")
    assert [(place, line) for place, line, _ in problems][:1] == [(f"wf.tasks.t{path}", 5)]
    assert said in problems[0][2]


def test_names() -> None:
    """Names too long, names like UUIDs and a workflow without a task to start with are refused."""
    long = "t" * 209
    assert "at most 208" in find_problems(f"a: {{on-success: {long}}}\n{long}: {{join: all}}")[0][2]
    assert find_problems(f"a: {{on-success: {long}}}\n{long}: {{action: std.noop}}") == []
    assert "at most 255" in find_problems(f"{'t' * 256}: {{action: std.noop}}")[0][2]
    uuid = "6c1b1f5e-9d5c-4a1e-8d1c-0a4b6f0d9a11"
    assert "UUID" in read(f"version: '2.0'\n{uuid}: {{tasks: {{t: {{action: std.noop}}}}}}").problems[0].message
    assert "no task to start with" in find_problems("a: {on-success: b}\nb: {on-success: a}")[0][2]


def test_hints() -> None:
    """A word that is nearly right gets the right one as a hint."""
    document = read_tasks("fetch: {acton: std.noop, on-success: fecth}\nshow: {retry: {count: '3', delay: 1}}")
    assert [problem.hint for problem in document.problems] == [
        "did you mean `action`?",
        "did you mean `fetch`?",
        "remove the quotes",
    ]


def _chain(count: int) -> str:
    tasks = "".join(
        f"    t{number}:\n      action: std.echo output=<% $.x %>\n      publish:\n        v: <% task().result %>\n"
        f"      on-success:\n        - t{number + 1}: <% $.v > 1 %>\n"
        for number in range(count)
    )
    head = "version: '2.0'\nwf:\n  task-defaults:\n    on-error: fail\n  tasks:\n"
    return f"{head}{tasks}    t{count}: {{action: std.noop}}\n"


@pytest.mark.long("thousands of tasks")
def test_time_is_linear() -> None:
    """A thousand tasks compile in less than a second of CPU, and eight thousand in about eight times that."""
    read(_chain(10))

    def cost(count: int) -> float:
        text = _chain(count)
        began = time.process_time()
        assert read(text).problems == ()
        return time.process_time() - began

    assert min(cost(1_000) for _ in range(2)) < 1
    # What runs beside it can make the same work twice as long: one after the other, and again if that was so.
    assert any(cost(8_000) < 16 * cost(1_000) for _ in range(3))


@pytest.mark.long("thousands of tasks")
def test_many_mistakes_are_not_slow() -> None:
    """Ten thousand unknown targets among ten thousand tasks are told within seconds, the first 500 one by one."""
    text = _chain(10_000).replace("- t", "- x")
    began = time.process_time()
    problems = read(text).problems
    assert time.process_time() - began < 20
    assert len(problems) == 501
    assert problems[-1].message == "and 9500 further problems"
