"""Counting and deleting executions by filter, and ad-hoc actions one by one, over the wire."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from tests.integration.refusing import first_of, invalid, not_found, refused
from tests.processes import System, state_of

from dalsegno.v1 import action_service_pb2, execution_pb2, workflow_service_pb2
from dalsegno.v1 import execution_service_pb2 as wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("many")]

TEXT = """
version: '2.0'
quick: {tasks: {a: {action: std.noop}}}
waiting: {tasks: {a: {action: std.async_noop}}}
calling: {tasks: {a: {workflow: quick}}}
"""
ADHOC = """
version: '2.0'
greet:
  base: std.echo
  base-input: {output: "%s <% $.name %>"}
  input: [name]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start."""
    await shared_system.define(TEXT)


async def started(system: System, label: str, *workflows: str) -> list[str]:
    """Start executions with this label `of`; some of them end."""
    ids = [await system.begin(each, labels={"of": label}) for each in workflows]
    for execution_id, workflow in zip(ids, workflows, strict=True):
        if workflow != "waiting":
            await system.wait(execution_id)
    return ids


async def outcomes(system: System, **more: Any) -> dict[str, Any]:
    """Return the outcomes of DeleteExecutions in their order."""
    request = wire.DeleteExecutionsRequest(**more)
    return {each.outcome.execution_id: each.outcome async for each in system.executions.DeleteExecutions(request)}


async def counted(system: System, chosen: str) -> dict[str, int]:
    """Return the counts by state."""
    answer = await system.executions.CountExecutions(wire.CountExecutionsRequest(filter=chosen))
    assert answer.total == sum(each.count for each in answer.counts)
    return {execution_pb2.ExecutionState.Name(each.state)[16:]: each.count for each in answer.counts}


async def test_executions_are_counted_by_state(system: System) -> None:
    """The filter is that of the list; children count where it chooses them; a filter that cannot be read is refused."""
    await started(system, "count", "quick", "quick", "waiting", "calling")
    assert await counted(system, "label.of=count") == {"SUCCESS": 3, "RUNNING": 1}
    assert await counted(system, "label.of=count workflow!=quick") == {"SUCCESS": 1, "RUNNING": 1}
    assert await counted(system, "label.of=nobody") == {}
    await invalid(system.executions.CountExecutions(wire.CountExecutionsRequest(filter="of=x")), "filter")


async def test_many_are_deleted_by_filter(system: System) -> None:
    """What is at rest goes with its children, what is not is refused and stays; a dry run tells it and deletes none."""
    ids = await started(system, "gone", "quick", "waiting", "calling")
    each = wire.DeleteExecutionRequest(dry_run=True)
    told = await outcomes(system, filter="label.of=gone", each=each)
    assert list(told) == ids[::-1]
    assert [outcome.WhichOneof("result") for outcome in told.values()] == ["dry_run", "refusal", "dry_run"]
    assert len(told[ids[2]].dry_run.children) == 1
    assert await counted(system, "label.of=gone") == {"SUCCESS": 2, "RUNNING": 1}
    child = told[ids[2]].dry_run.children[0].execution_id
    done = await outcomes(system, filter="label.of=gone")
    assert [outcome.WhichOneof("result") for outcome in done.values()] == ["deleted", "refusal", "deleted"]
    assert done[ids[1]].refusal.obstacles[0].kind == "NOT_AT_REST"
    assert await counted(system, "label.of=gone") == {"RUNNING": 1}
    for gone in (ids[0], ids[2], child):
        await not_found(system.executions.GetExecution(wire.GetExecutionRequest(execution_id=gone)), gone)


async def test_only_what_ended_long_enough_ago_is_deleted(system: System) -> None:
    """`older_than` leaves what runs or has just ended, and suffices without a filter."""
    (old,) = await started(system, "old", "quick")
    await asyncio.sleep(4.2)
    new, running = await started(system, "old", "quick", "waiting")
    age = Duration(seconds=4)
    told = await outcomes(system, older_than=age, each=wire.DeleteExecutionRequest(dry_run=True))
    assert old in told
    assert not {new, running} & told.keys()
    assert list(await outcomes(system, filter="label.of=old", older_than=age)) == [old]
    assert await counted(system, "label.of=old") == {"SUCCESS": 1, "RUNNING": 1}


async def test_deleting_many_goes_on_where_the_stream_broke(system: System) -> None:
    """The token continues after the one it came with, and only with the same filter and age."""
    ids = await started(system, "broken", *["quick"] * 4)
    request = wire.DeleteExecutionsRequest(filter="label.of=broken", rate=2)
    stream: Any = system.executions.DeleteExecutions(request)
    first = await stream.read()
    stream.cancel()
    assert first.outcome.execution_id == ids[3]
    other = wire.DeleteExecutionsRequest(
        filter="label.of=broken", resume_token=first.resume_token, older_than=Duration(seconds=1)
    )
    await invalid(first_of(system.executions.DeleteExecutions(other)), "resume_token", reason="INVALID_RESUME_TOKEN")
    rest = await outcomes(system, filter="label.of=broken", resume_token=first.resume_token)
    assert list(rest)[-1] == ids[0]
    assert await counted(system, "label.of=broken") == {}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({}, "filter"),
        ({"filter": f"parent={uuid.uuid4()}"}, "filter"),
        ({"filter": "parent!="}, "filter"),
        ({"older_than": Duration()}, "older_than"),
        ({"older_than": Duration(seconds=-1)}, "older_than"),
        (
            {"filter": "state=ERROR", "each": wire.DeleteExecutionRequest(execution_id=str(uuid.uuid4()))},
            "each.execution_id",
        ),
    ],
)
async def test_deleting_many_that_make_no_sense(system: System, more: dict[str, Any], field: str) -> None:
    """Nothing said, children without their parents, or an age of nothing is refused before anything is deleted."""
    await invalid(first_of(system.executions.DeleteExecutions(wire.DeleteExecutionsRequest(**more))), field)


async def test_an_adhoc_action_is_read_and_deleted(system: System) -> None:
    """Versions are read by name, number or id, and deleted one by one or all together; then nobody finds them."""
    w, actions = action_service_pb2, system.actions
    for word in ("Hello", "Good day"):
        await system.define(ADHOC.replace("%s", word), namespace="adhoc")
    newest = (await actions.GetAdhocAction(w.GetAdhocActionRequest(name="greet", namespace="adhoc"))).action
    assert (newest.version, "Good day" in newest.text) == (2, True)
    first = await actions.GetAdhocAction(w.GetAdhocActionRequest(name="greet", namespace="adhoc", version=1))
    assert "Hello" in first.action.text
    by_id = w.GetAdhocActionRequest(definition_id=first.action.definition_id)
    assert await actions.GetAdhocAction(by_id) == first
    await invalid(actions.GetAdhocAction(w.GetAdhocActionRequest()), "name")
    both = w.GetAdhocActionRequest(name="greet", definition_id=first.action.definition_id)
    await invalid(actions.GetAdhocAction(both), "name")
    await not_found(actions.GetAdhocAction(w.GetAdhocActionRequest(name="greet")), "greet")
    delete = w.DeleteAdhocActionRequest(name="greet", namespace="adhoc", version=2, request_id="gone")
    assert list((await actions.DeleteAdhocAction(delete)).versions) == [2]
    assert list((await actions.DeleteAdhocAction(delete)).versions) == [2], "repeated by its request id"
    assert await ran(system, "Ada") == "Hello Ada"
    everything = w.DeleteAdhocActionRequest(name="greet", namespace="adhoc")
    assert list((await actions.DeleteAdhocAction(everything)).versions) == [1]
    await not_found(actions.DeleteAdhocAction(everything), "greet")
    run = w.RunActionRequest(action="greet", input='{"name": "Ada"}', namespace="adhoc")
    await refused(actions.RunAction(run), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_repeated_creation_tells_that_its_action_was_deleted(system: System) -> None:
    """The first answer would speak of an action that is there no more."""
    create = workflow_service_pb2.CreateDefinitionsRequest(
        text=ADHOC.replace("greet", "brief"), request_id=str(uuid.uuid4())
    )
    await system.workflows.CreateDefinitions(create)
    await system.actions.DeleteAdhocAction(action_service_pb2.DeleteAdhocActionRequest(name="brief"))
    await refused(system.workflows.CreateDefinitions(create), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def ran(system: System, name: str) -> str:
    """Return the result of the ad-hoc action."""
    request = action_service_pb2.RunActionRequest(action="greet", input=f'{{"name": "{name}"}}', namespace="adhoc")
    run = (await system.actions.RunAction(request)).action_execution
    while state_of(run) not in ("SUCCESS", "ERROR"):
        await asyncio.sleep(0.02)
        again = action_service_pb2.GetActionExecutionRequest(action_execution_id=run.id)
        run = (await system.actions.GetActionExecution(again)).action_execution
    return str(run.result).strip('"')
