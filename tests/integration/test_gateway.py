"""The gateway over the wire, by curl: every method by JSON and protobuf, refusals, who may ask, limits."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.gateways import HTTP_2, JSON, PACKAGE, call, curl, gateway_of, url_of, watch
from tests.integration.engines import until
from tests.processes import Service, System

from dalsegno.gateway.contract import PUBLIC
from dalsegno.v1 import execution_service_pb2, system_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("gateway")]

WORKFLOWS = """
version: '2.0'
asks:
  output: {answer: <% $.answer %>}
  tasks:
    ask: {action: std.async_noop, publish: {answer: <% task().result %>}}
echoes:
  input: [value]
  output: {value: <% $.value %>}
  tasks:
    echo: {action: std.noop}
"""
ALLOWED = "https://app.example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A gateway that serves one more host and one origin."""
    await shared_system.define(WORKFLOWS)
    options = ("--host-names", "flows.example.com", "--cors-origins", ALLOWED)
    service = gateway_of(shared_system, tmp_path_factory.mktemp("gateway"), *options)
    try:
        await service.start()
        yield service
    finally:
        service.stop()
        print(service.new_log())


def at(gateway: Service, method: str) -> str:
    """The address of a method."""
    return f"{url_of(gateway)}{PACKAGE}{method}"


@pytest.mark.parametrize("version", ["--http1.1", HTTP_2])
async def test_a_workflow_is_started_completed_and_read_by_curl(system: System, gateway: Service, version: str) -> None:
    """JSON in, JSON out, over HTTP/1.1 and HTTP/2 alike."""
    started = await call(gateway, "ExecutionService/StartExecution", {"workflow": "asks"}, version)
    assert (started.status, started.version) == (200, "2" if version == HTTP_2 else "1.1")
    id = started.json["execution"]["id"]
    await system.until(id, lambda change: change.attempt_moved.delegated)
    completed = await call(
        gateway,
        "ActionService/CompleteAction",
        {"actionExecutionId": f"{id}.1.0.1", "outcome": "COMPLETION_OUTCOME_SUCCEEDED", "result": "42"},
        version,
    )
    assert completed.json["actionExecution"]["state"] == "ACTION_STATE_SUCCESS"
    waited = await call(gateway, "ExecutionService/WaitExecution", {"executionId": id}, version)
    assert waited.json["execution"]["state"] == "EXECUTION_STATE_SUCCESS"
    assert json.loads(waited.json["execution"]["output"]) == {"answer": 42}
    assert b", " not in waited.body.replace(b'", ', b"")  # compact


async def test_protobuf_passes_unchanged(system: System, gateway: Service) -> None:
    """The bytes of an answer over HTTP are those of the api."""
    direct = await system.system.GetServerInfo(system_service_pb2.GetServerInfoRequest())
    reply = await curl(at(gateway, "SystemService/GetServerInfo"), "-H", "content-type: application/proto", body=b"")
    assert reply.headers["content-type"] == "application/proto"
    assert system_service_pb2.GetServerInfoResponse.FromString(reply.body) == direct


async def test_every_public_method_is_there(gateway: Service) -> None:
    """Each method of the contract answers as the api does, none as unknown: nothing is written per method."""
    methods = [
        f"{service.name}/{method.name}"
        for service in PUBLIC
        for method in service.methods
        if not method.server_streaming and method.name not in ("PutEnvironment", "WaitExecution")
    ]
    assert len(methods) > 30
    replies = await asyncio.gather(*(call(gateway, method, {}) for method in methods))
    codes = {method: reply.json.get("code", "ok") for method, reply in zip(methods, replies, strict=True)}
    assert set(codes.values()) <= {"ok", "invalid_argument", "not_found"}, codes


