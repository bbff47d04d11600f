"""What people see and what is stored has an order that no hash decides: each process gives the same."""

from __future__ import annotations

import random

import msgspec
import pytest
import yaml
from tests.unit.workflow.stories.operating import Stage

from dalsegno.definitions.document import MemberKind, read
from dalsegno.workflow import graph
from dalsegno.workflow.model import Workflow

NAMES = [f"name{number}" for number in range(12)]
random.Random("order").shuffle(NAMES)


def _mistral(whole: str) -> dict[str, object]:
    published = {"branch": dict.fromkeys(NAMES, 1), "global": {f"wide_{name}": 1 for name in NAMES}}
    tasks = {"first": {"action": "std.noop", "on-success": {"publish": published}}}
    return {"version": "2.0", "wf": {"tasks": tasks, "output": {"all": whole}}}


def _orquesta(whole: str) -> dict[str, object]:
    tasks = {"first": {"action": "std.noop", "next": [{"publish": [{name: 1} for name in NAMES]}]}}
    return {"version": "1.0", "name": "wf", "tasks": tasks, "output": [{"all": whole}]}


@pytest.mark.parametrize(
    ("document", "prefixes"),
    [
        (_mistral("<% $ %>"), ["wide_name", "name"]),
        (_mistral("{{ _ }}"), ["wide_name", "name"]),
        (_orquesta("<% ctx() %>"), ["name"]),
        (_orquesta("{{ ctx() }}"), ["name"]),
    ],
)
def test_all_variables_come_in_the_order_of_their_names(document: object, prefixes: list[str]) -> None:
    """An expression that gives all variables gives them in one order: those of the whole execution, then the others."""
    stage = Stage(yaml.safe_dump(document, sort_keys=False))
    stage.end("first")
    assert stage.execution.state == "SUCCESS", stage.execution.info
    shown = [name for name in stage.output()["all"] if "name" in name]
    assert shown == [name for prefix in prefixes for name in sorted(f"{prefix}{number}" for number in range(12))]


def test_joins_ahead_come_in_the_order_of_the_definition() -> None:
    """A rerun looks at the joins ahead in one order, and so it stores their changes in one."""
    tasks: dict[str, object] = {"first": {"action": "std.noop", "on-success": NAMES}}
    tasks |= {name: {"action": "std.noop", "join": 1} for name in NAMES}
    document = read(yaml.safe_dump({"version": "2.0", "wf": {"tasks": tasks}}, sort_keys=False))
    workflow = next(each.workflow for each in document.members if each.kind is MemberKind.WORKFLOW)
    assert isinstance(workflow, Workflow)
    assert list(graph.joins_ahead(workflow, "first")) == NAMES


def test_a_discard_stores_the_names_of_what_is_gone_in_order() -> None:
    """The journal of a discarded history has the names of the tasks that a kept one led to sorted."""
    tasks: dict[str, object] = {
        "first": {"action": "std.noop", "on-success": NAMES},
        "join": {"action": "std.noop", "join": "all", "checkpoint": "met", "on-success": "last"},
        "last": {"action": "std.noop"},
    }
    tasks |= {name: {"action": "std.noop", "on-success": "join"} for name in NAMES}
    stage = Stage(yaml.safe_dump({"version": "2.0", "wf": {"tasks": tasks}}, sort_keys=False))
    for name in ["first", *NAMES, "join"]:
        stage.end(name)
    stage.discard("met")
    stage.check()
    (consolidated,) = msgspec.json.decode(stage.world.journals[stage.execution.id][0])
    written = [names for each in consolidated["tasks"] if (names := each.get("led_to"))]
    assert max(written, key=len) == sorted(NAMES)
