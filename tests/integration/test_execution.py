"""Workflows through the three services: what people write runs as they mean it, on the real actions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import grpc
import pytest
import pytest_asyncio
from tests.endpoints import Endpoint
from tests.processes import System, state_of

from dalsegno.v1 import environment_service_pb2, execution_pb2, execution_service_pb2, workflow_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("execution")]

WORKFLOWS = """
version: '2.0'

chain:
  input: [count]
  output: {total: <% $.n %>}
  tasks:
    begin:
      publish: {n: 0}
      on-success: [count_up]
    count_up:
      action: std.echo output=<% $.n + 1 %>
      publish: {n: <% task().result %>}
      on-success:
        - count_up: <% $.n < $.count %>

joined:
  output: {sum: <% $.a + $.b + $.c %>}
  tasks:
    a: {action: std.echo output=1, publish: {a: <% task().result %>}, on-success: [all_of_them]}
    b: {action: std.echo output=2, publish: {b: <% task().result %>}, on-success: [all_of_them]}
    c: {action: "std.echo output=3 delay=0.1", publish: {c: <% task().result %>}, on-success: [all_of_them]}
    all_of_them:
      join: all
      action: std.noop

first_of_all:
  tasks:
    fast: {action: std.noop, on-success: [gather]}
    slow: {action: std.async_noop, on-success: [gather]}
    gather:
      join: one
      action: std.noop

retried:
  input: [url]
  tasks:
    ask:
      action: std.http
      input: {url: <% $.url %>}
      retry: {count: 3, delay: 0}
      publish: {said: <% task().result.content.said %>}
  output: {said: <% $.said %>}

gives_up:
  tasks:
    never:
      action: std.fail
      retry: {count: 2, delay: 0}

items:
  input: [count]
  tasks:
    each:
      with-items: n in <% range($.count) %>
      concurrency: 3
      action: std.echo
      input: {output: <% $.n * $.n %>, delay: 0.01}
      publish: {squares: <% task().result %>}
  output: {squares: <% $.squares %>}

parent:
  input: [names]
  tasks:
    greet:
      with-items: name in <% $.names %>
      workflow: child
      input: {name: <% $.name %>}
      publish: {said: <% task().result %>}
  output: {said: <% $.said.said %>}
child:
  input: [name]
  tasks:
    say: {action: 'std.echo output="Hello, <% $.name %>"', publish: {said: <% task().result %>}}
  output: {said: <% $.said %>}

handled:
  input: [url]
  tasks:
    ask:
      action: std.http
      input: {url: <% $.url %>}
      publish-on-error: {problem: <% task().result.content.reason %>}
      on-error: [mend]
    mend:
      action: std.echo output=<% $.problem %>
      publish: {told: <% task().result %>}
  output: {told: <% $.told %>}

unhandled:
  tasks:
    fails: {action: 'std.fail error_data="because"', on-success: [never]}
    never: {action: std.noop}

defaults:
  tasks:
    one: {action: std.fail}
    two: {action: std.noop, on-success: [three]}
    three: {action: std.noop}
    mend: {action: std.noop}
  task-defaults:
    on-error: [mend]

from_environment:
  tasks:
    read: {action: 'std.echo output="<% env().city %>"', publish: {city: <% task().result %>}}
  output: {city: <% $.city %>}

fetch:
  input: [url]
  tasks:
    get:
      action: std.http
      input: {url: <% $.url %>, method: POST, json: {deep: [1, 2.5, 'ä']}}
      publish: {answer: <% task().result.content %>}
  output: {answer: <% $.answer %>}

reversed:
  type: reverse
  tasks:
    foundation: {action: std.noop}
    walls: {action: std.noop, requires: [foundation]}
    garden: {action: std.noop}
    roof: {action: std.noop, requires: [walls]}