async def test_reads_are_served_by_get_and_writes_are_not(system: System, gateway: Service) -> None:
    """GET calls what has no side effects; a write, and a stream, by GET is refused with the way that works."""
    id = await system.begin("echoes", {"value": 1})
    await system.wait(id)
    message = urllib.parse.quote(json.dumps({"executionId": id}))
    read = await curl(f"{at(gateway, 'ExecutionService/GetExecution')}?encoding=json&message={message}")
    assert read.json["execution"]["id"] == id
    packed = base64.urlsafe_b64encode(
        execution_service_pb2.GetExecutionRequest(execution_id=id).SerializeToString()
    ).decode()
    by_bytes = await curl(f"{at(gateway, 'ExecutionService/GetExecution')}?encoding=proto&base64=1&message={packed}")
    assert execution_service_pb2.GetExecutionResponse.FromString(by_bytes.body).execution.id == id
    for method in ("ExecutionService/StartExecution", "ExecutionService/WatchExecution"):
        refused = await curl(f"{at(gateway, method)}?encoding=json&message={message}")
        assert (refused.status, refused.headers["allow"]) == (405, "POST")
        assert "is called by POST" in refused.json["message"]


async def test_an_unknown_field_is_refused_with_the_fields_that_there_are(system: System, gateway: Service) -> None:
    """A mistyped `dryRun` starts nothing; every unknown name is told, nested ones with their place."""
    reply = await call(
        gateway,
        "ExecutionService/StartExecution",
        {"workflow": "echoes", "input": '{"value": 1}', "dryrun": True, "labels": {"typo": "x"}, "inpt": "{}"},
    )
    assert (reply.status, reply.json["code"]) == (400, "invalid_argument")
    (violations,) = [each["debug"]["fieldViolations"] for each in reply.json["details"] if "BadRequest" in each["type"]]
    assert [each["field"] for each in violations] == ["dryrun", "inpt"]
    assert "did you mean dryRun?" in violations[0]["description"]
    assert "did you mean input?" in violations[1]["description"]
    assert all("namespace, workflow, version" in each["description"] for each in violations)
    found = await call(gateway, "ExecutionService/ListExecutions", {"filter": "label.typo=x"})
    assert found.json == {}
    nested = await call(gateway, "ExecutionService/ResumeExecution", {"tasks": [{"tsk": 1}]})
    assert "tasks[0].tsk: is no field of" in nested.json["message"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "send at least {}"),
        (b"{", "is not a dalsegno.v1.StartExecutionRequest"),
        (b"[1]", "is not a dalsegno.v1.StartExecutionRequest"),
        (b'{"workflow": 5}', "workflow"),
        (b'{"workflow": "a", "workflow": "b"}', "duplicate key workflow"),
        (b'{"onConflict": "MAYBE"}', "MAYBE"),
        (b"\xff\xfe", "utf-8"),
        (b"[" * 200_000, "recursion"),
    ],
)
async def test_json_that_is_none_of_ours_is_said(gateway: Service, body: bytes, told: str) -> None:
    """INVALID_ARGUMENT says what is wrong with it, and the gateway goes on."""
    reply = await curl(at(gateway, "ExecutionService/StartExecution"), *JSON, body=body)
    assert (reply.status, reply.json["code"]) == (400, "invalid_argument")
    assert told in reply.json["message"]


async def test_refusals_have_their_details_readable(gateway: Service) -> None:
    """The code as a status of HTTP, every detail packed for programs and as JSON for people."""
    reply = await call(
        gateway, "ExecutionService/StartExecution", {"workflow": "asks", "input": "[", "executionId": "x"}
    )
    assert reply.status == 400
    shown = {each["type"]: each["debug"] for each in reply.json["details"]}
    assert shown["google.rpc.ErrorInfo"] == {"reason": "INVALID_REQUEST", "domain": "dalsegno"}
    assert {each["field"] for each in shown["google.rpc.BadRequest"]["fieldViolations"]} == {"execution_id", "input"}
    packed = [each["value"] for each in reply.json["details"] if each["type"] == "google.rpc.BadRequest"]
    assert b"execution_id" in base64.b64decode(packed[0] + "==")
    missing = await call(gateway, "WorkflowService/GetWorkflow", {"name": "none"})
    assert (missing.status, missing.json["code"]) == (404, "not_found")
    problems = await call(gateway, "WorkflowService/CreateDefinitions", {"text": "version: '2.0'\nx: {tasks: 5}\n"})
    (found,) = [each["debug"] for each in problems.json["details"] if each["type"] == "dalsegno.v1.Problems"]
    assert found["problems"][0]["line"] == 2


