"""Tokens, secrets, environments and actions at an engine alone: what is stored, and what is refused for what is
there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_requests import refused

from dalsegno.engine import service
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings
from dalsegno.rpc import sizes
from dalsegno.rpc.channel import open_channel
from dalsegno.secrets import keys
from dalsegno.store.memory import MemoryStore
from dalsegno.v1 import access_service_pb2, engine_service_pb2_grpc, execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.secrets import MARK, MASK, is_secret

HASH = hashlib.sha256(b"secret").digest()
GRANTS = [{"role": access_service_pb2.ROLE_EXECUTOR, "pattern": "std.*"}]
FLOW = """
version: '2.0'
flow:
  input: [{given: 1}]
  tasks:
    first: {action: std.noop}
    second: {action: std.echo output=1, on-success: [third]}
    third: {action: std.noop}
"""


@pytest_asyncio.fixture
async def keeper(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Provide an engine with a key for secrets, which writes progress at once."""
    monkeypatch.setattr(service, "TICK_S", 0.02)
    store = MemoryStore()
    settings = Settings(listen="127.0.0.1:0", grace_s=0.2, secret_keys=(keys.new_key(),))
    engine = Engine(settings, store, is_only_engine=True)
    await engine.start()
    async with open_channel(f"127.0.0.1:{engine.port}") as channel:
        yield Desk(engine, store, engine_service_pb2_grpc.EngineServiceStub(channel))
        await engine.stop()


async def test_a_token_is_made_once_and_revoked(desk: Desk) -> None:
    """Its hash, grants, end and maker are stored; a repeated request gets the same answer, another one with the same
    hash is refused; a revoked one says since when."""
    request: dict[str, Any] = {"name": "t", "sha256": HASH, "grants": GRANTS, "comment": "why", "request_id": "r"}
    token = (await desk.submit("create_token", request)).token
    assert (await desk.submit("create_token", request)).token == token
    failure = await refused(desk.submit("create_token", {**request, "request_id": ""}))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    end = Timestamp(seconds=4_000_000_000)
    other = {"name": "u", "sha256": hashlib.sha256(b"o").digest(), "grants": GRANTS, "expires_at": end}
    await desk.submit("create_token", other)
    first, second = sorted(desk.read(lambda queries: queries.tokens()), key=lambda row: row.name)
    assert (first.sha256, first.actor, first.comment, first.expires_s) == (HASH.hex(), "tester", "why", None)
    assert (token.token_id, second.expires_s) == (first.token_id, 4_000_000_000.0)
    revoked = (await desk.submit("revoke_token", {"token_id": token.token_id, "request_id": "s"})).token
    assert revoked.HasField("revoked_at")
    assert [row.revoked_s is None for row in sorted(desk.read(lambda q: q.tokens()), key=lambda row: row.name)] == [
        False,
        True,
    ]


async def test_secrets_of_an_environment_are_kept(keeper: Desk) -> None:
    """They are stored encrypted, and stay when their names come without values; what is shown in place of one is not
    taken for it, and a name that the environment does not have is refused."""
    put = {"name": "e", "variables": '{"a": "x", "b": 1}', "secrets": ["a"]}
    await keeper.submit("put_environment", put)

    def stored() -> Any:
        return json.loads(keeper.read(lambda queries: queries.environment("", "e")).value)

    assert (is_secret(stored()["a"]), stored()["b"]) == (True, 1)
    secret = stored()["a"]
    await keeper.submit("put_environment", {**put, "variables": '{"b": 2}'})
    assert stored() == {"a": secret, "b": 2}
    for variables, names, subject in (
        ({"a": MASK}, [], "variables.a"),
        ({"b": 2}, ["c"], "secrets"),
        ({"a": 1}, ["b"], "secrets"),
    ):
        request = {"name": "e", "variables": json.dumps(variables), "secrets": names}
        failure = await refused(keeper.submit("put_environment", request))
        assert [each.subject for each in failure.violations] == [subject]
    await keeper.submit("put_environment", {"name": "e", "variables": json.dumps({"b": MASK})})
    assert stored() == {"b": MASK}, "what is no secret may have any text"


async def test_executors_get_secrets_in_clear(keeper: Desk) -> None:
    """The input that is stored encrypted is handed out in clear, and what the action says of itself is stored without
    it."""

    def script(run: wire.RunAction) -> wire.TaskDone:
        told = execution_pb2.ActionProgress(text="with hidden-word", details='{"w": "hidden-word"}')
        return done(run, wire.TASK_OUTCOME_RUNNING, progress=told)

    async with ScriptedExecutor(keeper.address, script) as executor:
        action = await keeper.run("std.echo", input='{"output": "hidden-word"}', secrets=["output"])
        await until(lambda: executor.acks)
        (run,) = executor.received
        assert (json.loads(run.input), run.has_secrets) == ({"output": "hidden-word"}, True)
        execution_id = action.id.partition(".")[0]
        place = (execution_id, (1, 0, 1))
        await until(lambda: keeper.read(lambda queries: queries.attempts_of([place]))[0].progress)
    (row,) = keeper.read(lambda queries: queries.attempts_of([place]))
    assert MARK in row.input
    assert "hidden-word" not in str(row)


