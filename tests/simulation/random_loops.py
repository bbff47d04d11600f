"""Random documents of both languages that go round a few times, and whose checkpoints keep a part of the history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import strategies as st
from tests.simulation.random_checkpoints import mark, seldom
from tests.simulation.random_orquesta import orquesta_documents
from tests.simulation.random_workflows import documents

Draw = Any

ROUNDS = 3


def _keep(draw: Draw) -> dict[str, Any]:
    keep: dict[str, Any] = {"count": draw(st.integers(1, 3))} if draw(st.booleans()) else {}
    if not keep or seldom(draw, 3):
        keep["age"] = draw(st.integers(1, 3))
    return keep


def _mark(draw: Draw, workflow: dict[str, Any], prefix: str) -> None:
    """Give tasks checkpoints that keep only so much."""
    mark(draw, workflow, prefix)
    for name, task in workflow["tasks"].items():
        if "checkpoint" not in task and draw(st.booleans()):
            task["checkpoint"] = {"name": f"{prefix}{name}", "when": draw(st.sampled_from(["after", "before"]))}
        if "checkpoint" in task and not seldom(draw, 4):
            task["checkpoint"]["keep"] = _keep(draw)
    strategy = workflow.get("on-failure")
    if isinstance(strategy, dict) and strategy["revert"] == "start":
        strategy["revert"] = "last"


def _go_round(draw: Draw, workflow: dict[str, Any], *, is_orquesta: bool) -> None:
    """Have one of the tasks lead back to the first one a few times; and perhaps another one, too."""
    tasks = workflow["tasks"]
    for count in range(2 if seldom(draw, 3) else 1):
        name, source = f"again{count}", tasks[draw(st.sampled_from([*tasks]))]
        first = draw(st.sampled_from([*tasks][:2]))
        if is_orquesta:
            workflow["vars"] = [*workflow.get("vars", ()), {f"n{count}": 0}]
            source.setdefault("next", []).append({"do": [name]})
            turned = {f"n{count}": f"<% ctx(n{count}) + 1 %>"}
            back = {"when": f"<% ctx(n{count}) < {ROUNDS} %>", "publish": [turned], "do": [first]}
            tasks[name] = {"action": "std.noop", "next": [back]}
        else:
            workflow["vars"] = {**workflow.get("vars", {}), f"n{count}": 0}
            clause = source.setdefault("on-success", [])
            (clause["next"] if isinstance(clause, dict) else clause).append(name)
            turned = {f"n{count}": f"<% $.n{count} + 1 %>"}
            back = {first: f"<% $.n{count} <= {ROUNDS} %>"}
            tasks[name] = {"action": "std.noop", "publish": turned, "on-success": [back]}


def _plain(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@st.composite
def looped_mistral(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """A document of Mistral, and the params to start `wf` with."""
    text, params = draw(documents())
    document = _plain(text)
    for name in ("child", "wf"):
        if document[name].get("type") != "reverse" and not (name == "child" and draw(st.booleans())):
            _go_round(draw, document[name], is_orquesta=False)
        _mark(draw, document[name], name)
    return [yaml.safe_dump(document, sort_keys=False)], params


@st.composite
def looped_orquesta(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """Two documents of Orquesta."""
    texts = []
    for name, text in zip(("child", "wf"), draw(orquesta_documents()), strict=True):
        document = _plain(text)
        document["name"] = name
        if name == "wf" or draw(st.booleans()):
            _go_round(draw, document, is_orquesta=True)
        _mark(draw, document, name)
        texts.append(yaml.safe_dump(document, sort_keys=False))
    return texts, {}


def _tasks(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for workflow in (document, *document.values()):
        if isinstance(workflow, dict) and isinstance(workflow.get("tasks"), dict):
            yield from workflow["tasks"].values()


def that_keep_all(texts: list[str]) -> list[str]:
    """The same documents, of which nothing is ever discarded."""
    found = []
    for text in texts:
        document = _plain(text)
        for task in _tasks(document):
            if isinstance(task.get("checkpoint"), dict):
                task["checkpoint"].pop("keep", None)
        found.append(yaml.safe_dump(document, sort_keys=False))
    return found


VALUES = [1, 2, {"a": 1}, {"b": {"c": 1}}, {"b": {"d": 2}}, {"b": 3}]


def _checkpoints(draw: Draw, tasks: dict[str, Any]) -> None:
    """Give some of the tasks checkpoints that keep little."""
    for name, task in tasks.items():
        if draw(st.booleans()):
            when = draw(st.sampled_from(["after", "before"]))
            task["checkpoint"] = {"name": name, "when": when, "keep": {"count": draw(st.integers(1, 2))}}


def _branches(draw: Draw, names: list[str]) -> Iterator[list[str]]:
    """The names of the tasks of two or three branches."""
    for number in range(draw(st.integers(2, 3))):
        branch = [f"b{number}{place}" for place in range(draw(st.integers(1, 2)))]
        names += branch
        yield branch


@st.composite
def meeting_orquesta(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """A document of Orquesta whose branches publish the same variables, and meet again and again."""
    names: list[str] = []
    branches = list(_branches(draw, names))
    tasks: dict[str, Any] = {
        "begin": {"action": "std.noop", "next": [{"do": ["fork", "slow"]}]},
        "fork": {"action": "std.noop", "next": [{"do": [branch[0] for branch in branches]}]},
        "slow": {"action": "std.noop", "next": [{"do": ["last" if draw(st.booleans()) else "meet"]}]},
    }
    for branch in branches:
        for name, following in zip(branch, [*branch[1:], "meet"], strict=True):
            transition: dict[str, Any] = {"do": [following]}
            if draw(st.booleans()):
                transition["publish"] = [{draw(st.sampled_from(["v0", "v1"])): draw(st.sampled_from(VALUES))}]
            if seldom(draw, 4):
                transition["when"] = f"<% ctx(n) < {draw(st.integers(1, 2))} %>"
            tasks[name] = {"action": "std.noop", "next": [transition]}
    again = {"when": f"<% ctx(n) < {ROUNDS} %>", "publish": [{"n": "<% ctx(n) + 1 %>"}], "do": ["fork"]}
    over = {"when": f"<% ctx(n) >= {ROUNDS} %>", "do": ["last"]}
    join = (
        draw(st.sampled_from(["all", 1, 2])) if tasks["slow"]["next"][0]["do"] == ["last"] else draw(st.integers(1, 2))
    )
    tasks["meet"] = {"action": "std.noop", "join": join, "next": [again, over]}
    tasks["last"] = {"action": "std.noop", "join": 1 if draw(st.booleans()) else "all"}
    if tasks["slow"]["next"][0]["do"] == ["meet"]:
        del tasks["last"]["join"]
    if draw(st.booleans()):
        tasks["slow"]["next"][0]["publish"] = [{"v0": draw(st.sampled_from(VALUES))}]
    _checkpoints(draw, tasks)
    start = draw(st.sampled_from([0, {"a": 0, "z": 9}]))
    output = [{name: f"<% ctx().get({name}) %>"} for name in ("v0", "v1", "n")]
    document = {"version": 1.0, "name": "wf", "vars": [{"n": 0}, {"v0": start}], "output": output, "tasks": tasks}
    return [_written(document)], {}


@st.composite
def meeting_mistral(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """A document of Mistral in which a loop is one of several branches, which publish the same variables and meet."""
    names: list[str] = []
    branches = list(_branches(draw, names))
    tasks: dict[str, Any] = {
        "begin": {"action": "std.noop", "on-success": ["turn", *(branch[0] for branch in branches)]},
        "turn": {
            "action": "std.noop",
            "publish": {"n": "<% $.n + 1 %>"},
            "on-success": ["again", *(["aside"] if draw(st.booleans()) else [])],
        },
        "aside": {"action": "std.noop", "publish": {"v1": draw(st.sampled_from(VALUES))}},
        "again": {
            "action": "std.noop",
            "publish": {draw(st.sampled_from(["v0", "v1"])): draw(st.sampled_from(VALUES))},
            "on-success": [{"turn": f"<% $.n <= {ROUNDS} %>"}, {"meet": f"<% $.n > {ROUNDS} %>"}],
        },
        "meet": {"action": "std.noop", "join": draw(st.sampled_from(["all", 1, 2]))},
    }
    for branch in branches:
        for name, following in zip(branch, [*branch[1:], "meet"], strict=True):
            tasks[name] = {"action": "std.noop", "on-success": [following]}
            if draw(st.booleans()):
                tasks[name]["publish"] = {draw(st.sampled_from(["v0", "v1"])): draw(st.sampled_from(VALUES))}
    _checkpoints(draw, tasks)
    output = {name: f"<% $.get({name}) %>" for name in ("v0", "v1", "n")}
    document = {"version": "2.0", "wf": {"vars": {"n": 0}, "output": output, "tasks": tasks}}
    return [_written(document)], {}


def _written(document: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(document))  # no value twice: the text is to have no anchors
    return yaml.safe_dump(plain, sort_keys=False)
