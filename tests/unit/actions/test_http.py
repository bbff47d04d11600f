"""std.http and std.mistral_http with a server of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from dalsegno.actions.action import DELEGATED, ActionContext, ActionFailed
from dalsegno.actions.http import Http, Response, close
from dalsegno.outgoing.reach import EVERYWHERE

http = Http(EVERYWHERE)


async def answer(request: web.Request) -> web.StreamResponse:
    """Return what the path names; by default a description of the request."""
    match request.path:
        case "/text":
            return web.Response(text="plain, not JSON", headers={"X-Twice": "1"})
        case "/status":
            return web.json_response({"why": "no paper"}, status=int(request.query["code"]))
        case "/moved":
            return web.Response(status=302, headers={"Location": "/text"})
        case "/large":
            return web.Response(text="x" * (4 * 1024 * 1024 + 1))
        case "/latin":
            return web.Response(body="Ærø".encode("latin-1"), headers={"Content-Type": "text/plain"})
        case "/slow":
            await asyncio.sleep(5)
    response = web.json_response(
        {
            "method": request.method,
            "query": sorted(request.query.items()),
            "body": await request.text(),
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "cookies": dict(request.cookies),
        }
    )
    response.set_cookie("crumb", "fresh")
    return response


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Provide the URL of the server."""
    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await close()
    await runner.cleanup()


@pytest.mark.parametrize("params", [{"q": "a/b & [ü]=+%"}, "q=a%2Fb+%26+%5B%C3%BC%5D%3D%2B%25"])
async def test_parameters_arrive_as_they_were_meant(address: str, params: object) -> None:
    """Parameters may have any characters, and are added to those of the URL."""
    result = await http.request(f"{address}/where?first=1%2B1", params=params)

    assert isinstance(result["content"], dict)
    assert result["content"]["query"] == [["first", "1+1"], ["q", "a/b & [ü]=+%"]]


async def test_the_result_is_mistrals(address: str) -> None:
    """The result has content (parsed if JSON), status, reason, encoding, headers, cookies, url and elapsed."""
    result = await http.request(f"{address}/where", params={"a": [1, 2], "b": None, "c": True})

    assert (result["status"], result["reason"], result["encoding"]) == (200, "OK", "utf-8")
    assert result["url"] == f"{address}/where?a=1&a=2&c=True"
    assert result["cookies"] == {"crumb": "fresh"}
    assert isinstance(result["elapsed"], float)
    assert isinstance(result["headers"], dict)
    assert result["headers"]["Content-Type"] == "application/json; charset=utf-8"
    content = result["content"]
    assert isinstance(content, dict)
    assert (content["method"], content["body"]) == ("GET", "")
    assert content["query"] == [["a", "1"], ["a", "2"], ["c", "True"]]
    json.dumps(result)


async def test_a_text_stays_a_text(address: str) -> None:
    """A text has its characters in every encoding."""
    assert (await http.request(f"{address}/text"))["content"] == "plain, not JSON"
    latin = await http.request(f"{address}/latin")
    assert (latin["content"], latin["encoding"]) == ("Ærø", "iso-8859-1")


async def test_what_is_sent(address: str) -> None:
    """A dict as body is sent as JSON text, json with its content type; headers, cookies and auth as given."""
    url = f"{address}/x"
    by_body = await http.request(url, "post", body={"n": 2**70}, headers={"X-Number": 5, "X-None": None})
    by_json = await http.request(url, "PUT", json=[1], cookies={"crumb": "old"}, auth="user:pass:word")
    by_text = await http.request(url, "POST", body="Ærø")

    seen = by_body["content"]
    assert isinstance(seen, dict)
    assert (seen["method"], json.loads(seen["body"])) == ("POST", {"n": 2**70})
    assert seen["headers"]["x-number"] == "5"
    assert not {"x-none", "content-type"} & seen["headers"].keys()
    seen = by_json["content"]
    assert isinstance(seen, dict)
    assert (seen["method"], seen["body"], seen["cookies"]) == ("PUT", "[1]", {"crumb": "old"})
    assert seen["headers"]["content-type"] == "application/json"
    assert seen["headers"]["authorization"] == "Basic dXNlcjpwYXNzOndvcmQ="
    seen = by_text["content"]
    assert isinstance(seen, dict)
    assert seen["body"] == "Ærø"