async def test_a_store_with_secrets_needs_their_key(keeper: Desk) -> None:
    """An engine without a key, or with another one, does not start on it; the same key opens it again."""
    for other in ((), (keys.new_key(),)):
        with pytest.raises(keys.UnfitKeys):
            Engine(Settings(secret_keys=other), keeper.store, is_only_engine=True)
    Engine(Settings(secret_keys=keeper.engine.settings.secret_keys), keeper.store, is_only_engine=True)


async def test_an_environment_is_put_together(desk: Desk) -> None:
    """A stored one, one that the params name, which goes before it, and expressions in both, unless they are to stay;
    anything else is refused."""
    await desk.create(FLOW)
    for name, variables in (("one", {"a": 1, "b": 1}), ("two", {"b": "<% 1 + 1 %>"})):
        await desk.submit("put_environment", {"name": name, "variables": json.dumps(variables)})

    async def environment(**params: Any) -> object:
        execution = await desk.start("flow", environment="one", params=json.dumps(params))
        created = desk.journal(execution.id)[0].change
        assert isinstance(created, ExecutionCreated)
        return created.environment.data

    assert await environment() == {"a": 1, "b": 1}
    assert await environment(env="two") == {"a": 1, "b": 2}
    assert await environment(env="two", evaluate_env=False) == {"a": 1, "b": "<% 1 + 1 %>"}
    assert await environment(env={"c": "<% 3 %>"}) == {"a": 1, "b": 1, "c": 3}
    for env, code, told in (
        (3, grpc.StatusCode.INVALID_ARGUMENT, "params.env"),
        ({"c": "<% $.nothing.at %>"}, grpc.StatusCode.INVALID_ARGUMENT, "environment"),
        ("three", grpc.StatusCode.NOT_FOUND, "three"),
    ):
        failure = await refused(desk.start("flow", params=json.dumps({"env": env})))
        assert (failure.code, told in str(failure)) == (code, True)


async def test_an_action_of_a_workflow_is_cancelled(desk: Desk) -> None:
    """Its executor is told the reason; a second cancel changes nothing, and what has ended otherwise stays as it is."""
    await desk.create(FLOW)
    async with ScriptedExecutor(desk.address, lambda run: done(run) if run.action == "std.noop" else None) as executor:
        execution = await desk.start("flow")
        await until(lambda: executor.held and executor.acks)
        for _ in range(2):
            request = {"action_execution_id": f"{execution.id}.2.0.1", "comment": "too long", "request_id": "r"}
            answer = (await desk.submit("cancel_action", request)).action_execution
            assert (answer.state, answer.error) == (execution_pb2.ACTION_STATE_CANCELLED, "too long")
        await desk.submit("cancel_action", {**request, "request_id": ""})
        await until(lambda: executor.cancelled)
        assert [each.reason for each in executor.cancelled] == ["too long"]
        failure = await refused(desk.submit("cancel_action", {"action_execution_id": f"{execution.id}.1.0.1"}))
    assert "has ended already: SUCCESS" in str(failure)


async def test_terms_of_an_action_hold(desk: Desk) -> None:
    """A standalone action is tried as often as asked; a heartbeat is answered with its state, and is too late for an
    earlier delivery."""
    fails = wire.TASK_OUTCOME_FAILED
    async with ScriptedExecutor(desk.address, lambda run: done(run, fails, error="no")) as executor:
        action = await desk.run("std.noop", retry={"count": 2, "delay": Duration(nanos=1)})
        await desk.wait(action.id.partition(".")[0], "ERROR")
        assert len(executor.received) == 3
    async with ScriptedExecutor(desk.address, lambda run: done(run, wire.TASK_OUTCOME_DELEGATED)) as executor:
        action = await desk.run("std.noop", safe_to_rerun=True)
        await until(lambda: executor.acks)
        (run,) = executor.received
        alive = await desk.submit("heartbeat_action", {"task_token": run.task_token})
        assert alive.state == execution_pb2.ACTION_STATE_RUNNING
        failure = await refused(desk.submit("heartbeat_action", {"task_token": run.task_token[:-1]}))
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
        tokens = desk.engine._dispatcher._callbacks.tokens
        failure = await refused(desk.submit("heartbeat_action", {"task_token": tokens.make(action.id, 2)}))
        assert "was handed out again" in str(failure)


async def test_a_definition_is_stored_as_one_answer_tells(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is left out and named: first parameters and descriptions of the largest, then whole
    workflows."""
    texts = [
        f"w{number}: {{description: {'x' * 50 * number}, input: [a], tasks: {{t: {{action: std.noop}}}}}}"
        for number in (1, 2)
    ]
    text = "\n".join(["version: '2.0'", *texts])
    whole = await desk.create(text)
    assert [(each.name, list(each.left_out)) for each in whole.workflows] == [("w1", []), ("w2", [])]
    monkeypatch.setattr(sizes, "CONTENT_BYTES_MAX", whole.ByteSize() - 1)
    cut = await desk.create(text)
    assert [(each.name, list(each.left_out)) for each in cut.workflows] == [
        ("w1", []),
        ("w2", ["parameters", "description"]),
    ]
    monkeypatch.setattr(sizes, "CONTENT_BYTES_MAX", cut.ByteSize() // 2)
    least = await desk.create(text)
    assert (len(least.workflows), least.further_workflows) == (1, 1)
