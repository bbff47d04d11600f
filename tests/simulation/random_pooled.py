"""Random documents with expressions that the engine leaves to its pool of processes, and with callbacks."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st
from tests.simulation.random_checkpoints import mark, seldom

Draw = Any

MISTRAL = (
    "<% [1, 2, 2].toSet().len() %>",
    "<% [$.get(v0), $.get(v1)].toSet().len() %>",
    "<% regex('x').matches(str(task().result)) %>",
    "<% [tasks().len()].toSet().len() %>",
    "<% [executions().len()].toSet().len() + [env().get(a)].toSet().len() %>",
    "<% ['a'].toSet().missing() %>",
    "{% for x in [1, 2] %}{{ x }}{{ _.v0 }}{% endfor %}",
)
ORQUESTA = (
    "<% regex_match('1', str(ctx().get(v0))) %>",
    "<% [1, 1].toSet().len() %>",
    "<% [result()].toSet().len() %>",
    "<% regex_match('[', 'x') %>",
    "{% for x in [1, 2] %}{{ x }}{% endfor %}",
)
ACTIONS = ("std.noop", "std.http url=<% callback_url() %>", "std.echo output=<% [$.get(v0)].toSet().len() %>")


@st.composite
def pooled_mistral(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """A document of Mistral, and the params to start `wf` with."""
    tasks: dict[str, Any] = {}
    for number in range(draw(st.integers(2, 4))):
        task: dict[str, Any] = {"action": draw(st.sampled_from(ACTIONS))}
        if seldom(draw, 4):
            task = {"action": "core.ask", "input": {"schema": {"type": "integer"}}}
        task["publish"] = {f"v{draw(st.integers(0, 1))}": draw(st.sampled_from(MISTRAL))}
        condition = draw(st.sampled_from(["<% regex('a').matches('a') %>", "<% true %>"]))
        task["on-success"] = [{f"t{number + 1}": condition}]
        if seldom(draw, 3):
            task["with-items"] = "i in <% [1, 2].toSet().toList() %>"
        tasks[f"t{number}"] = task
    tasks[f"t{len(tasks)}"] = {"action": draw(st.sampled_from(ACTIONS))}
    workflow: dict[str, Any] = {"output": {"o": draw(st.sampled_from(MISTRAL))}, "tasks": tasks}
    mark(draw, workflow, "wf")
    document = {"version": "2.0", "child": {"tasks": {"t0": {"action": "std.noop"}}}, "wf": workflow}
    return [yaml.safe_dump(document, sort_keys=False)], {}


@st.composite
def pooled_orquesta(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """Two documents of Orquesta."""
    tasks: dict[str, Any] = {}
    for number in range(draw(st.integers(2, 3))):
        published = {f"v{draw(st.integers(0, 1))}": draw(st.sampled_from(ORQUESTA))}
        tasks[f"t{number}"] = {
            "action": "std.noop",
            "next": [{"when": "<% regex_match('a', 'a') %>", "publish": [published], "do": [f"t{number + 1}"]}],
        }
    tasks[f"t{len(tasks)}"] = {"action": "std.noop"}
    child = {"version": "1.0", "name": "child", "tasks": {"t0": {"action": "std.noop"}}}
    wf = {"version": "1.0", "name": "wf", "vars": [{"v0": 0}, {"v1": 1}], "tasks": tasks}
    return [yaml.safe_dump(each, sort_keys=False) for each in (child, wf)], {}
