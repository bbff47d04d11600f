"""Random Orquesta documents: a workflow `wf` with a sub-workflow `child`; branches, splits, joins, items, cycles.

What only succeeds comes to an end: transitions lead back only when a task has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

Draw = Any

WHEN = [
    "<% succeeded() %>",
    "<% succeeded() %>",
    "<% failed() %>",
    "<% completed() %>",
    "<% ctx().get(v0) = 1 %>",
    None,
]
PUBLISHED = ["<% result() %>", 1, {"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, "<% ctx().get(v0) %>"]


def _seldom(draw: Draw, one_in: int) -> bool:
    """True once in so many times; false is what shrinking leads to."""
    return bool(draw(st.integers(0, one_in - 1)) == one_in - 1)


@st.composite
def orquesta_documents(draw: Draw) -> tuple[str, str]:
    """The texts of `child` and of `wf`."""
    texts = []
    for count, has_children in ((2, False), (draw(st.integers(1, 6)), True)):
        document: dict[str, Any] = {"version": 1.0}
        if _seldom(draw, 3):
            document["vars"] = [{"v0": draw(st.sampled_from([0, 1, {"a": 0}]))}]
        if _seldom(draw, 5):
            document["on-failure"] = "pause"
        if _seldom(draw, 3):
            document["output"] = [{"o": "<% ctx().get(v0) %>"}]
        document["tasks"] = _tasks(draw, count, has_children=has_children)
        texts.append(yaml.safe_dump(document, sort_keys=False))
    return texts[0], texts[1]


def _tasks(draw: Draw, count: int, *, has_children: bool) -> dict[str, Any]:
    names = [f"t{number}" for number in range(count)]
    tasks: dict[str, Any] = {name: _body(draw, has_children=has_children) for name in names}
    for number, name in enumerate(names):
        following = _transitions(draw, names[1 : number + 1], names[number + 1 :])
        if following:
            tasks[name]["next"] = following
    for name in names[1:]:
        sources = [source for source in names if name in _targets(tasks[source])]
        if len(sources) > 1 and draw(st.booleans()):
            tasks[name]["join"] = draw(st.sampled_from(["all", 1, len(sources)]))
    return tasks


def _body(draw: Draw, *, has_children: bool) -> dict[str, Any]:
    task: dict[str, Any] = {"action": "child" if has_children and _seldom(draw, 5) else "std.noop"}
    if _seldom(draw, 4):
        task["with"] = {"items": f"<% {draw(st.sampled_from(['list(1, 2, 3)', 'list(1)', 'list(1, 2)']))} %>"}
        if draw(st.booleans()):
            task["with"]["concurrency"] = draw(st.integers(1, 2))
    if _seldom(draw, 6):
        task["delay"] = draw(st.integers(1, 2))
    if _seldom(draw, 5):
        task["retry"] = {"count": draw(st.integers(1, 2)), "delay": draw(st.integers(0, 1))}
    return task


def _transitions(draw: Draw, before: Sequence[str], after: Sequence[str]) -> list[dict[str, Any]]:
    following = []
    for _ in range(draw(st.integers(0, 2))):
        when = draw(st.sampled_from(WHEN))
        possible = [*after, *(before if when == "<% failed() %>" else ())]
        transition: dict[str, Any] = {} if when is None else {"when": when}
        if _seldom(draw, 3):
            transition["publish"] = [{draw(st.sampled_from(["v0", "v1"])): draw(st.sampled_from(PUBLISHED))}]
        targets = draw(st.lists(st.sampled_from(possible), max_size=2, unique=True)) if possible else []
        if not targets or _seldom(draw, 8):
            targets = [draw(st.sampled_from(["noop", "fail", "continue"]))]
        transition["do"] = targets
        following.append(transition)
    return [one for index, one in enumerate(following) if one not in following[:index]]


def _targets(task: dict[str, Any]) -> set[str]:
    return {target for transition in task.get("next", ()) for target in transition["do"]}
