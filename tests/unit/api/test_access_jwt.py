"""Callers with tokens of an issuer (JWT), over the wire: roles, names, expiry, limits, executors, the gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.issuing import TestIssuer, jwks, rule, set_clock, signing_key, write_issuers
from tests.unit.api.guarded import Guarded, add_token, guarded_system, refusal
from tests.unit.api.test_access import DENIED, SOON_S, UNAUTHENTICATED, WAITS_S, hello, start_one
from tests.unit.api.test_access_links import served_over_http

from dalsegno.access.issuers import LEEWAY_S
from dalsegno.engine.settings import read_settings
from dalsegno.rpc.channel import REASON_KEY
from dalsegno.rpc.jwt_directory import IssuerFile
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_pb2, system_service_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.worker import Worker, action

SSO = TestIssuer()
RULES = [
    rule("crew", "operator@team-a"),
    rule("authors", "author@team-a"),
    rule("readers", "viewer"),
    rule("machines", "executor@math.*"),
]
INFO = system_service_pb2.GetServerInfoRequest()


def _issuers(folder: Path) -> IssuerFile:
    (folder / "keys.json").write_bytes(jwks(SSO.key))
    return IssuerFile(write_issuers(folder / "issuers.yaml", SSO.entry("keys.json", RULES)))


@asynccontextmanager
async def _system(folder: Path, **of_api: Any) -> AsyncIterator[Guarded]:
    async with guarded_system(folder, is_started=False) as system:
        issuers = _issuers(folder)
        await system.start_engine(issuers=issuers)
        own = system.file(add_token(system.store, "api", "service"))
        await system.start_api(token=own, issuers=issuers, **of_api)
        yield system


async def test_claims_give_roles_and_names(tmp_path: Path) -> None:
    """A caller does what its claims give, and is refused the rest by the name of the role that it lacks; the history
    has issuer and subject, whatever the metadata for services says."""
    async with _system(tmp_path) as system:
        there = await start_one(system, "team-a")
        alice = await system.caller(SSO.token(groups=["crew", "authors"]))
        get = executions.GetExecutionRequest(execution_id=there)
        assert (await alice.executions.GetExecution(get)).execution.id == there
        put = environments.PutEnvironmentRequest(namespace="team-a", name="stage")
        stored = await alice.environments.PutEnvironment(put, metadata=(("x-dalsegno-actor", "root"),))
        assert stored.environment.actor == "sso/alice"
        reader = await system.caller(SSO.token("jürgen", groups=["readers"]))
        code, told = await refusal(reader.environments.PutEnvironment(put))
        assert (code, told) == (
            DENIED,
            "'sso/jürgen' lacks the role author for the namespace 'team-a'; what tokens of 'sso' give is in the file"
            " of --issuers",
        )
        nobody = await system.caller(SSO.token(groups=["cooks"]))
        code, told = await refusal(nobody.executions.GetExecution(get))
        assert (code, "'sso/alice' lacks the role viewer" in told) == (DENIED, True)


async def test_a_server_without_issuers_says_so(tmp_path: Path) -> None:
    """Where no issuer is named, a genuine token of one is UNAUTHENTICATED, as is any other that does not count."""
    async with guarded_system(tmp_path) as system:
        caller = await system.caller(SSO.token(groups=["readers"]))
        code, told = await refusal(caller.system.GetServerInfo(INFO))
        assert (code, "takes no tokens of others (JWT): it has no --issuers" in told) == (UNAUTHENTICATED, True)
    async with _system(tmp_path) as system:
        for token, said in (
            (SSO.token(aud="billing"), "its audience (aud) is none of dalsegno"),
            (SSO.token(key=signing_key("stranger")), "the key 'stranger', which 'sso' does not have"),
            (SSO.token(lasts_s=-60), "it has expired (exp)"),
        ):
            caller = await system.caller(token)
            for call in (caller.system.GetServerInfo(INFO), caller.executor.Connect()):
                code, told = await refusal(call)
                assert (code, said in told) == (UNAUTHENTICATED, True)


async def test_expiry_ends_open_streams_and_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 5 s of the end of a token and its leeway the watch, the wait and the executor stream that it has open end
    with UNAUTHENTICATED; those of a token that lasts go on."""
    async with _system(tmp_path) as system:
        there = await start_one(system, "team-a")
        short = await system.caller(SSO.token(groups=["readers", "machines"], lasts_s=600))
        lasting = await system.caller(SSO.token(groups=["readers"], lasts_s=6000))
        watch = executions.WatchExecutionRequest(execution_id=there)
        watching, unaffected = short.executions.WatchExecution(watch), lasting.executions.WatchExecution(watch)
        serving = short.executor.Connect()
        await serving.write(hello("math.add"))
        for each in (watching, unaffected, serving):
            assert await each.read() is not grpc.aio.EOF
        wait = executions.WaitExecutionRequest(execution_id=there)
        waiting = asyncio.ensure_future(refusal(short.executions.WaitExecution(wait)))
        ended_s = time.monotonic()
        set_clock(monkeypatch, lambda: time.time() + 600 + LEEWAY_S)
        async with asyncio.timeout(WAITS_S):
            ends = [await waiting, *[(await each.code(), await each.details()) for each in (watching, serving)]]
        assert time.monotonic() - ended_s < SOON_S
        assert {code for code, _ in ends} == {UNAUTHENTICATED}
        assert all("the token (JWT) of 'sso/alice' has expired" in told for _, told in ends)
        assert not unaffected.done()
        unaffected.cancel()


