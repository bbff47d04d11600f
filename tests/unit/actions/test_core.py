"""Actions with StackStorm's names give results that its workflows read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope

from dalsegno.actions import core, http
from dalsegno.actions.action import ActionFailed, Delegated
from dalsegno.actions.registry import builtin_descriptions
from dalsegno.outgoing.reach import EVERYWHERE
from dalsegno.workflow.scope import Constant

sending = core.Sending(EVERYWHERE)

WELL = {"failed": False, "succeeded": True, "return_code": 0}


def test_noop() -> None:
    """core.noop gives a result that says it succeeded; std.noop gives none."""
    assert core.noop.function() == WELL


@pytest.mark.parametrize(
    ("message", "stdout"),
    [("Hello; $(date) `id`", "Hello; $(date) `id`"), (17, "17"), (True, "True"), (None, ""), ({"a": [1]}, '{"a":[1]}')],
)
def test_echo_gives_text(message: object, stdout: str) -> None:
    """core.echo gives its message as text, without a shell."""
    assert core.echo.function(message) == {**WELL, "stdout": stdout, "stderr": ""}


async def test_pause_gives_how_long_it_took() -> None:
    """core.pause gives its duration in the form of a Python action of StackStorm."""
    assert await core.pause.function(0.01) == {"stdout": "", "stderr": "", "exit_code": 0, "result": 0.01}


async def test_a_random_pause_is_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random pause lasts from 1 second to the maximum."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("dalsegno.actions.core.asyncio.sleep", wait)
    results = [(await core.pause.function(3, random=True))["result"] for _ in range(50)]

    assert waited == results
    assert set(waited) == {1.0, 2.0, 3.0}


def test_ask_is_completed_by_somebody_else() -> None:
    """core.ask is completed by another program, with a default question."""
    assert core.ask.function() == Delegated(completion_timeout_s=24 * 3600)
    assert core.ask.function(schema={"type": "object"}, users=["ada"], ttl=0.5) == Delegated(completion_timeout_s=30)
    assert core.ask.function(ttl=0) == Delegated()


@pytest.mark.parametrize("ttl", [-1, float("nan"), 1e9])
def test_a_time_to_live_is_some_minutes(ttl: float) -> None:
    """A wrong time to live fails at once."""
    with pytest.raises(ActionFailed, match="ttl is a number of minutes"):
        core.ask.function(ttl=ttl)


@pytest.mark.parametrize("schema", [{"type": "objekt"}, "object", None])
def test_a_question_that_nobody_can_answer_fails(schema: Any) -> None:
    """A question without a possible answer fails at once."""
    with pytest.raises(ActionFailed, match="nobody can answer this"):
        core.ask.function(schema=schema)


def test_the_family_is_described() -> None:
    """The descriptions exist before any executor connects, with StackStorm's names of inputs."""
    known = {each.name: each for each in builtin_descriptions() if each.name.startswith("core.")}
    names = {"core.noop", "core.echo", "core.local", "core.http", "core.sendmail", "core.pause", "core.ask"}
    assert known.keys() == names
    assert {name for name in names if known[name].safe_to_rerun} == {"core.noop", "core.echo", "core.pause", "core.ask"}
    inputs = {name: {each.name for each in described.parameters} for name, described in known.items()}
    assert inputs["core.noop"] == set()
    assert inputs["core.sendmail"] >= {"from", "to", "subject", "body", "content_type", "send_empty_body"}
    assert inputs["core.local"] >= {"cmd", "env", "cwd", "timeout", "sudo", "kwarg_op"}
    ask = known["core.ask"]
    assert (ask.answer_schema, ask.answer_key) == ("schema", "response")
    defaults = {each.name: each.default.value for each in ask.parameters if isinstance(each.default, Constant)}
    assert defaults == {
        "schema": core.DEFAULT_SCHEMA,
        "roles": [],
        "users": [],
        "route": "",
        "ttl": 1440,
        "tag": None,
    }


# core.http


