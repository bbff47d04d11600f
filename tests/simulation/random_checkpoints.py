"""Random documents of both languages whose tasks have checkpoints and reverts, and whose workflows have strategies."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st
from tests.simulation.random_orquesta import orquesta_documents
from tests.simulation.random_workflows import documents

Draw = Any


def seldom(draw: Draw, one_in: int) -> bool:
    """True once in so many times."""
    return bool(draw(st.integers(0, one_in - 1)) == one_in - 1)


def mark(draw: Draw, workflow: dict[str, Any], prefix: str) -> None:
    """Give tasks checkpoints and reverts, and the workflow a strategy."""
    names = []
    for name, task in workflow["tasks"].items():
        is_retried = "retry" in task or any("retry" in str(each.get("do")) for each in task.get("next", ()) if each)
        if seldom(draw, 3):
            names.append(f"{prefix}{name}")
            checkpoint: dict[str, Any] = {"name": names[-1], "when": draw(st.sampled_from(["after", "before"]))}
            if not is_retried and seldom(draw, 3):
                checkpoint["retry"] = draw(st.integers(1, 2))
                if seldom(draw, 2):
                    checkpoint["delay"] = 1
            task["checkpoint"] = checkpoint
        if seldom(draw, 2):
            revert: dict[str, Any] = {"action": "std.noop"}
            if seldom(draw, 2):
                revert["when"] = "always"
            if seldom(draw, 4):
                revert["retry"] = {"count": 1, "delay": 1}
            if seldom(draw, 4):
                revert["publish"] = {"reverted": 1}
            if "with-items" in task or "with" in task:
                revert["concurrency"] = draw(st.integers(1, 2))
            task["revert"] = revert
    if seldom(draw, 3) and "on-failure" not in workflow:
        then = draw(st.sampled_from(["stop", "pause", "retry"]))
        workflow["on-failure"] = {"revert": draw(st.sampled_from(["start", "last", *names])), "then": then}


@st.composite
def marked_mistral(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """A document of Mistral, and the params to start `wf` with."""
    text, params = draw(documents())
    document = yaml.safe_load(text)
    for name in ("child", "wf"):
        mark(draw, document[name], name)
    return [yaml.safe_dump(document, sort_keys=False)], params


@st.composite
def marked_orquesta(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """Two documents of Orquesta."""
    texts = []
    for name, text in zip(("child", "wf"), draw(orquesta_documents()), strict=True):
        document = yaml.safe_load(text)
        document["name"] = name
        mark(draw, document, name)
        texts.append(yaml.safe_dump(document, sort_keys=False))
    return texts, {}