async def test_limits_count_the_caller_not_the_token(tmp_path: Path) -> None:
    """Who makes a new token for each call has the same limits; another subject of the issuer has its own."""
    async with _system(tmp_path, caller_streams=2) as system:
        there = await start_one(system, "team-a")
        watch = executions.WatchExecutionRequest(execution_id=there)
        streams = []
        for index in range(2):
            caller = await system.caller(SSO.token(groups=["readers"], jti=str(index)))
            streams.append(caller.executions.WatchExecution(watch))
            await streams[-1].read()
        third = await system.caller(SSO.token(groups=["readers"], jti="third"))
        code, told = await refusal(third.executions.WatchExecution(watch))
        assert (code, told) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "'sso/alice' has 2 streams and waits open: end one, or try again later",
        )
        other = await system.caller(SSO.token("bert", groups=["readers"]))
        streams.append(other.executions.WatchExecution(watch))
        assert await streams[-1].read() is not grpc.aio.EOF
        for each in streams:
            each.cancel()


async def test_the_audit_names_issuer_and_subject(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines of the audit have the caller, the id of its token, and no token; a refused one has no name that nobody has
    checked."""
    async with _system(tmp_path) as system:
        token, forged = SSO.token(groups=["authors"]), SSO.token("root", key=signing_key("stranger"))
        put = environments.PutEnvironmentRequest(namespace="team-a", name="stage")
        with caplog.at_level(logging.INFO):
            await (await system.caller(token)).environments.PutEnvironment(put)
            await refusal((await system.caller(forged)).environments.PutEnvironment(put))
        lines = [vars(each) for each in caplog.records if each.name == "dalsegno.audit"]
        told = [(each["caller"], len(each["token"]), each["code"]) for each in lines]
        assert told == [("sso/alice", 16, "OK"), ("", 0, "UNAUTHENTICATED")]
        written = caplog.text + str([vars(each) for each in caplog.records])
        assert not any(part in written for each in (token, forged) for part in each.split(".")[1:])


async def test_an_executor_shows_a_token_of_an_issuer(tmp_path: Path) -> None:
    """The engine takes its stream, for the actions of its patterns only."""
    async with _system(tmp_path) as system:
        machine = await system.caller(SSO.token("worker-1", groups=["machines"]))
        stream = machine.executor.Connect()
        await stream.write(hello("math.add"))
        assert (await stream.read()).WhichOneof("message") == "welcome"
        stream.cancel()
        code, told = await refusal(machine.executor.Connect(iter([hello("std.http")])))
        assert code is DENIED
        assert told == (
            "'sso/worker-1' lacks the role executor for the actions std.http; what tokens of 'sso' give is in the file"
            " of --issuers"
        )


async def test_an_executor_goes_on_with_a_renewed_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When its token expires, a worker connects again with the one that is in its file then, and what it runs goes on:
    it is not run a second time."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    runs = 0

    @action("math.slow")
    async def slow() -> int:
        nonlocal runs
        runs += 1
        begun.set()
        await go_on.wait()
        return runs

    async with _system(tmp_path) as system:
        file = tmp_path / "worker.jwt"
        file.write_text(SSO.token("worker-1", groups=["machines"], lasts_s=600))
        worker = Worker(slow, engine=f"127.0.0.1:{system.engine.port}", token_file=str(file))
        serving = asyncio.create_task(worker.serve())
        operator = await system.caller(SSO.token(groups=["crew"], lasts_s=6000))
        request = actions.RunActionRequest(namespace="team-a", action="math.slow")
        started = await operator.actions.RunAction(request)
        with caplog.at_level(logging.INFO, "dalsegno.audit"):
            async with asyncio.timeout(WAITS_S):
                await begun.wait()
                file.write_text(SSO.token("worker-1", groups=["machines"], lasts_s=6000))
                set_clock(monkeypatch, lambda: time.time() + 700)
                while not any(vars(each).get("code") == UNAUTHENTICATED.name for each in caplog.records):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        go_on.set()
        wait = actions.WaitActionRequest(action_execution_id=started.action_execution.id)
        async with asyncio.timeout(WAITS_S):
            ended = (await operator.actions.WaitAction(wait)).action_execution
        assert (ended.state, ended.result, runs) == (execution_pb2.ACTION_STATE_SUCCESS, "1", 1)
        worker.stop()
        await serving


async def test_the_gateway_passes_tokens_of_issuers_on(tmp_path: Path) -> None:
    """Over HTTP a token of an issuer counts as over gRPC."""
    async with _system(tmp_path) as system:
        there = await start_one(system, "team-a")
        async with served_over_http(system) as post:
            path, body = "/dalsegno.v1.ExecutionService/GetExecution", {"executionId": there}
            assert (await post(path, body, SSO.token(groups=["crew"])))[0] == 200
            status, answer = await post(path, body, SSO.token(groups=["cooks"]))
            assert (status, answer["code"]) == (403, "permission_denied")
            status, answer = await post(path, body, SSO.token(lasts_s=-60))
            assert (status, answer["code"], "it has expired" in answer["message"]) == (401, "unauthenticated", True)


async def test_health_tells_of_keys_that_cannot_be_read(tmp_path: Path) -> None:
    """A server that cannot read the keys of an issuer serves, and its health says what it cannot read."""
    async with _system(tmp_path) as system:
        (tmp_path / "keys.json").write_text("half")
        for channel in ((await system.caller("")).engine, (await system.caller("")).channel):
            stub = health_pb2_grpc.HealthStub(channel)
            async with asyncio.timeout(WAITS_S):
                while True:
                    call: Any = stub.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
                    answer, metadata = await call, await call.trailing_metadata()
                    if answer.status == health_pb2.HealthCheckResponse.SERVING and REASON_KEY in metadata:
                        break
                    await asyncio.sleep(0.05)
            told = metadata[REASON_KEY].decode()
            assert told.startswith("the keys of the issuer 'sso' cannot be read: ")
            assert told.endswith("those from before stay in use")
        caller = await system.caller(SSO.token(groups=["readers"]))
        await caller.system.GetServerInfo(INFO)


def test_the_option_is_checked_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is read before anything starts, and needs --auth tokens."""
    path = write_issuers(tmp_path / "issuers.yaml", SSO.entry("none.json"))
    for arguments, environment, told in (
        (["--issuers", path], {}, "--issuers needs --auth tokens"),
        (["--auth", "tokens", "--issuers", path], {}, "the keys of 'sso': "),
        (["--auth", "tokens"], {"DALSEGNO_ISSUERS": "/none.yaml"}, "--issuers /none.yaml: it cannot be read"),
    ):
        with pytest.raises(SystemExit):
            read_settings(arguments, environment)
        assert told in capsys.readouterr().err
    both = {"DALSEGNO_ISSUERS": "/none.yaml", "DALSEGNO_ENGINE_ISSUERS": ""}
    assert read_settings(["--auth", "tokens"], both).issuers is None
    (tmp_path / "none.json").write_bytes(jwks(SSO.key))
    found = read_settings(["--auth", "tokens"], {"DALSEGNO_ISSUERS": path}).issuers
    assert found is not None
    assert json.loads(Path(path).read_text())["issuers"][0]["name"] == found.trusted.issuers[0].name
