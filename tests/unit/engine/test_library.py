"""Which documents are read for storing, and which are refused."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from dalsegno.definitions.document import Document
from dalsegno.engine.batches.cache import CompiledWorkflows, Copy, ExecutionCache
from dalsegno.engine.desk.library import read_documents, stored_member
from dalsegno.expressions.pool_client import POOL
from dalsegno.v1 import workflow_service_pb2
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import AdHocAction, Workflow
from dalsegno.workflow.refusals import InvalidDefinition
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.states import ExecutionState


def read_here(request: workflow_service_pb2.CreateDefinitionsRequest) -> Document:
    """The document of a request with a short text."""
    (document,) = asyncio.run(read_documents(request, POOL)).documents
    return document


def refusal(text: str) -> list[str]:
    """What is said against a text."""
    with pytest.raises(InvalidDefinition) as caught:
        read_here(workflow_service_pb2.CreateDefinitionsRequest(text=text))
    return [problem.message for problem in caught.value.problems]


ORQUESTA = "version: 1.0\ntasks:\n  greet:\n    action: example.greet who={}\n"


def test_an_orquesta_workflow_needs_a_name() -> None:
    """Without a name it is refused, together with all else that is wrong, and told how to give it one."""
    assert refusal(ORQUESTA.format("<% ctx(nowhere) %>")) == [
        "the workflow has no name to be stored by",
        "the variable `nowhere` is referenced before it is assigned",
    ]
    assert refusal(ORQUESTA.format("<% 1 %>")) == ["the workflow has no name to be stored by"]


@pytest.mark.parametrize(("name", "top"), [("pack.greet", ""), ("", "name: pack.greet\n"), ("pack.greet", "name: x\n")])
def test_an_orquesta_workflow_is_named_from_outside_or_at_its_top(name: str, top: str) -> None:
    """A name in the request goes before the one in the text; an action that nobody knows yet keeps none from it."""
    request = workflow_service_pb2.CreateDefinitionsRequest(text=top + ORQUESTA.format("<% 1 %>"), name=name)
    (member,) = read_here(request).members
    assert member.workflow is not None
    assert (member.name, member.workflow.name, member.workflow.language) == ("pack.greet", "pack.greet", "orquesta")


def test_defaults_are_stored_as_written() -> None:
    """A constant default is stored as its value, an expression as its text; a name alone is null where that is so."""
    text = "version: 1.0\nname: w\ninput: [a, {b: [ü]}, {c: <% ctx(b) %>}]\ntasks: {t: {action: core.noop}}"
    request = workflow_service_pb2.CreateDefinitionsRequest(text=text)
    (member,) = read_here(request).members
    stored = stored_member(member, 1.0).input
    assert "ü" in stored
    assert json.loads(stored) == [
        {"name": "a", "required": False, "default": None},
        {"name": "b", "required": False, "default": ["ü"]},
        {"name": "c", "required": False, "default": "<% ctx(b) %>"},
    ]


def long_workflow(characters: int) -> Workflow:
    """One whose text is as long as that."""
    return Workflow("w", {}, spec={"description": "x" * characters})


def test_compiled_definitions_are_kept_by_their_size() -> None:
    """The oldest go when all together are much longer than the longest; whoever has found them lets go of them too."""
    workflows = CompiledWorkflows(lambda row: AdHocAction("a", Constant("b")), bytes_max=150_000)
    let_go: list[int] = []
    workflows.on_drop.append(lambda dropped: let_go.append(len(dropped)))
    for number in range(20):
        workflows.put(f"small {number}", Workflow("w", {}))
    for number in range(3):
        workflows.put(f"large {number}", long_workflow(120_000))
    assert list(workflows._compiled)[-2:] == ["large 1", "large 2"]
    assert let_go == [1]
    for number in range(20):
        workflows.put(f"later {number}", Workflow("w", {}))
    assert let_go == [1]


def test_the_longest_is_kept_beside_short_ones() -> None:
    """It takes longest to compile."""
    workflows = CompiledWorkflows(lambda row: AdHocAction("a", Constant("b")), bytes_max=50_000)
    workflows.put("longest", long_workflow(4_000_000))
    for number in range(40):
        workflows.put(f"small {number}", Workflow("w", {}))
    assert "longest" in workflows._compiled
    workflows.put("as long", long_workflow(4_000_000))
    assert "longest" not in workflows._compiled
    assert "as long" in workflows._compiled


def test_long_definitions_that_nobody_uses_are_dropped() -> None:
    """One that a running execution has, or that was asked for since the last time, is kept."""
    workflows = CompiledWorkflows(lambda row: AdHocAction("a", Constant("b")))
    copies = ExecutionCache(1 << 20, workflows)
    long = {name: long_workflow(200_000) for name in ("running", "ended", "asked for")}
    for name, workflow in long.items():
        workflows.put(name, workflow)
    workflows.put("short", Workflow("w", {}))
    for name, state in (("running", ExecutionState.PAUSED), ("ended", ExecutionState.SUCCESS)):
        execution = Execution(ExecutionCreated(execution_id=name, workflow="w", definition_id=name))
        execution.state = state
        copies.put(Copy(execution, long[name], ()))
    assert copies.drop_unused_workflows() == 0
    assert list(workflows._compiled) == [*long, "short"]
    workflows.put("new", long_workflow(200_000))
    assert workflows._find("asked for") is long["asked for"]
    assert copies.drop_unused_workflows() == 1
    assert {*workflows._compiled} == {"running", "asked for", "short", "new"}
    assert [copy.workflow for copy, _ in copies._copies.values()] == [long["running"], None]
    assert copies.drop_unused_workflows() == 2
    assert {*workflows._compiled} == {"running", "short"}
    assert workflows._bytes == sum(size for _, size in workflows._compiled.values())


def test_executions_let_go_of_a_long_definition() -> None:
    """What is dropped is not kept by copies; they find it again when they are stepped."""
    workflows = CompiledWorkflows(lambda row: AdHocAction("a", Constant("b")), bytes_max=50_000)
    copies = ExecutionCache(1 << 20, workflows)
    long = long_workflow(200_000)
    workflows.put("long", long)
    created = ExecutionCreated(execution_id=str(uuid.UUID(int=1)), workflow="w", definition_id="long")
    copies.put(Copy(Execution(created), long, ()))
    workflows.put("other", long_workflow(300_000))
    ((kept, _),) = copies._copies.values()
    assert kept.workflow is None