async def test_what_is_asked_wrongly_is_said(gateway: Service) -> None:
    """An unknown path, a missing content type, a stream asked as a call, gRPC over HTTP/1.1: each with what works."""
    unknown = await call(gateway, "ExecutionService/StopExecution", {})
    assert (unknown.status, unknown.json["code"]) == (404, "unimplemented")
    assert "/openapi.json" in unknown.json["message"]
    plain = await curl(at(gateway, "SystemService/GetServerInfo"), body=b"{}")
    assert plain.status == 415
    assert "application/json" in plain.json["message"]
    stream = await call(gateway, "ExecutionService/WatchExecution", {})
    assert stream.status == 415
    assert "application/connect+json" in stream.json["message"]
    grpc = await curl(at(gateway, "SystemService/GetServerInfo"), "-H", "content-type: application/grpc", body=b"")
    assert (grpc.status, "HTTP/2" in grpc.json["message"]) == (415, True)


async def test_only_named_hosts_are_served(gateway: Service) -> None:
    """A page that lets its own name point to a loopback address gets nothing; others are served."""
    method = "SystemService/GetServerInfo"
    port = gateway.port
    for host in ("evil.example.com", f"evil.example.com:{port}", "127.0.0.1.evil.example.com", "", "192.0.2.7"):
        refused = await call(gateway, method, {}, "-H", f"host: {host}" if host else "host;")
        assert (refused.status, refused.json["code"]) == (403, "permission_denied"), host
        assert "--host-names" in refused.json["message"]
    for host in (f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "127.0.0.2", "Flows.Example.com.", "a.localhost"):
        assert (await call(gateway, method, {}, "-H", f"host: {host}")).status == 200, host
    over_2 = await call(gateway, method, {}, HTTP_2, "-H", "host: evil.example.com")
    assert over_2.status == 403
    assert (await curl(f"{url_of(gateway)}/healthz", "-H", "host: 10.1.2.3")).json == {"status": "SERVING"}


async def test_only_named_origins_may_call(gateway: Service) -> None:
    """A foreign page is refused, also its question before; a named one is told that it may, and reads the headers."""
    method = "SystemService/GetServerInfo"
    for origin in ("https://evil.example.com", "null", f"{ALLOWED}.evil.example.com", "http://app.example.com"):
        refused = await call(gateway, method, {}, "-H", f"origin: {origin}")
        assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False), origin
        asked = await curl(at(gateway, method), "-X", "OPTIONS", "-H", f"origin: {origin}")
        assert (asked.status, "access-control-allow-origin" in asked.headers) == (403, False), origin
    own = await call(gateway, method, {}, "-H", f"origin: {url_of(gateway)}")
    assert own.status == 200
    may = await call(gateway, method, {}, "-H", f"origin: {ALLOWED}")
    assert (may.status, may.headers["access-control-allow-origin"]) == (200, ALLOWED)
    assert "trailer-x-request-id" in may.headers["access-control-expose-headers"]
    preflight = ("-H", "access-control-request-method: POST", "-H", "access-control-request-headers: content-type")
    asked = await curl(at(gateway, method), "-X", "OPTIONS", "-H", f"origin: {ALLOWED}", *preflight)
    assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, ALLOWED)
    assert asked.headers["access-control-allow-headers"] == "content-type"


async def test_tags_of_other_sites_learn_nothing(gateway: Service) -> None:
    """A tag sends no origin, and its page hears whether there was an answer; links and one's own pages are served."""
    read = f"{at(gateway, 'SystemService/GetServerInfo')}?encoding=json&message=%7B%7D"
    for site, kind, status in (
        ("cross-site", "image", 403),
        ("cross-site", "object", 403),
        ("same-site", "script", 403),
        ("cross-site", "document", 200),
        ("same-origin", "empty", 200),
        ("none", "document", 200),
    ):
        asked = await curl(read, "-H", f"sec-fetch-site: {site}", "-H", f"sec-fetch-dest: {kind}")
        assert asked.status == status, (site, kind)


