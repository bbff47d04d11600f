"""Webhooks: third parties end delegated actions over HTTP, by token or alias (P23, P24, P25)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
import urllib.parse
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.gateways import HTTP_2, JSON, Reply, curl, gateway_of, send_raw, url_of
from tests.integration.engines import ScriptedExecutor, done, until
from tests.processes import Service, System, state_of

from dalsegno.v1 import execution_pb2, executor_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("gateway")]

WORKFLOWS = """
version: '2.0'
delegates:
  input: [{alias: ''}, {signature: 0}]
  output: {answer: <% $.answer %>}
  tasks:
    ask: {action: test.delegate, input: {alias: <% $.alias %>, signature: <% $.signature %>},
          publish: {answer: <% task().result %>}}
asks_people:
  input: [alias]
  output: {answer: <% $.answer %>}
  tasks:
    ask: {action: test.ask, publish: {answer: <% task().result %>},
          input: {alias: <% $.alias %>, signature: 0,
                  schema: {type: object, properties: {count: {type: integer}}, required: [count]}}}
"""
TEXT = ("-H", "content-type: text/plain")
FORM = ("-H", "content-type: application/x-www-form-urlencoded")
SUCCEEDED = {"state": "SUCCESS"}


def delegate(run: executor_service_pb2.RunAction) -> executor_service_pb2.TaskDone:
    """Delegate, as the input says."""
    given = json.loads(run.input)
    outcome = executor_service_pb2.TASK_OUTCOME_DELEGATED
    return done(run, outcome, alias=given["alias"], signature=given["signature"])


class Delegating(ScriptedExecutor):
    """An executor that delegates everything; one of its actions asks for an answer of a schema."""

    def _hello(self) -> executor_service_pb2.Hello:
        hello = super()._hello()
        asking = hello.actions.add(name="test.ask", accepts_any=True, answer_schema="schema")
        asking.parameters.add(name="schema", required=True)
        return hello


class Third:
    """A third party, with what its actions were given."""

    def __init__(self, system: System, gateway: Service, executor: ScriptedExecutor) -> None:
        self.system = system
        self.gateway = gateway
        self.executor = executor

    async def begin(self, **input: Any) -> executor_service_pb2.RunAction:
        """Start an execution, and return the action that waits."""
        id = await self.system.begin("delegates", input)
        await self.system.until(id, lambda change: change.attempt_moved.delegated)
        return next(run for run in self.executor.received if run.action_execution_id.startswith(id))

    async def post(self, path: str, *arguments: str, body: bytes | None = b"") -> Reply:
        """Send a webhook."""
        return await curl(f"{url_of(self.gateway)}/hooks/{path}", *arguments, body=body)

    async def ends(self, run: executor_service_pb2.RunAction) -> execution_pb2.Execution:
        """Return the execution of an action at its end."""
        return await self.system.wait(run.action_execution_id.split(".")[0])

    async def answer(self, run: executor_service_pb2.RunAction) -> Any:
        """Return what the action of an execution that succeeds has answered."""
        execution = await self.ends(run)
        assert state_of(execution) == "SUCCESS", execution.state_info
        return json.loads(execution.output)["answer"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def third(shared_system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Third]:
    """A third party, and an executor that delegates everything to it."""
    gateway = gateway_of(shared_system, tmp_path_factory.mktemp("gateway"))
    actions = (("test.delegate", True),)
    async with Delegating(shared_system.engine.address, delegate, actions=actions) as executor:
        try:
            await gateway.start()
            await until(lambda: executor.welcomes)
            await shared_system.define(WORKFLOWS)
            yield Third(shared_system, gateway, executor)
        finally:
            gateway.stop()
    log = gateway.log.read_text()
    assert '"message":"Webhooks/' in log
    for run in executor.received:
        assert run.task_token.rpartition(":")[2] not in log, "a token is in the log"
        assert urllib.parse.quote(run.task_token, safe="") not in log


@pytest.mark.parametrize(
    ("arguments", "body", "answer"),
    [
        (JSON, b'{"n": 12345678901234567890, "deep": [1.50, null]}', {"n": 12345678901234567890, "deep": [1.5, None]}),
        (("-H", "content-type: application/cloudevents+json; charset=utf-8"), "“é”".encode().join([b'"', b'"']), "“é”"),
        (FORM, b"name=Ada+L&tag=a&tag=b&empty=", {"name": "Ada L", "tag": ["a", "b"], "empty": ""}),
        (TEXT, "süß".encode(), "süß"),
        (("-H", "content-type: text/plain; charset=ISO-8859-1"), "süß".encode("latin-1"), "süß"),
        (("-H", "content-type:"), b"", None),
        (JSON, b"", None),
        ((*JSON, HTTP_2, "-X", "PUT"), b"false", False),
    ],
)
async def test_the_body_is_the_result(
    system: System, third: Third, arguments: tuple[str, ...], body: bytes, answer: object
) -> None:
    """JSON as it is, a form as an object, a text as a string, nothing as null (P8, P23)."""
    run = await third.begin()
    reply = await third.post(f"token/{run.task_token}", *arguments, body=body)
    assert (reply.status, reply.json) == (200, SUCCEEDED)
    assert reply.headers["cache-control"] == "no-store"
    assert await third.answer(run) == answer


async def test_a_token_as_bearer_and_an_alias_name_the_action_too(system: System, third: Third) -> None:
    """The token need not be in an address; an alias has a namespace, and may hold a slash (P24)."""
    run = await third.begin()
    refused = await third.post("token", *JSON, body=b"1")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    bearer = ("-H", f"Authorization: Bearer {run.task_token}")
    assert (await third.post("token/heartbeat", *bearer)).json == {"state": "RUNNING"}
    assert (await third.post("token", *bearer, *JSON, body=b"1")).json == SUCCEEDED
    assert await third.answer(run) == 1
    alias = f"orders/{uuid.uuid4()} é"
    run = await third.begin(alias=alias)
    path = f"alias/{urllib.parse.quote(alias, safe='')}"
    assert (await third.post(path, *JSON, body=b"2")).json == SUCCEEDED
    assert await third.answer(run) == 2
    other = await third.post(f"{path}?namespace=elsewhere", *JSON, body=b"2")
    assert (other.status, other.json["code"]) == (404, "not_found")


async def test_an_action_fails_or_is_cancelled_by_its_outcome(system: System, third: Third) -> None:
    """`?outcome=`: a text is the error, JSON the result beside it; who ended it is in the journal."""
    run = await third.begin()
    failed = await third.post(f"token/{run.task_token}?outcome=failed", *TEXT, body=b"no money")
    assert (failed.status, failed.json) == (200, {"state": "ERROR"})
    execution = await third.ends(run)
    assert "no money" in execution.state_info
    changes = await system.journal(execution.id)
    assert "webhook" in {change.actor for change in changes}
    run = await third.begin()
    failed = await third.post(f"token/{run.task_token}?outcome=failed", *JSON, body=b'{"missing": 5}')
    assert failed.json == {"state": "ERROR"}
    (attempt,) = await system.attempts((await third.ends(run)).id)
    assert json.loads(attempt.result) == {"missing": 5}
    run = await third.begin()
    cancelled = await third.post(f"token/{run.task_token}?outcome=cancelled", "-H", "content-type:")
    assert cancelled.json == {"state": "CANCELLED"}


async def test_a_repeat_is_answered_alike_and_another_answer_is_a_conflict(system: System, third: Third) -> None:
    """The same again is 200; another result, or another outcome, is 409; of many at once one wins (P25)."""
    run = await third.begin()
    path = f"token/{run.task_token}"
    replies = await asyncio.gather(*(third.post(path, *JSON, body=str(number).encode()) for number in range(8)))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 7
    winner = [reply.status for reply in replies].index(200)
    assert await third.answer(run) == winner
    assert (await third.post(path, *JSON, body=str(winner).encode())).json == SUCCEEDED
    late = await third.post(f"{path}?outcome=failed", *TEXT, body=b"too late")
    assert (late.status, late.json["code"]) == (409, "failed_precondition")
    late = await third.post(f"{path}/heartbeat", "-H", "content-type:")
    assert late.status == 409


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH"])
async def test_only_post_and_put_complete(system: System, third: Third, method: str) -> None:
    """A link that a scanner or a preview opens changes nothing."""
    run = await third.begin()
    how = ("-I",) if method == "HEAD" else ("-X", method)
    for path in (f"token/{run.task_token}", f"token/{run.task_token}/heartbeat", "alias/x", "token"):
        reply = await third.post(path, *how, body=None)
        assert (reply.status, reply.headers["allow"]) == (405, "POST, PUT")
    (attempt,) = await system.attempts(run.action_execution_id.split(".")[0])
    assert execution_pb2.ActionState.Name(attempt.state) == "ACTION_STATE_RUNNING"
    await third.post(f"token/{run.task_token}", *JSON, body=b"1")


async def test_what_is_wrong_is_said_and_changes_nothing(system: System, third: Third) -> None:
    """Each refusal has its status and a sentence, none the token; afterwards the action still waits."""
    run = await third.begin()
    token = run.task_token
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    long = b'"' + b"x" * 4_000_001 + b'"'
    cases: list[tuple[int, str, tuple[str, ...], bytes]] = [
        (400, f"token/{token}", JSON, b"{"),
        (400, f"token/{token}", JSON, b"\xff"),
        (400, f"token/{token}", FORM, b'{"a": 1}'),
        (400, f"token/{token}?outcome=maybe", JSON, b"1"),
        (400, f"token/{token}?outcom=failed", JSON, b"1"),
        (400, f"token/{token}?namespace=x", JSON, b"1"),
        (400, f"token/{token}/heartbeat?outcome=failed", JSON, b"{}"),
        (400, f"token/{token}/heartbeat", JSON, b'{"txt": "half"}'),
        (400, f"token/{token}/heartbeat", JSON, b'{"fraction": 2}'),
        (403, f"token/{forged}", JSON, b"1"),
        (403, "token/nonsense", JSON, b"1"),
        (404, "alias/nobody", JSON, b"1"),
        (404, f"token/{token}/more", JSON, b"1"),
        (404, "alias/", JSON, b"1"),
        (404, "other", JSON, b"1"),
        (413, f"token/{token}", JSON, long),
        (413, f"token/{token}", JSON, long * 5),
        (415, f"token/{token}", ("-H", "content-type: image/png"), b"1"),
        (415, f"token/{token}", ("-H", "content-type:"), b"1"),
        (415, f"token/{token}", (*JSON, "-H", "content-encoding: gzip"), b"1"),
        (415, f"token/{token}", ("-H", "content-type: text/plain; charset=zlib"), b"1"),
    ]
    for status, path, arguments, body in cases:
        reply = await third.post(path, *arguments, body=body)
        assert (reply.status, bool(reply.json["message"])) == (status, True), (path, reply)
        assert token.rpartition(":")[2] not in reply.body.decode()
    foreign = await third.post(f"token/{token}", *JSON, "-H", "origin: https://evil.example.com", body=b"1")
    assert foreign.status == 403
    assert (await third.post(f"token/{token}", *JSON, body=b'"still here"')).json == SUCCEEDED
    assert await third.answer(run) == "still here"


async def test_a_heartbeat_tells_the_progress(system: System, third: Third) -> None:
    """A text, or text, fraction and details; without a body it is a sign of life."""
    run = await third.begin()
    path = f"token/{run.task_token}/heartbeat"
    assert (await third.post(path, *TEXT, body=b"begun")).json == {"state": "RUNNING"}
    body = json.dumps({"text": "half", "fraction": 0.5, "details": {"files": 3}}).encode()
    assert (await third.post(path, *JSON, body=body)).status == 200
    assert (await third.post(path, "-H", "content-type:")).status == 200

    async def shown() -> execution_pb2.ActionProgress:
        (attempt,) = await system.attempts(run.action_execution_id.split(".")[0])
        return attempt.progress

    for _ in range(200):  # of several reports within a second the last one is stored
        progress = await shown()
        if progress.text == "half":
            break
        await asyncio.sleep(0.05)
    assert (progress.text, progress.fraction, json.loads(progress.details)) == ("half", 0.5, {"files": 3})
    await third.post(f"token/{run.task_token}", *JSON, body=b"1")


async def test_an_answer_that_does_not_fit_is_422(system: System, third: Third) -> None:
    """Each field that does not fit the schema of the question is named, and the question stays open."""
    alias = f"question-{uuid.uuid4()}"
    id = await system.begin("asks_people", {"alias": alias})
    await system.until(id, lambda change: change.attempt_moved.delegated)
    path = f"alias/{alias}"
    reply = await third.post(path, *JSON, body=b'{"count": "many"}')
    assert reply.status == 422
    assert [each["field"] for each in reply.json["violations"]] == ["result.count"]
    assert (await third.post(path, *JSON, body=b'{"count": 3}')).status == 200
    assert state_of(await system.wait(id)) == "SUCCESS"


def standard_webhook(key: str, body: bytes, at_s: int) -> tuple[str, ...]:
    """The headers of Standard Webhooks, as their makers describe them."""
    id = f"msg_{uuid.uuid4().hex}"
    secret = base64.b64decode(key.removeprefix("whsec_"))
    mac = hmac.digest(secret, f"{id}.{at_s}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    headers = {"webhook-id": id, "webhook-timestamp": str(at_s), "webhook-signature": signature}
    return tuple(word for name, value in headers.items() for word in ("-H", f"{name}: {value}"))


async def test_signed_callbacks_of_standard_webhooks(system: System, third: Third) -> None:
    """With the right signature it counts; without one, with another, or signed long ago it is 403 (P23)."""
    run = await third.begin(signature=execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS)
    path, body, now = f"token/{run.task_token}", b'{"paid": true}', int(time.time())
    wrong = [
        (),
        standard_webhook(run.signing_key, b'{"paid": false}', now),
        standard_webhook("whsec_" + base64.b64encode(b"0" * 32).decode(), body, now),
        standard_webhook(run.signing_key, body, now - 600),
        ("-H", "webhook-id: x", "-H", "webhook-timestamp: soon", "-H", "webhook-signature: v1,AAAA"),
        ("-H", "x-hub-signature-256: sha256=00"),
    ]
    for headers in wrong:
        reply = await third.post(path, *JSON, *headers, body=body)
        assert (reply.status, reply.json["code"]) == (403, "permission_denied"), headers
    assert (await third.post(path, *JSON, *standard_webhook(run.signing_key, body, now), body=body)).json == SUCCEEDED
    assert await third.answer(run) == {"paid": True}


async def test_signed_callbacks_of_github(system: System, third: Third) -> None:
    """X-Hub-Signature-256 over the raw body, by alias as by token."""
    alias = f"build-{uuid.uuid4()}"
    run = await third.begin(alias=alias, signature=execution_pb2.SIGNATURE_SCHEME_GITHUB)
    body = b"payload=%7B%22ok%22%3Atrue%7D"
    digest = hmac.digest(run.signing_key.encode(), body, "sha256").hex()
    for signature in ("sha256=" + "0" * 64, digest):
        reply = await third.post(f"alias/{alias}", *FORM, "-H", f"x-hub-signature-256: {signature}", body=body)
        assert reply.status == 403
    genuine = ("-H", f"X-Hub-Signature-256: sha256={digest}")
    assert (await third.post(f"alias/{alias}", *FORM, *genuine, body=body)).json == SUCCEEDED
    assert await third.answer(run) == {"payload": '{"ok":true}'}


async def test_without_the_api_a_third_party_is_told_to_try_again(tmp_path: Path) -> None:
    """503 with Retry-After, which senders of webhooks understand."""
    lonely = Service("gateway", tmp_path, ["--api", Service("api", tmp_path, []).address])
    lonely.launch()
    try:
        await until(lambda: "listening" in lonely.log.read_text())
        reply = await curl(f"{url_of(lonely)}/hooks/token/a:1:b", *JSON, body=b"1")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    finally:
        lonely.stop()


async def test_a_body_that_is_cut_off_completes_nothing(system: System, third: Third) -> None:
    """A third party whose connection breaks within its body has said nothing; it says it again, and that counts."""
    run = await third.begin()
    for sent in ("only the beginn", ""):
        head = f"POST /hooks/token/{run.task_token} HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n"
        answer = await send_raw(third.gateway, f"{head}content-length: 100\r\n\r\n{sent}".encode())
        assert answer.startswith(b"HTTP/1.1 400 ")  # with a reason, unless Hypercorn sees the broken connection first
    assert (await third.post(f"token/{run.task_token}", *TEXT, body=b"only the beginning")).json == SUCCEEDED
    assert await third.answer(run) == "only the beginning"