stands:
  tasks:
    wait: {action: std.async_noop}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start."""
    await shared_system.define(WORKFLOWS)


def output(execution: execution_pb2.Execution) -> object:
    """Its output, of an execution that succeeded."""
    assert state_of(execution) == "SUCCESS", execution.state_info
    return json.loads(execution.output)


async def states(system: System, execution_id: str) -> dict[str, str]:
    """The state of each task by its name."""
    return {task.name: state_of(task) for task in await system.tasks(execution_id)}


async def test_chain(system: System) -> None:
    """A loop of 100 tasks publishes, is routed by its condition and ends with its output (P1, P2, P6)."""
    execution = await system.run("chain", {"count": 100})
    assert output(execution) == {"total": 100}
    assert len(await system.tasks(execution.id)) == 101
    assert {state_of(each) for each in await system.attempts(execution.id)} == {"SUCCESS"}
    assert [(count.state, count.count) for count in execution.task_counts] == [(execution_pb2.TASK_STATE_SUCCESS, 101)]


async def test_join_of_all(system: System) -> None:
    """A join of all runs once, after each branch, and sees what all of them published."""
    execution = await system.run("joined")
    assert output(execution) == {"sum": 6}
    tasks = await system.tasks(execution.id)
    assert Counter(task.name for task in tasks) == {"a": 1, "b": 1, "c": 1, "all_of_them": 1}
    last = tasks[-1]
    assert all(last.started_at.ToNanoseconds() >= task.ended_at.ToNanoseconds() for task in tasks[:-1])


async def test_join_of_one(system: System) -> None:
    """A join of one runs when the first branch arrives, and not again for the second."""
    execution_id = await system.begin("first_of_all")
    await system.until(execution_id, lambda change: change.task_moved.task_name == "gather")
    slow = next(each for each in await system.attempts(execution_id) if each.action == "std.async_noop")
    await system.complete(slow.id)
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    assert await states(system, execution_id) == {"fast": "SUCCESS", "slow": "SUCCESS", "gather": "SUCCESS"}


async def test_retry(system: System) -> None:
    """A task that fails twice is tried a third time and its workflow continues; each attempt stays readable (S13)."""
    async with Endpoint() as endpoint:
        execution = await system.run("retried", {"url": f"{endpoint.url}/flaky/2"})
    assert output(execution) == {"said": "2"}
    attempts = await system.attempts(execution.id)
    assert [(each.attempt, state_of(each), each.accepted) for each in attempts] == [
        (1, "ERROR", False),
        (2, "ERROR", False),
        (3, "SUCCESS", True),
    ]


async def test_retries_run_out(system: System) -> None:
    """A task that never succeeds fails after its last retry, and its workflow says why."""
    execution = await system.run("gives_up")
    assert state_of(execution) == "ERROR"
    assert "Fail action" in execution.state_info
    assert len(await system.attempts(execution.id)) == 3


async def test_items_and_their_concurrency(system: System) -> None:
    """Every item runs once, at most three at a time, and the results stand in the order of the items (S13)."""
    execution = await system.run("items", {"count": 30})
    assert output(execution) == {"squares": [n * n for n in range(30)]}
    active, most = set(), 0
    for change in await system.journal(execution.id):
        moved = change.attempt_moved
        if change.HasField("attempt_moved"):
            if moved.state == execution_pb2.ACTION_STATE_RUNNING:
                active.add(moved.item)
            else:
                active.discard(moved.item)
            most = max(most, len(active))
    assert most == 3
    (task,) = await system.tasks(execution.id)
    assert (task.items.total, task.items.succeeded) == (30, 30)


async def test_no_items(system: System) -> None:
    """A list without items is an empty result, at once."""
    assert output(await system.run("items", {"count": 0})) == {"squares": []}


async def test_sub_workflows(system: System) -> None:
    """A task may run a workflow for each item: children are executions of their own, of the same root (S15)."""
    execution = await system.run("parent", {"names": ["Ada", "Ben"]})
    assert output(execution) == {"said": ["Hello, Ada", "Hello, Ben"]}
    (task,) = await system.tasks(execution.id)
    children = [await system.get(each) for each in task.child_execution_ids]
    assert [child.workflow for child in children] == ["child", "child"]
    assert {(child.parent_execution_id, child.root_id) for child in children} == {(execution.id, execution.id)}
    listed = await system.executions.ListExecutions(
        execution_service_pb2.ListExecutionsRequest(filter=f"root={execution.id}")
    )
    assert {each.id for each in listed.executions} == {execution.id, *(child.id for child in children)}
    assert [each.action for each in await system.attempts(execution.id)].count("std.echo") == 0


async def test_error_is_handled(system: System) -> None:
    """on-error takes a failure, with the data that it brought, and the workflow succeeds (P4, P16)."""
    async with Endpoint() as endpoint:
        execution = await system.run("handled", {"url": f"{endpoint.url}/fail"})
    assert output(execution) == {"told": "out of order"}
    ask = next(task for task in await system.tasks(execution.id) if task.name == "ask")
    assert (state_of(ask), ask.error_handled) == ("ERROR", True)


async def test_error_is_not_handled(system: System) -> None:
    """A failure that nothing takes ends the workflow in ERROR, which names the task and what it said."""
    execution = await system.run("unhandled")
    assert state_of(execution) == "ERROR"
    assert "fails" in execution.state_info
    assert await states(system, execution.id) == {"fails": "ERROR"}


async def test_defaults_handle_errors(system: System) -> None:
    """task-defaults stand in for what a task does not say itself; other branches continue."""
    execution = await system.run("defaults")
    assert state_of(execution) == "SUCCESS"
    assert await states(system, execution.id) == {
        "one": "ERROR",
        "two": "SUCCESS",
        "three": "SUCCESS",
        "mend": "SUCCESS",
    }


async def test_reverse_workflow(system: System) -> None:
    """A reverse workflow runs what its target requires, in order, and nothing else."""
    execution = await system.run("reversed", params='{"task_name": "roof"}')
    tasks = await system.tasks(execution.id)
    ended = sorted(tasks, key=lambda task: task.ended_at.ToNanoseconds())
    assert [task.name for task in ended] == ["foundation", "walls", "roof"]


async def test_environment_is_read_once(system: System) -> None:
    """An execution reads its environment at its start: what is put later reaches only later executions."""
    put = environment_service_pb2.PutEnvironmentRequest(name="here", variables='{"city": "Eastmarch"}')
    await system.environments.PutEnvironment(put)
    stands = await system.begin("stands", environment="here")
    assert output(await system.run("from_environment", environment="here")) == {"city": "Eastmarch"}
    put.variables = '{"city": "Greyhaven"}'
    answer = await system.environments.PutEnvironment(put)
    assert answer.environment.revision == 2
    assert output(await system.run("from_environment", environment="here")) == {"city": "Greyhaven"}
    listed = await system.environments.ListEnvironments(
        environment_service_pb2.ListEnvironmentsRequest(filter="name=here", full=True)
    )
    assert [each.variables for each in listed.environments] == ['{"city": "Greyhaven"}']
    await system.environments.DeleteEnvironment(environment_service_pb2.DeleteEnvironmentRequest(name="here"))
    with pytest.raises(grpc.aio.AioRpcError):
        await system.begin("from_environment", environment="here")
    assert (await system.get(stands)).environment == "here"
    await system.cancel(stands)


async def test_environment_of_its_own(system: System) -> None:
    """An environment may be given with the start, on top of a stored one; its expressions are evaluated, unless that
    is not wanted."""
    put = environment_service_pb2.PutEnvironmentRequest(name="base", variables='{"city": "Eastmarch", "n": 1}')
    await system.environments.PutEnvironment(put)
    given = {"city": "<% env().n + 1 %>"}
    params = json.dumps({"env": given})
    assert output(await system.run("from_environment", params=params, environment="base")) == {"city": 2}
    params = json.dumps({"env": given, "evaluate_env": False})
    plain = await system.run("from_environment", params=params, environment="base")
    assert output(plain) == {"city": "<% env().n + 1 %>"}
    for wrong in ("<% $.nowhere %>", "<% 1 + %>"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.begin("from_environment", params=json.dumps({"env": {"city": wrong}}))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_http(system: System) -> None:
    """std.http sends JSON to a real server and gives its answer, exact numbers and letters included."""
    async with Endpoint() as endpoint:
        execution = await system.run("fetch", {"url": f"{endpoint.url}/echo/yes"})
    body = {"deep": [1, 2.5, "ä"]}
    assert output(execution) == {"answer": {"said": "yes", "method": "POST", "body": body}}


async def test_execution_stays_on_its_version(system: System) -> None:
    """A new version of a workflow is for later executions: one that runs continues with the one it started with."""
    text = "version: '2.0'\nversioned: {output: {v: %s}, tasks: {wait: {action: std.async_noop}}}"
    await system.define(text % 1)
    execution_id = await system.begin("versioned")
    await system.define(text % 2)
    await system.complete(f"{execution_id}.1.0.1")
    assert output(await system.wait(execution_id)) == {"v": 1}
    newer = await system.begin("versioned")
    await system.complete(f"{newer}.1.0.1")
    assert output(await system.wait(newer)) == {"v": 2}
    get = workflow_service_pb2.GetWorkflowRequest(name="versioned", version=1)
    assert (await system.workflows.GetWorkflow(get)).workflow.text == text % 1


async def test_many_at_once(system: System) -> None:
    """One engine runs many executions of several workflows at the same time (P20)."""
    ids = [await system.begin("chain", {"count": 5 + n % 3}, labels={"of": "many"}) for n in range(40)]
    ended = await asyncio.gather(*map(system.wait, ids))
    assert [output(execution) for execution in ended] == [{"total": 5 + n % 3} for n in range(40)]


async def test_delete(system: System) -> None:
    """What is at rest can be deleted, with its children, tasks, actions and journal; then nothing of it is found."""
    execution = await system.run("parent", {"names": ["Ada"]})
    (task,) = await system.tasks(execution.id)
    await system.executions.DeleteExecution(execution_service_pb2.DeleteExecutionRequest(execution_id=execution.id))
    for gone in (execution.id, *task.child_execution_ids):
        for read in (system.get, system.tasks, system.attempts, system.journal):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read(gone)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