async def test_metadata_passes_both_ways(system: System, gateway: Service) -> None:
    """The request id and the actor reach the api; the id comes back, also with an error; cookies stay behind."""
    told = ("-H", "x-request-id: from-outside", "-H", "x-dalsegno-actor: ada", "-H", "cookie: a=b")
    started = await call(gateway, "ExecutionService/StartExecution", {"workflow": "asks"}, *told)
    assert (started.headers["x-request-id"], started.headers["trailer-x-request-id"]) == ("from-outside",) * 2
    changes = await call(gateway, "ExecutionService/ListChanges", {"executionId": started.json["execution"]["id"]})
    assert changes.json["changes"][0]["actor"] == "ada"
    failed = await call(gateway, "WorkflowService/GetWorkflow", {"name": "none"}, *told)
    assert (failed.status, failed.headers["x-request-id"]) == (404, "from-outside")
    bad = await call(gateway, "SystemService/GetServerInfo", {}, "-H", "x-some-bin: ***")
    assert (bad.status, "x-some-bin: is not base64" in bad.json["message"]) == (400, True)
    await system.cancel(started.json["execution"]["id"])


async def test_a_deadline_is_carried_on(system: System, gateway: Service) -> None:
    """The api knows when its caller gives up: a wait answers just before, and a stream ends then."""
    id = await system.begin("asks")
    deadline = ("-H", "connect-timeout-ms: 600")
    waited = await call(gateway, "ExecutionService/WaitExecution", {"executionId": id}, *deadline)
    assert (waited.status, waited.json["reason"]) == (200, "WAIT_REASON_TIME_OVER")
    watched = await watch(gateway, id, *deadline)
    flags, end = watched.frames[-1]
    assert (flags, json.loads(end)["error"]["code"]) == (2, "deadline_exceeded")
    wrong = await call(gateway, "ExecutionService/GetExecution", {}, "-H", "connect-timeout-ms: soon")
    assert (wrong.status, wrong.json["code"]) == (400, "invalid_argument")
    await system.cancel(id)


@pytest.mark.parametrize("version", ["--http1.1", HTTP_2])
async def test_sizes_are_those_of_the_contract(system: System, gateway: Service, version: str) -> None:
    """A value of 3.9 MB passes both ways, a request of more than 16 MiB is refused with its size, and other calls on
    the connection go on."""
    value = "é" * 1_950_000
    message = {"workflow": "echoes", "input": json.dumps({"value": value}, ensure_ascii=False)}
    started = await call(gateway, "ExecutionService/StartExecution", message, version)
    assert started.status == 200, started.body[:500]
    ended = await system.wait(started.json["execution"]["id"])
    read = await call(gateway, "ExecutionService/GetExecution", {"executionId": ended.id}, version)
    shown = read.json["execution"]
    assert "input" in shown.get("leftOut", []) or json.loads(shown["input"])["value"] == value
    whole = await call(gateway, "ExecutionService/StartExecution", {"workflow": "x" * (17 << 20)}, version)
    assert (whole.status, whole.json["code"]) == (429, "resource_exhausted")
    info = whole.json["details"][0]["debug"]
    assert (info["reason"], info["metadata"]["limit_bytes"]) == ("TOO_LARGE", str(16 << 20))
    endless = await call(gateway, "ExecutionService/StartExecution", {"workflow": "x" * (40 << 20)}, version)
    assert endless.status in (429, 0)  # the rest of it is not read, and a client may see the connection end first
    assert (await call(gateway, "SystemService/GetServerInfo", {}, version)).status == 200


