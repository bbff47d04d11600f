"""Delegates over the wire: how they come about, how third parties complete them, sign and stay heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry
from tests.integration.engines import ScriptedExecutor, done, until
from tests.integration.stage import Stage
from tests.processes import CALL_S, System, state_of
from tests.signing import github, standard

from dalsegno.actions.action import DELEGATED, ActionContext, Delegated, action
from dalsegno.actions.registry import Registry
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import Failure, read_failure
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2, system_service_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker.connection import Connection
from dalsegno.worker.metrics import Metrics
from dalsegno.worker.session import Session
from dalsegno.workflow.changes import Signature

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("delegates")]

ADDRESS = "https://flows.example.com"
SUCCEEDED, FAILED = actions.COMPLETION_OUTCOME_SUCCEEDED, actions.COMPLETION_OUTCOME_FAILED
SUCCESS, ERROR = execution_pb2.ACTION_STATE_SUCCESS, execution_pb2.ACTION_STATE_ERROR

WORKFLOWS = """
version: '2.0'
mistral_urls:
  output: {told: <% $.told %>}
  tasks:
    yaql: {action: test.act, input: {give: 1, url: <% callback_url() %>, line: "POST <% callback_url() %> now"},
           publish: {told: <% callback_url() %>}, on-success: [jinja]}
    jinja: {action: test.act, input: {give: 2, url: "{{ callback_url() }}", deep: [{a: "{{ callback_url() }}"}]},
            on-success: [many]}
    many: {with-items: "n in <% [1, 2] %>", action: test.act, input: {give: <% $.n %>, url: <% callback_url() %>}}
mistral_handles:
  tasks:
    ask: {action: test.act, input: {give: 1, url: <% callback_url() %>}, on-error: [mend]}
    mend: {action: std.echo, input: {output: <% task(ask).result %>}}
mistral_asks_with:
  input: [action, {input: {}}]
  output: {answer: <% $.get(answer) %>}
  tasks:
    ask: {action: <% $.action %>, input: <% $.input %>, publish: {answer: <% task().result %>},
          publish-on-error: {answer: <% task().result %>}, on-success: [after], on-error: [after]}
    after: {action: std.noop}
