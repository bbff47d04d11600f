"""Where names are looked up: what is started in its own namespace alone, what it needs in the default one too."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_requests import refused

from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2
from dalsegno.v1 import workflow_service_pb2 as workflows

HELPERS = """
version: '2.0'
name: kit
actions:
  greet:
    base: std.echo output="<% env().greeting %> <% $.name %>"
    input: [name]
workflows:
  inner: {tasks: {work: {action: greet name='Ada'}}}
"""
CALLER = "version: '2.0'\ncaller: {tasks: {child: {workflow: kit.inner}, own: {action: kit.greet name='Bob'}}}\n"
TURNS = "version: '2.0'\nturns: {tasks: {one: {action: std.noop}}}\n"


@pytest.mark.parametrize("more", [{}, {"dry_run": True}, {"version": 1}])
async def test_a_start_looks_in_its_namespace_only(desk: Desk, more: dict[str, Any]) -> None:
    """A workflow of the default namespace is NOT_FOUND in another one, and the error names that; nothing is created."""
    await desk.create(TURNS)
    failure = await refused(desk.start("turns", namespace="shop", **more))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.message.endswith("does not exist in the namespace 'shop'")
    assert desk.read(lambda queries: queries.executions().rows) == []
    await desk.create(TURNS, namespace="shop")
    answer = await desk.submit(
        "start_execution", executions.StartExecutionRequest(workflow="turns", namespace="shop", **more)
    )
    assert answer.HasField("dry_run" if "dry_run" in more else "execution")


async def test_the_default_namespace_has_its_own_only(desk: Desk) -> None:
    """What another namespace has is not found in the default one."""
    await desk.create(TURNS, namespace="shop")
    failure = await refused(desk.start("turns"))
    assert (failure.code, failure.message.partition(" in ")[2]) == (grpc.StatusCode.NOT_FOUND, "the default namespace")


async def test_what_an_execution_needs_may_be_in_the_default_namespace(desk: Desk) -> None:
    """Sub-workflows, members of workbooks, ad-hoc actions and environments are found there."""
    await desk.create(HELPERS)
    await desk.create(CALLER, namespace="shop")
    request = environments.PutEnvironmentRequest(name="words", variables='{"greeting": "Hello"}')
    await desk.submit("put_environment", request)
    started = await desk.start("caller", namespace="shop", environment="words")
    async with ScriptedExecutor(desk.address) as executor:
        ended = await desk.wait(started.id)
        assert ended.state == "SUCCESS"
    inputs = sorted(json.loads(run.input)["output"] for run in executor.received)
    assert inputs == ["Hello Ada", "Hello Bob"]


async def test_a_definition_id_is_of_whatever_namespace(desk: Desk) -> None:
    """An id names one definition; the execution of it is in the namespace of the request."""
    (stored,) = (await desk.create(TURNS)).workflows
    request = executions.StartExecutionRequest(definition_id=stored.definition_id, namespace="shop")
    assert (await desk.submit("start_execution", request)).execution.namespace == "shop"


async def test_a_rerun_on_the_newest_version_stays_with_its_workflow(desk: Desk) -> None:
    """The newest version is that of the workflow that ran, although the execution's namespace has its namesake."""
    await desk.create(HELPERS)
    await desk.create(CALLER, namespace="shop")
    await desk.start("caller", namespace="shop", params='{"env": {"greeting": "Hello"}}')
    (child,) = desk.read(lambda queries: [row for row in queries.executions().rows if row.workflow == "kit.inner"])
    await desk.create(HELPERS.replace("work:", "do:"))
    await desk.create(HELPERS.replace("work:", "other:"), namespace="shop")
    rerun = executions.RerunExecutionRequest(
        execution_id=child.id,
        start_from=operation_pb2.RERUN_FROM_BEGINNING,
        latest_definition=True,
        dry_run=True,
    )
    assert [task.name for task in (await desk.submit("rerun_execution", rerun)).dry_run.starts] == ["do"]
    delete = workflows.DeleteWorkflowRequest(name="kit.inner")
    await desk.submit("delete_workflow", delete)
    failure = await refused(desk.submit("rerun_execution", rerun))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.message == "workflow 'kit.inner' does not exist in the default namespace"


async def test_a_delete_names_the_namespace(desk: Desk) -> None:
    """A workflow of another namespace is not deleted."""
    await desk.create(TURNS)
    failure = await refused(
        desk.submit("delete_workflow", workflows.DeleteWorkflowRequest(name="turns", version=1, namespace="shop"))
    )
    assert failure.message == "workflow 'turns version 1' does not exist in the namespace 'shop'"