async def test_cookies_of_one_call_are_not_those_of_the_next(address: str) -> None:
    """A cookie of one call is not sent with another call."""
    await http.request(f"{address}/x")
    content = (await http.request(f"{address}/x"))["content"]

    assert isinstance(content, dict)
    assert content["cookies"] == {}


@pytest.mark.parametrize("code", [200, 204, 304, 306])
async def test_a_success_is_what_mistral_takes_for_one(address: str, code: int) -> None:
    """Status codes from 200 to 306."""
    assert (await http.request(f"{address}/status?code={code}"))["status"] == code


@pytest.mark.parametrize("code", [307, 404, 500])
async def test_any_other_status_is_a_failure_with_the_result(address: str, code: int) -> None:
    """A failure has the data of a success, so that a workflow can read it."""
    with pytest.raises(ActionFailed, match=f"^HTTP {code}") as failure:
        await http.request(f"{address}/status?code={code}")

    result = failure.value.result
    assert isinstance(result, dict)
    assert (result["status"], result["content"]) == (code, {"why": "no paper"})


async def test_redirects_are_followed_only_when_asked(address: str) -> None:
    """As in Mistral, no redirect is followed by default."""
    assert (await http.request(f"{address}/moved"))["status"] == 302
    followed = await http.request(f"{address}/moved", allow_redirects=True)
    assert (followed["content"], followed["history"]) == ("plain, not JSON", [f"{address}/moved"])


async def test_a_response_that_no_result_can_hold_is_a_failure(address: str) -> None:
    """The action stops at the limit of a response."""
    with pytest.raises(ActionFailed, match=r"^result too large: the response has more than 4,000,000 bytes$"):
        await http.request(f"{address}/large")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "ftp://files.example.com/", "nonsense", "http://", "http://[", ""]
)
async def test_a_request_that_cannot_be_sent_is_a_failure(address: str, url: str) -> None:
    """The failure has Mistral's text and the reason."""
    with pytest.raises(ActionFailed, match=r"^Failed to send HTTP request: ."):
        await http.request(url)


async def test_the_time_limit_is_in_seconds(address: str) -> None:
    """The action fails after its time limit in seconds."""
    with pytest.raises(ActionFailed, match=r"^Failed to send HTTP request: "):
        await http.request(f"{address}/slow", timeout=0.05)


async def test_body_and_json_exclude_each_other(address: str) -> None:
    """As in Mistral, body and json exclude each other."""
    with pytest.raises(ActionFailed, match="Only one of the parameters"):
        await http.request(address, body="a", json="b")


async def test_mistral_http_says_who_asks_and_is_completed_later(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gets what it needs to complete the action; a failed request fails the action at once."""
    seen: list[object] = []
    sent = http.exchange

    async def listen(*arguments: Any, **named: Any) -> Response:
        response = await sent(*arguments, **named)
        seen.append(json.loads(response.text))
        return response

    monkeypatch.setattr(http, "exchange", listen)
    context = ActionContext(
        "e.4.0.1", execution_id="e", workflow="report", task_name="ask", task_number=4, task_token="token-of-it"
    )

    assert await http.request_and_delegate(context, f"{address}/ask", "POST") is DELEGATED

    (content,) = seen
    assert isinstance(content, dict)
    told = {name: value for name, value in content["headers"].items() if name.startswith(("mistral", "dalsegno"))}
    assert told == {
        "mistral-workflow-name": "report",
        "mistral-workflow-execution-id": "e",
        "mistral-task-id": "e.4",
        "mistral-action-execution-id": "e.4.0.1",
        "dalsegno-task-token": "token-of-it",
    }
    with pytest.raises(ActionFailed, match=r"^HTTP 500"):
        await http.request_and_delegate(context, f"{address}/status?code=500")
