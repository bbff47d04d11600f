"""Random documents whose sub-workflows fail often, are reverted, and are tried again by the checkpoint of a task."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st
from tests.simulation.random_checkpoints import seldom

Draw = Any


def _child(draw: Draw) -> dict[str, Any]:
    first: dict[str, Any] = {"action": "std.noop", "on-success": ["t1"]}
    last: dict[str, Any] = {"action": "std.http url='x'"}
    for task in (first, last):
        if draw(st.booleans()):
            task["revert"] = {"action": "std.noop"}
    last["fail-on"] = "<% true %>" if seldom(draw, 3) else "<% task().result != null %>"
    return {"tasks": {"t0": first, "t1": last}}


@st.composite
def retried_subflows(draw: Draw) -> tuple[list[str], dict[str, Any]]:
    """A document of Mistral, and the params to start `wf` with."""
    checkpoint: dict[str, Any] = {"name": "wft0", "retry": draw(st.integers(1, 2))}
    if draw(st.booleans()):
        checkpoint["delay"] = 1
    task: dict[str, Any] = {"workflow": "child", "checkpoint": checkpoint, "on-success": ["t1"]}
    if seldom(draw, 3):
        task["with-items"] = "i in [1, 2]"
    if draw(st.booleans()):
        task["on-error"] = ["t1"]
    tasks = {"t0": task, "t1": {"action": "std.noop"}}
    document = {"version": "2.0", "child": _child(draw), "wf": {"tasks": tasks}}
    return [yaml.safe_dump(document, sort_keys=False)], {}
