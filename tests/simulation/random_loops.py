"""Random documents of both languages that go round a few times, and whose checkpoints keep a part of the history."""

from __future__ import annotations

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
