"""Random Mistral documents: a workflow `wf` with a sub-workflow `child`, built of everything that the core decides on.

Edges lead forward, so that what only succeeds comes to an end; only failures that an executor reports may lead back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

Draw = Any

CONDITIONS = [
    "<% true %>",
    "<% true %>",
    "<% false %>",
    "<% $.get(v0, 0) = 1 %>",
    "<% task().result != null %>",
    "<% $.missing.missing %>",
]
PUBLISHED = ["<% task().result %>", 1, {"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, "<% $.get(v0) %>", "<% $.missing %>"]
COMMANDS = ["noop", "fail", "succeed", "pause"]


def _seldom(draw: Draw, one_in: int) -> bool:
    """True once in so many times; false is what shrinking leads to."""
    return bool(draw(st.integers(0, one_in - 1)) == one_in - 1)


@st.composite
def documents(draw: Draw) -> tuple[str, dict[str, Any]]:
    """The YAML text, and the params to start `wf` with."""
    is_reverse = _seldom(draw, 6)
    count = draw(st.integers(1, 6))
    document: dict[str, Any] = {"version": "2.0", "child": _direct(draw, 2, has_children=False)}
    params: dict[str, Any] = {}
    if is_reverse:
        document["wf"] = _reverse(draw, count)
        params["task_name"] = f"t{draw(st.integers(0, count - 1))}"
    else:
        document["wf"] = _direct(draw, count, has_children=True)
    if _seldom(draw, 4):
        document[draw(st.sampled_from(["wf", "child"]))]["on-failure"] = "pause"
    if _seldom(draw, 3):
        document["wf"]["output"] = {"o": draw(st.sampled_from(PUBLISHED[3:]))}
    plain = json.loads(json.dumps(document))  # no value twice: the text is to have no anchors
    return yaml.safe_dump(plain, sort_keys=False), params


def _reverse(draw: Draw, count: int) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for number in range(count):
        task = tasks[f"t{number}"] = _body(draw, has_children=True)
        required = [f"t{each}" for each in range(number) if draw(st.booleans())]
        if required:
            task["requires"] = required
    return {"type": "reverse", "tasks": tasks}


def _direct(draw: Draw, count: int, *, has_children: bool) -> dict[str, Any]:
    names = [f"t{number}" for number in range(count)]
    tasks = {name: _body(draw, has_children=has_children) for name in names}
    for number, name in enumerate(names):
        tasks[name].update(_clauses(draw, tasks[name], names[1 : number + 1], names[number + 1 :]))
    for name in names[1:]:
        sources = [source for source in names if name in _targets(tasks[source])]
        if sources and draw(st.booleans()):
            tasks[name]["join"] = draw(st.sampled_from(["all", "one", len(sources)]))
    workflow: dict[str, Any] = {"tasks": tasks}
    if _seldom(draw, 3):
        workflow["vars"] = {"v0": draw(st.integers(0, 1))}
    return workflow


def _clauses(draw: Draw, task: dict[str, Any], before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    clauses: dict[str, Any] = {}
    for key in ("on-success", "on-error", "on-complete"):
        possible = list(after)
        if key == "on-error" and not task.keys() & {"fail-on", "timeout", "with-items", "workflow"}:
            possible += before
        following = _transitions(draw, possible)
        if not following:
            continue
        if _seldom(draw, 5):
            published = {"branch": _published(draw), "global": {"g": draw(st.sampled_from(PUBLISHED))}}
            clauses[key] = {"publish": published, "next": following}
        else:
            clauses[key] = following
    return clauses


def _transitions(draw: Draw, possible: Sequence[str]) -> list[Any]:
    following: list[Any] = []
    chosen = draw(st.lists(st.sampled_from(possible), max_size=3, unique=True)) if possible else []
    for name in chosen:
        following.append({name: draw(st.sampled_from(CONDITIONS))} if _seldom(draw, 4) else name)
    if _seldom(draw, 10):
        command = draw(st.sampled_from(COMMANDS))
        following.insert(draw(st.integers(0, len(following))), command)
    return following


def _targets(task: dict[str, Any]) -> set[str]:
    """The tasks that the clauses of a task mention."""
    found: set[str] = set()
    for key in ("on-success", "on-error", "on-complete"):
        clause = task.get(key, [])
        for one in clause["next"] if isinstance(clause, dict) else clause:
            found.update(one if isinstance(one, dict) else [one])
    return found


def _published(draw: Draw) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["v0", "v1"]), min_size=1, max_size=2, unique=True))
    return {name: draw(st.sampled_from(PUBLISHED[: 6 if _seldom(draw, 5) else 5])) for name in names}


def _body(draw: Draw, *, has_children: bool) -> dict[str, Any]:
    task: dict[str, Any] = {}
    if has_children and _seldom(draw, 4):
        task["workflow"] = "child"
    else:
        task["action"] = draw(
            st.sampled_from(["std.noop", "std.noop", "std.http url='x'", "std.echo output=<% $.v0 %>"])
        )
    if _seldom(draw, 4):
        task["with-items"] = f"i in {draw(st.sampled_from([[1, 2, 3], [1], '<% list() %>', [1, 2]]))}"
        if draw(st.booleans()):
            task["concurrency"] = draw(st.integers(1, 2))
        if "action" in task and _seldom(draw, 3):  # fails at the second item
            task["action"] = "std.echo output=<% switch($.i = 2 => $.missing, true => 1) %>"
    if _seldom(draw, 3):
        task["publish"] = _published(draw)
    if _seldom(draw, 6):
        task["publish-on-error"] = _published(draw)
    if _seldom(draw, 3):
        task["retry"] = {"count": draw(st.integers(1, 2)), "delay": draw(st.integers(0, 2))}
        if _seldom(draw, 4):
            task["retry"]["break-on"] = "<% task().result = 1 %>"
        if _seldom(draw, 4):
            task["retry"]["continue-on"] = "<% task().result = null %>"
    for key in ("wait-before", "wait-after", "timeout"):
        if _seldom(draw, 6):
            task[key] = draw(st.integers(1, 3))
    if _seldom(draw, 12):
        task["pause-before"] = True
    if _seldom(draw, 12):
        task["fail-on"] = "<% task().result = 1 %>"
    if _seldom(draw, 10):
        task["keep-result"] = False
    return task