async def test_gzip_is_understood_both_ways(gateway: Service) -> None:
    """A compressed request is read, an answer is compressed for who accepts it, a bomb and garbage are refused."""
    method = at(gateway, "SystemService/GetServerInfo")
    packed = ("-H", "content-encoding: gzip")
    reply = await curl(method, *JSON, *packed, "-H", "accept-encoding: gzip", body=gzip.compress(b"{}"))
    assert reply.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(reply.body))["version"]
    long = json.dumps({"namespace": "x" * 600_000}).encode()
    refused = await curl(at(gateway, "ExecutionService/StartExecution"), *JSON, *packed, body=gzip.compress(long))
    assert refused.json["code"] == "invalid_argument"
    bomb = await curl(method, *JSON, *packed, body=gzip.compress(b" " * (64 << 20)))
    assert bomb.json["code"] == "resource_exhausted"
    for body in (b"no gzip", gzip.compress(b"{}") * 2, gzip.compress(b"{}")[:-4]):
        garbage = await curl(method, *JSON, *packed, body=body)
        assert (garbage.status, "gzip" in garbage.json["message"]) == (400, True)
    other = await curl(method, *JSON, "-H", "content-encoding: br", body=b"{}")
    assert other.json["code"] == "unimplemented"


async def test_openapi_is_served(gateway: Service) -> None:
    """The document names the method that an unknown path is told to look for there."""
    reply = await curl(f"{url_of(gateway)}/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["openapi"] == "3.1.0"
    assert f"{PACKAGE}ExecutionService/StartExecution" in reply.json["paths"]


async def test_calls_are_logged_and_counted(shared_system: System, tmp_path: Path) -> None:
    """One line for each call, as in the other services, and the same metrics."""
    port = str(Service("gateway", tmp_path, []).port)
    gateway = gateway_of(shared_system, tmp_path, "--metrics-port", port)
    await gateway.start()
    try:
        await call(gateway, "WorkflowService/GetWorkflow", {"name": "none"}, "-H", "x-request-id: found-again")
        metrics = await curl(f"http://127.0.0.1:{port}/metrics")
    finally:
        code = gateway.terminate()
    lines: list[dict[str, Any]] = [json.loads(line) for line in gateway.log.read_text().splitlines() if line[0] == "{"]
    (line,) = [each for each in lines if each.get("request_id") == "found-again"]
    assert (line["message"], line["code"], line["level"]) == ("WorkflowService/GetWorkflow", "NOT_FOUND", "info")
    counted = 'dalsegno_grpc_calls_total{code="NOT_FOUND",method="GetWorkflow",service="WorkflowService"} 1.0'
    assert counted in metrics.body.decode()
    assert code == 0


async def test_health_follows_the_api(shared_system: System, tmp_path: Path) -> None:
    """Without its api the gateway is not healthy, by each question; calls are UNAVAILABLE with when to try again."""
    nobody = Service("api", tmp_path, [])
    lonely = Service("gateway", tmp_path, ["--api", nobody.address])
    lonely.launch()
    try:
        await until(lambda: "listening" in lonely.log.read_text())
        health = await curl(f"{url_of(lonely)}/healthz")
        assert (health.status, health.json) == (503, {"status": "NOT_SERVING"})
        check = f"{url_of(lonely)}/grpc.health.v1.Health/Check"
        asked = await curl(check, "-H", "content-type: application/json", "-d", "{}")
        assert (asked.status, asked.json) == (200, {"status": "NOT_SERVING"})
        reply = await call(lonely, "SystemService/GetServerInfo", {}, "-H", "connect-timeout-ms: 5000")
        assert (reply.status, reply.json["code"]) == (503, "unavailable")
        assert any("RetryInfo" in each["type"] for each in reply.json["details"])
    finally:
        lonely.stop()


async def test_it_listens_elsewhere_only_when_that_is_wanted(tmp_path: Path) -> None:
    """Without TLS and --insecure only a loopback address is taken; what cannot be listened on is said."""
    for arguments, told in (
        (("--listen", "0.0.0.0:0"), "--insecure"),
        (("--listen", "nowhere"), "host:port"),
        (("--listen", "127.0.0.1:0", "--tls-certificate", "a"), "belong together"),
        (("--listen", "127.0.0.1:0", "--tls-certificate", "a", "--tls-key", "b"), "cannot be read"),
    ):
        gateway = Service("gateway", tmp_path, arguments)
        gateway.launch()
        ended = gateway._process
        assert ended is not None
        assert await asyncio.to_thread(ended.wait, 20) != 0
        assert told in gateway.log.read_text()
        gateway.log.unlink()