"""
ORQUESTA = """
version: 1.0
name: orquesta_urls
output: [{told: <% ctx().told %>}]
tasks:
  yaql: {action: test.act, input: {give: 1, url: <% callback_url() %>, line: "POST <% callback_url() %> now"},
         next: [{publish: [{told: <% callback_url() %>}], do: jinja}]}
  jinja: {action: test.act, input: {give: 2, url: "{{ callback_url() }}", deep: [{a: "{{ callback_url() }}"}]},
          next: [{do: many}]}
  many: {with: "n in <% [1, 2] %>", action: test.act, input: {give: <% item(n) %>, url: <% callback_url() %>}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The services, with an address for third parties."""
    async with System(tmp_path_factory.mktemp("system"), engine=("--public-url", f"{ADDRESS}/")) as running:
        await running.define(WORKFLOWS)
        await running.define(ORQUESTA)
        yield running


@action("marker.delegates")
async def delegates(context: ActionContext) -> Delegated:
    """Return the marker."""
    return Delegated(alias=f"marker {context.action_execution_id}", signature=Signature.GITHUB)


@action("marker.plain")
def plain() -> Delegated:
    """Return the plain marker, from a thread."""
    return DELEGATED


@action("marker.nothing")
async def nothing() -> None:
    """Return nothing."""


@action("marker.tells")
async def tells(context: ActionContext) -> str:
    """Return whether the context has what its third party needs."""
    is_whole = context.callback_url == f"{ADDRESS}/hooks/token/{context.task_token}"
    return f"{is_whole} {context.signing_key[:6]} {context.task_token in repr(context)}"


@asynccontextmanager
async def python_executor(system: System) -> AsyncIterator[None]:
    """Connect an executor in Python that serves the actions above."""
    registry = Registry([delegates, plain, nothing, tells])
    address = system.engine.address
    session = Session(
        "python", registry, (address,), slots=10, threads=2, labels={}, metrics=Metrics(CollectorRegistry())
    )
    async with open_channel(address) as channel:
        connection = Connection(session, address, channel)
        running = asyncio.create_task(connection.run())
        await until(lambda: connection.is_connected)
        yield
        session.leaving = True
        connection.release()
        await asyncio.wait_for(running, 10)
    await session.runner.close(1.0)


@asynccontextmanager
async def delegating(system: System, **terms: Any) -> AsyncIterator[ScriptedExecutor]:
    """Connect an executor that delegates `test.ask`, on these terms."""

    def delegate(run: wire.RunAction) -> wire.TaskDone:
        return done(run, wire.TASK_OUTCOME_DELEGATED, **terms)

    executor = ScriptedExecutor(system.engine.address, delegate, executor_id="asker", actions=(("test.ask", False),))
    async with executor:
        await until(lambda: executor.welcomes)
        yield executor


async def ask(system: System, action: str, **input: object) -> str:
    """Start an execution that runs the action, and return its id."""
    return await system.begin("mistral_asks_with", {"action": action, "input": input})


async def waiting(system: System, execution_id: str) -> execution_pb2.ActionExecution:
    """Return the action execution when it waits for its third party."""
    async with asyncio.timeout(20):
        while True:
            found = [each for each in await system.attempts(execution_id) if each.delegated]
            if found:
                return found[0]
            await asyncio.sleep(0.02)


async def complete(system: System, **fields: Any) -> execution_pb2.ActionExecution:
    request = actions.CompleteActionRequest(**{"outcome": SUCCEEDED, **fields})
    return (await system.actions.CompleteAction(request, timeout=CALL_S)).action_execution


async def beat(system: System, **fields: Any) -> None:
    await system.actions.HeartbeatAction(actions.HeartbeatActionRequest(**fields), timeout=CALL_S)


async def update(system: System, state: execution_pb2.ActionState.ValueType, **named: Any) -> None:
    request = actions.UpdateActionRequest(state=state, **named)
    updated = await system.actions.UpdateAction(request, timeout=CALL_S)
    assert updated.action_execution.state == state


async def refused(call: Awaitable[Any]) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_failure(caught.value)


async def ended(system: System, execution_id: str) -> object:
    """Return the answer that the workflow got, once it has ended."""
    execution = await system.wait(execution_id)
    assert state_of(execution) == "SUCCESS", execution.state_info
    return json.loads(execution.output)["answer"]


# The address.


@pytest.mark.parametrize("language", ["mistral", "orquesta"])
async def test_the_address_takes_the_place_of_the_mark_when_the_action_is_handed_out(
    stage: Stage, language: str
) -> None:
    """Each action gets its own address, with its own token, wherever callback_url() stands in its input (P23)."""
    scene = await stage.open("urls", language, held={"yaql", "jinja", "many"})
    run = await stage.has(scene, "yaql")
    given = json.loads(run.input)
    assert given["url"] == run.callback_url == f"{ADDRESS}/hooks/token/{run.task_token}"
    assert given["line"] == f"POST {run.callback_url} now"
    await stage.release(scene, "yaql")
    second = await stage.has(scene, "jinja")
    assert second.callback_url != run.callback_url
    given = json.loads(second.input)
    assert given["url"] == given["deep"][0]["a"] == second.callback_url == f"{ADDRESS}/hooks/token/{second.task_token}"
    await stage.release(scene, "jinja")
    items = [await stage.has(scene, "many", item) for item in (0, 1)]
    assert [json.loads(each.input)["url"] for each in items] == [each.callback_url for each in items]
    assert items[0].callback_url != items[1].callback_url
    for item in (0, 1):
        await stage.release(scene, "many", item)
    execution = await stage.rests(scene)
    assert json.loads(execution.output)["told"].startswith("dalsegno:callback-url:")


async def test_no_token_is_stored_shown_or_logged(stage: Stage) -> None:
    """Neither the rows nor the journal nor any answer nor any log has the token, the address or the signing key."""
    scene = await stage.open("urls", "mistral", held={"yaql"})
    run = await stage.has(scene, "yaql")
    secret = run.task_token.rpartition(":")[2]
    assert len(secret) == 64
    shown = f"{await stage.system.attempts(scene.id)} {await stage.system.journal(scene.id)}"
    assert "dalsegno:callback-url:" in shown
    folder = Path(stage.system.engine.log).parent
    kept = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert b"dalsegno:callback-url:" in kept
    for each in (secret, run.callback_url, run.signing_key):
        assert each not in shown
        assert each.encode() not in kept
    await stage.release(scene, "yaql")
    await stage.rests(scene)


async def test_without_a_public_url_the_task_fails_and_says_so(stage: Stage) -> None:
    """The failure names the option, and `on-error` takes it; whoever asks for no address is not affected."""
    engine = stage.system.engine
    arguments, engine.arguments = engine.arguments, engine.arguments[: engine.arguments.index("--public-url")]
    try:
        await engine.kill_and_restart()
        scene = await stage.open("handles", "mistral")
        await stage.rests(scene)
        assert "--public-url" in (await stage.tasks(scene))["mend"].result
        assert [each.state for each in await stage.attempts(scene, "ask")] == [ERROR]
        assert not scene.runs
    finally:
        engine.arguments = arguments
        await engine.kill_and_restart()


# How delegates come about.


@asynccontextmanager
async def third_party() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """Serve a web address that keeps the headers of what it is sent."""
    heard: list[dict[str, str]] = []

    async def take(request: web.Request) -> web.Response:
        heard.append(dict(request.headers))
        return web.Response(status=202)

    application = web.Application()
    application.router.add_route("*", "/", take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", heard
    finally:
        await runner.cleanup()


async def slots_in_use(system: System) -> int:
    found = await system.system.ListExecutors(system_service_pb2.ListExecutorsRequest(), timeout=CALL_S)
    return sum(each.slots_in_use for each in found.executors)


@pytest.mark.parametrize("name", ["std.async_noop", "core.ask", "test.ask", "marker.plain"])
async def test_an_action_that_delegates_waits_and_occupies_nothing(system: System, name: str) -> None:
    """Only the action decides that it is a delegate (P10): it returns at once without a result (P7), stays RUNNING (P9)
    without a slot (P12), and its completion goes on as any other (P13-P15)."""
    async with delegating(system), python_executor(system):
        execution_id = await ask(system, name)
        found = await waiting(system, execution_id)
        assert (found.state, found.result) == (execution_pb2.ACTION_STATE_RUNNING, "")
        assert await slots_in_use(system) == 0
        await complete(system, action_execution_id=found.id, result='{"by": 1}')
        answer: Any = await ended(system, execution_id)
        assert (answer["response"] if name == "core.ask" else answer) == {"by": 1}


async def test_the_receiver_of_an_http_request_completes_it(system: System) -> None:
    """`std.mistral_http` tells its receiver the token and the address (P7, P13)."""
    async with third_party() as (url, heard):
        execution_id = await ask(system, "std.mistral_http", url=url, method="POST")
        await waiting(system, execution_id)
        token = heard[0]["Dalsegno-Task-Token"]
        assert heard[0]["Dalsegno-Callback-Url"] == f"{ADDRESS}/hooks/token/{token}"
        await complete(system, task_token=token, result="7")
        assert await ended(system, execution_id) == 7


async def test_the_marker_delegates_and_none_is_an_ordinary_result(system: System) -> None:
    """P8 as decision 5 has it: a marker of its own delegates, and an action that has nothing to return succeeds with
    null, at once (P4)."""
    async with python_executor(system):
        assert await ended(system, await ask(system, "marker.nothing")) is None
        assert await ended(system, await ask(system, "marker.tells")) == "True whsec_ False"
        execution_id = await ask(system, "marker.delegates")
        found = await waiting(system, execution_id)
        assert found.alias == f"marker {found.id}"
        failure = await refused(complete(system, alias=found.alias))
        assert failure.reason == "SIGNATURE_MISSING"
        await complete(system, action_execution_id=found.id)
        assert await ended(system, execution_id) is None


# How they are completed.


async def test_exactly_one_completion_wins(system: System) -> None:
    """Of thirty that come at once, by id, token, alias and stream, with different outcomes: the workflow goes on once,
    with that of the winner (P24)."""
    async with delegating(system, alias="one") as executor:
        execution_id = await ask(system, "test.ask")
        found = await waiting(system, execution_id)
        run = executor.received[0]
        ways = ({"action_execution_id": found.id}, {"task_token": run.task_token}, {"alias": "one"})
        calls = [
            complete(system, **ways[number % 3], result=str(number))
            if number % 2
            else complete(system, **ways[number % 3], outcome=FAILED, result=str(number), error="no")
            for number in range(30)
        ]
        await executor.say(task_done=wire.TaskDoneBatch(outcomes=[done(run, result="30")]))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: len(executor.acks) == 2)
        won = [each for each in answers if isinstance(each, execution_pb2.ActionExecution)]
        lost = [read_failure(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        by_stream = executor.acks[-1].verdict == wire.ACK_VERDICT_ACCEPTED
        assert {each.code for each in lost} == {grpc.StatusCode.FAILED_PRECONDITION}
        results = {each.result for each in won}
        assert len(results) + by_stream == 1
        answer = await ended(system, execution_id)
        assert json.dumps(answer) == ("30" if by_stream else results.pop())
        assert [each.name for each in await system.tasks(execution_id)] == ["ask", "after"]


async def test_a_delegate_is_completed_by_the_stream_of_its_executor(system: System) -> None:
    """An executor may complete what it has delegated, with the same delivery; a repeat is a duplicate (P14, P15)."""
    async with delegating(system) as executor:
        execution_id = await ask(system, "test.ask")
        await waiting(system, execution_id)
        await until(lambda: executor.acks)  # that of the delegation comes after what readers see of it
        report = done(executor.received[0], result='"done"')
        for verdict in (wire.ACK_VERDICT_ACCEPTED, wire.ACK_VERDICT_DUPLICATE):
            before = len(executor.acks)
            await executor.say(task_done=wire.TaskDoneBatch(outcomes=[report]))
            await until(lambda count=before: len(executor.acks) > count)  # type: ignore[misc]
            assert executor.acks[-1].verdict == verdict
        assert await ended(system, execution_id) == "done"


async def test_a_delegate_outlives_everything(system: System) -> None:
    """Engine, executor and api are killed and started again: the token and the alias from before complete it (P11,
    P12)."""
    async with delegating(system, alias="outlives", heartbeat_timeout=Duration(seconds=60)) as executor:
        execution_id = await ask(system, "test.ask")
        await waiting(system, execution_id)
        second = await ask(system, "std.async_noop")
        other = await waiting(system, second)
    for service in system.services:
        service.kill()
    await system.start()
    await beat(system, alias="outlives")
    await complete(system, task_token=executor.received[0].task_token, result="1")
    await complete(system, action_execution_id=other.id, result="2")
    assert [await ended(system, each) for each in (execution_id, second)] == [1, 2]


# How they stay heard.


async def test_a_delegate_that_is_not_heard_fails(system: System) -> None:
    """Heartbeats extend its time, without a change in the journal; without one it is ERROR `heartbeat missed`, which
    the workflow handles (P16); a completion that comes then is refused."""
    async with delegating(system, alias="heard", heartbeat_timeout=Duration(seconds=3)) as executor:
        execution_id = await ask(system, "test.ask")
        found = await waiting(system, execution_id)
        before = await system.journal(execution_id)
        ways = ({"action_execution_id": found.id}, {"task_token": executor.received[0].task_token}, {"alias": "heard"})
        for way in ways:
            await asyncio.sleep(1.2)
            await beat(system, **way)
        assert await system.journal(execution_id) == before
        assert (await system.attempts(execution_id))[0].state == execution_pb2.ACTION_STATE_RUNNING
        assert str(await ended(system, execution_id)).startswith("heartbeat missed")
        attempt = (await system.attempts(execution_id))[0]
        assert (attempt.state, attempt.error.startswith("heartbeat missed")) == (ERROR, True)
        taken_s = (attempt.ended_at.ToNanoseconds() - attempt.started_at.ToNanoseconds()) / 1e9
        assert 6.5 <= taken_s <= 9
        assert (await refused(complete(system, alias="heard"))).code is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_paused_delegate_need_not_be_heard(system: System) -> None:
    """While the action is PAUSED no heartbeat is missed; once it runs again it has its whole time."""
    async with delegating(system, heartbeat_timeout=Duration(seconds=3)):
        execution_id = await ask(system, "test.ask")
        found = await waiting(system, execution_id)
        await update(system, execution_pb2.ACTION_STATE_PAUSED, action_execution_id=found.id)
        await asyncio.sleep(3.5)
        await update(system, execution_pb2.ACTION_STATE_RUNNING, action_execution_id=found.id)
        await asyncio.sleep(1.0)
        await beat(system, action_execution_id=found.id)
        await complete(system, action_execution_id=found.id, result="5")
        assert await ended(system, execution_id) == 5


async def test_the_time_of_an_outage_does_not_count(system: System) -> None:
    """Nobody can be heard while no engine runs: after its start a delegate has its whole time again, and then fails."""
    async with delegating(system, heartbeat_timeout=Duration(seconds=4)):
        execution_id = await ask(system, "test.ask")
        found = await waiting(system, execution_id)
        system.engine.kill()
        await asyncio.sleep(4.0)
        await system.engine.start()
        await asyncio.sleep(1.0)
        assert (await system.attempts(execution_id))[0].state == execution_pb2.ACTION_STATE_RUNNING
        await beat(system, action_execution_id=found.id)
        assert str(await ended(system, execution_id)).startswith("heartbeat missed")


# How their callbacks are signed.


async def test_a_signature_that_was_asked_for_is_required(system: System) -> None:
    """By alias and by token, to complete, to be heard and to pause: not without one, not with a wrong, old or other
    one. By id none is needed."""
    async with delegating(
        system, alias="signed", signature=execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS
    ) as executor:
        execution_id = await ask(system, "test.ask")
        found = await waiting(system, execution_id)
        run = executor.received[0]
        body = b'{"approved": true}'
        for way in ({"alias": "signed"}, {"task_token": run.task_token}):
            paused, runs = execution_pb2.ACTION_STATE_PAUSED, execution_pb2.ACTION_STATE_RUNNING
            for call in (complete(system, **way), beat(system, **way), update(system, paused, **way)):
                failure = await refused(call)
                assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SIGNATURE_MISSING")
            old = standard(body, run.signing_key, at_s=1_700_000_000)
            forged = standard(body, run.signing_key)
            forged.body = b'{"approved": false}'
            for wrong in (old, forged):
                for call in (complete(system, **way, signed=wrong), beat(system, **way, signed=wrong)):
                    failure = await refused(call)
                    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SIGNATURE_INVALID")
            assert (await refused(complete(system, **way, signed=github(body, run.signing_key)))).reason == (
                "SIGNATURE_MISSING"
            )
            await beat(system, **way, signed=standard(b"", run.signing_key))
            for state in (paused, runs):
                await update(system, state, **way, signed=standard(b"", run.signing_key))
        await beat(system, action_execution_id=found.id)
        for _ in range(2):
            signed = standard(body, run.signing_key)
            await complete(system, alias="signed", result=body.decode(), signed=signed)
        assert await ended(system, execution_id) == {"approved": True}


async def test_github_signs_with_the_text_of_the_key(system: System) -> None:
    """X-Hub-Signature-256, by token; the same key for another delivery is refused."""
    async with delegating(system, signature=execution_pb2.SIGNATURE_SCHEME_GITHUB) as executor:
        first, second = await ask(system, "test.ask"), await ask(system, "test.ask")
        await waiting(system, first)
        await waiting(system, second)
        runs = executor.received
        wrong = complete(system, task_token=runs[0].task_token, signed=github(b"1", runs[1].signing_key))
        assert (await refused(wrong)).reason == "SIGNATURE_INVALID"
        for run in runs:
            await complete(system, task_token=run.task_token, result="1", signed=github(b"1", run.signing_key))
        assert [await ended(system, each) for each in (first, second)] == [1, 1]


async def test_an_action_that_asks_for_no_signature_needs_none(system: System) -> None:
    """A sender that signs with a secret of its own is taken all the same; so is one that is faster than the report of
    the executor (P26)."""
    async with delegating(system, alias="plain") as executor:
        execution_id = await ask(system, "test.ask")
        await waiting(system, execution_id)
        await complete(system, alias="plain", result="1", signed=github(b"1", "another secret"))
        assert await ended(system, execution_id) == 1
        executor.script = lambda run: None
        second = await ask(system, "test.ask")
        await until(lambda: len(executor.received) == 2)
        run = executor.received[1]
        await complete(system, task_token=run.task_token, result="2")
        late = done(
            run, wire.TASK_OUTCOME_DELEGATED, alias="late", signature=execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS
        )
        await executor.finish(run, late)
        await until(lambda: [each for each in executor.acks if each.action_execution_id == run.action_execution_id])
        assert executor.acks[-1].verdict == wire.ACK_VERDICT_SUPERSEDED
        assert await ended(system, second) == 2