async def _answer(asked: web.Request) -> web.Response:
    """Return the received request as JSON, with the status and content type that the query names."""
    came = {
        "method": asked.method,
        "headers": {name.lower(): value for name, value in asked.headers.items()},
        "body": await asked.text(),
        "query": dict(asked.query),
    }
    return web.Response(
        text=asked.query.get("text", json.dumps(came)),
        status=int(asked.query.get("status", "200")),
        content_type=asked.query.get("type", "application/json"),
    )


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Provide the URL of a server that returns its request."""
    application = web.Application()
    application.router.add_route("*", "/", _answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/"
    await http.close()
    await runner.cleanup()


async def told(address: str, **given: Any) -> dict[str, Any]:
    """Return the request that the server received."""
    result = await sending.request(address, **given)
    assert isinstance(result["body"], dict)
    return result["body"]


async def test_http_gives_status_code_body_and_headers(address: str) -> None:
    """A JSON body is parsed, and the result says so."""
    result = await sending.request(address, params={"a": "1"})

    assert result.keys() == {"status_code", "body", "parsed", "headers"}
    assert (result["status_code"], result["parsed"]) == (200, True)
    assert isinstance(result["body"], Mapping)
    assert (result["body"]["method"], result["body"]["query"]) == ("GET", {"a": "1"})
    assert isinstance(result["headers"], Mapping)
    assert result["headers"]["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("params", "body", "parsed"),
    [
        ({"text": "[1]", "type": "application/json"}, [1], True),
        ({"text": "[1]", "type": "text/plain"}, "[1]", False),
        ({"text": "[1", "type": "application/json"}, "[1", False),
    ],
)
async def test_only_what_is_called_json_is_parsed(
    address: str, params: dict[str, str], body: object, parsed: bool
) -> None:
    """A body is parsed only if its type is JSON and it is JSON; otherwise it is text."""
    result = await sending.request(address, params=params)
    assert (result["body"], result["parsed"]) == (body, parsed)


async def test_http_says_post_when_it_sends_something(address: str) -> None:
    """A request with a body is a POST unless the method is given; an object is sent as JSON."""
    sent = await told(address, body={"a": 1})
    assert (sent["method"], sent["body"], sent["headers"]["content-type"]) == ("POST", '{"a":1}', "application/json")

    sent = await told(address, body="a=1", method="put", headers={"Content-Type": "text/plain"})
    assert (sent["method"], sent["body"], sent["headers"]["content-type"]) == ("PUT", "a=1", "text/plain")


async def test_http_logs_in(address: str) -> None:
    """The request has the name and the password, of which either may be missing."""
    sent = await told(address, username="ada", password="open:sesame")
    assert sent["headers"]["authorization"] == "Basic YWRhOm9wZW46c2VzYW1l"


async def test_http_sends_a_file(address: str) -> None:
    """A file is sent as a form."""
    sent = await told(address, file_name="score.txt", file_content="da capo", file_content_type="text/plain")
    assert sent["method"] == "POST"
    assert sent["headers"]["content-type"].startswith("multipart/form-data")
    assert 'filename="score.txt"' in sent["body"]
    assert "da capo" in sent["body"]


@pytest.mark.parametrize(("status", "well"), [(206, True), (207, False), (302, False), (404, False), (500, False)])
async def test_http_fails_with_the_answer(address: str, status: int, well: bool) -> None:
    """A status outside of 200 to 206 is a failure with the answer of the server."""
    if well:
        assert (await sending.request(address, params={"status": status}))["status_code"] == status
        return
    with pytest.raises(ActionFailed, match=f"^HTTP {status}") as failure:
        await sending.request(address, params={"status": status, "text": '"no"'})

    assert isinstance(failure.value.result, Mapping)
    assert (failure.value.result["status_code"], failure.value.result["body"]) == (status, "no")


@pytest.mark.parametrize(
    ("given", "well"),
    [
        ({"url_hosts_blacklist": ["127.0.0.1"]}, False),
        ({"url_hosts_blacklist": ["example.com"]}, True),
        ({"url_hosts_whitelist": ["example.com"]}, False),
        ({"url_hosts_whitelist": ["127.0.0.1"]}, True),
        ({"url_hosts_whitelist": ["127.0.0.1"], "url_hosts_blacklist": ["127.0.0.2"]}, False),
    ],
)
async def test_http_keeps_to_lists_of_hosts(address: str, given: dict[str, Any], well: bool) -> None:
    """A list names the refused hosts, or the only allowed ones."""
    if well:
        assert (await sending.request(address, **given))["status_code"] == 200
    else:
        with pytest.raises(ActionFailed, match=r"not allowed here|only one of"):
            await sending.request(address, **given)


# core.sendmail


class Mailbox:
    """A mail server that keeps its mails."""

    def __init__(self) -> None:
        self.address = ""
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        """Keep a mail."""
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    """Provide a server that accepts mail from every sender."""
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box), "127.0.0.1", 0)
    box.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield box
    server.close()
    await server.wait_closed()


async def test_a_mail_is_sent(mailbox: Mailbox) -> None:
    """The mail has its content type and its attachments."""
    result = await sending.send_mail(
        "ada@example.com, bob@example.com",
        "Da capo",
        "<b>Again</b>",
        from_="score@example.com",
        attachments=[{"name": "a.txt", "content": "Ä"}, {"name": "b.bin", "base64": "AAE="}],
        smtp_server=mailbox.address,
    )

    sent_to = "ada@example.com, bob@example.com"
    assert result == {**WELL, "stdout": f"Successfully sent mail to {sent_to}", "stderr": ""}
    (envelope,) = mailbox.envelopes
    assert envelope.rcpt_tos == sent_to.split(", ")
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert (message["From"], message["To"], message["Subject"]) == ("score@example.com", sent_to, "Da capo")
    assert isinstance(message, EmailMessage)
    body = message.get_body()
    assert body is not None
    assert (body.get_content_type(), body.get_content().strip()) == ("text/html", "<b>Again</b>")
    attached = {each.get_filename(): each.get_content() for each in message.iter_attachments()}
    assert attached == {"a.txt": "Ä".encode(), "b.bin": b"\0\1"}


async def test_an_empty_mail_is_sent_if_wanted(mailbox: Mailbox) -> None:
    """An empty mail is sent by default, or not, which is a success; a sender without a host has this machine's."""
    given: dict[str, Any] = {"to": "ada@example.com", "subject": "s", "body": " ", "smtp_server": mailbox.address}
    assert (await sending.send_mail(**given, send_empty_body=False))["succeeded"] is True
    assert mailbox.envelopes == []

    await sending.send_mail(**given, content_type="text/plain")
    (envelope,) = mailbox.envelopes
    assert envelope.mail_from is not None
    assert envelope.mail_from.startswith("dalsegno@")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"content_type": "image/png"}, "content_type is text/plain or text/html"),
        ({"attachments": ["/etc/passwd"]}, "an attachment is an object"),
        ({"subject": "a\nBcc: eve@example.com"}, "linefeed|newline"),
    ],
)
async def test_a_mail_that_cannot_be_is_told(mailbox: Mailbox, given: dict[str, Any], told: str) -> None:
    """A wrong mail is refused, also one with a missing file or with a line break in a header."""
    mail = {"to": "ada@example.com", "subject": "s", "body": "b", "smtp_server": mailbox.address, **given}
    with pytest.raises(ActionFailed, match=told):
        await sending.send_mail(**mail)
    assert mailbox.envelopes == []
