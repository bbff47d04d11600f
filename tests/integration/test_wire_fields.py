"""Tokens, filters and fields that stand side by side, over the wire: what makes no sense is refused, not left out."""

from __future__ import annotations

import base64
import json

import pytest
import pytest_asyncio
from tests.integration.refusing import first_of, invalid
from tests.processes import System

from dalsegno.v1 import execution_service_pb2, workflow_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("wire-fields")]

Start = execution_service_pb2.StartExecutionRequest
UNKNOWN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"

GREETING = """
version: '2.0'
greeting:
  input: [name]
  tasks:
    greet: {action: std.echo output=<% $.name %>}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflow that these tests start."""
    await shared_system.define(GREETING)


async def test_resume_tokens_are_checked(system: System) -> None:
    """A resume token that no stream of this execution gave is refused."""
    one, other = await system.run("greeting", {"name": 1}), await system.run("greeting", {"name": 2})
    watch = system.executions.WatchExecution
    token = (await first_of(watch(execution_service_pb2.WatchExecutionRequest(execution_id=one.id)))).resume_token
    made_up = base64.urlsafe_b64encode(json.dumps(["WatchExecution", other.id, 1]).encode()).decode().rstrip("=")
    pause = execution_service_pb2.PauseExecutionsRequest(filter=f"id={other.id}")
    paused = (await first_of(system.executions.PauseExecutions(pause))).resume_token
    for wrong in (token, "nonsense", made_up, f"{made_up}.{token.partition('.')[2]}", paused, paused[:-1]):
        request = execution_service_pb2.WatchExecutionRequest(execution_id=other.id, resume_token=wrong)
        await invalid(first_of(watch(request)), "resume_token", reason="INVALID_RESUME_TOKEN")
    for wrong in (token, made_up, paused):
        cancel = execution_service_pb2.CancelExecutionsRequest(filter=f"id={other.id}", resume_token=wrong)
        await invalid(
            first_of(system.executions.CancelExecutions(cancel)), "resume_token", reason="INVALID_RESUME_TOKEN"
        )
    changes = execution_service_pb2.ListChangesRequest(execution_id=one.id, page_token=token)
    await invalid(system.executions.ListChanges(changes), "page_token", reason="INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("field", ["root", "parent", "id"])
async def test_a_mistyped_id_in_a_filter_is_refused(system: System, field: str) -> None:
    """A list of nothing would look like an answer, and an operation on nothing like success: both are refused."""
    listed = execution_service_pb2.ListExecutionsRequest(filter=f"{field}=01890a5d-ac96-774b-bcce")
    await invalid(system.executions.ListExecutions(listed), "filter")
    cancel = execution_service_pb2.CancelExecutionsRequest(filter=f"{field}=oops")
    await invalid(first_of(system.executions.CancelExecutions(cancel)), "filter")


async def test_words_that_are_not_known_are_refused(system: System) -> None:
    """A newer client's word might mean the contrary of the default, so it is not taken for the default."""
    pause = execution_service_pb2.PauseExecutionRequest(execution_id=UNKNOWN_ID, delegates=99)  # type: ignore[arg-type]
    await invalid(system.executions.PauseExecution(pause), "delegates")
    many = execution_service_pb2.PauseExecutionsRequest(filter="state=RUNNING", each=pause)
    await invalid(first_of(system.executions.PauseExecutions(many)), "each.delegates")


async def test_a_definition_id_stands_alone(system: System) -> None:
    """What a definition id says already is refused beside it, not silently left out."""
    w = workflow_service_pb2
    found = (await system.workflows.GetWorkflow(w.GetWorkflowRequest(name="greeting"))).workflow
    beside = w.GetWorkflowRequest(definition_id=found.definition_id, name="greeting", version=1)
    await invalid(system.workflows.GetWorkflow(beside), "name", "version")
    start = Start(definition_id=found.definition_id, workflow="greeting", version=1, input='{"name": 1}')
    await invalid(system.executions.StartExecution(start), "definition_id", "version")
    alone = await system.workflows.GetWorkflow(w.GetWorkflowRequest(definition_id=found.definition_id))
    assert alone.workflow == found
