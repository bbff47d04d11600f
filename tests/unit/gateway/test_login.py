"""Browsers that log in with a token: their session, which requests may use it, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import make_certificate
from tests.openid import browser_at
from tests.unit.api.guarded import add_token
from tests.unit.api.test_access import SOON_S, WAITS_S
from tests.unit.gateway.conftest import Site
from tests.unit.gateway.test_cookie_cipher import new_key

from dalsegno.access.bearer import hash_of, id_of
from dalsegno.gateway import sessions
from dalsegno.gateway.cookie_cipher import CookieCipher
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.credentials import ServerTls
from dalsegno.rpc.links import Links
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import execution_service_pb2_grpc

GET, PAUSE = "ExecutionService/GetExecution", "ExecutionService/PauseExecution"


def _about(site: Site) -> dict[str, str]:
    return {"executionId": site.execution_id}


async def test_a_token_becomes_a_session(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """By JSON or by the form, whose page has no script and cannot be framed; the session may do what the token may.
    After the logout its cookie does nothing, also where somebody has copied it; no log has the token."""
    token = add_token(site.system.store, "anna", "operator@team-a")
    with caplog.at_level(logging.INFO):
        async with site.gateway() as browser:
            page = await browser.get("/login?next=/openapi.json")
            assert (page.status, 'name="next" value="/openapi.json"' in page.text) == (200, True)
            assert page.headers["content-security-policy"].startswith("default-src 'none'; form-action 'self'; frame-")
            assert (page.headers["x-frame-options"], page.headers["cache-control"]) == ("DENY", "no-store")
            assert (await browser.call(GET, _about(site))).status == 401
            page = await browser.post("/login", form={"token": token, "next": "/openapi.json"})
            assert (page.status, page.headers["location"]) == (303, "/openapi.json")
            assert "HttpOnly; SameSite=Strict" in page.cookies["dalsegno"]
            assert (await browser.call(PAUSE, _about(site))).status == 200
            assert (await browser.call("AccessService/ListTokens", {})).status == 403
            assert "You are logged in" in (await browser.get("/login")).text
            copied = dict(browser.cookies)
            page = await browser.post("/logout", form={})
            assert (page.status, page.headers["location"], browser.cookies) == (303, "/login", {})
            browser.cookies = copied
            assert (await browser.call(GET, _about(site))).status == 401
            page = await browser.post("/login", {"token": token}, origin="")
            assert (page.status, list(json.loads(page.text))) == (200, ["endsAt"])
            assert (await browser.call(GET, _about(site))).status == 200
            assert (await browser.post("/logout", {})).status == 200
    lines = [vars(each) for each in caplog.records if each.name == "dalsegno.audit" and "Sessions/" in each.message]
    assert [each["message"] for each in lines] == ["Sessions/Login", "Sessions/Logout"] * 2
    assert {each["token"] for each in lines} == {id_of(hash_of(token))}
    assert token not in caplog.text + str([vars(each) for each in caplog.records])


async def test_what_is_no_token_begins_no_session(site: Site) -> None:
    """Neither a text of another form, nor an unknown or a revoked token, nor a foreign JWT; the form says why, without
    the text."""
    revoked = add_token(site.system.store, "gone", "viewer")
    with site.system.store.write() as transaction:
        transaction.revoke_token(id_of(hash_of(revoked)), time.time())
    async with site.gateway() as browser:
        for token, told in (
            ("", "has not the form of a token"),
            ("<b>x</b>", "has not the form of a token"),
            (f"dst_{'A' * 43}", "the token is unknown"),
            (revoked, "was revoked"),
            (site.issuer.of_tokens.token(aud="billing"), "its audience (aud) is none of"),
        ):
            page = await browser.post("/login", {"token": token})
            assert (page.status, told in json.loads(page.text)["message"], page.cookies) == (401, True, {})
            page = await browser.post("/login", form={"token": token, "next": "//evil.example.com"})
            assert (page.status, told in page.text, "evil" in page.text, page.cookies) == (401, True, False, {})
            assert not token or token not in page.text
        unfit: list[Any] = [[], "x", {"token": 5}, {"token": None}]
        for body in unfit:
            assert (await browser.post("/login", body)).status == 401
        assert (await browser.get("/logout")).status == 405
        assert (await browser.get("/login/oidc")).status == 404


async def test_a_session_ends_with_its_token(site: Site) -> None:
    """Within 5 s of the revocation its cookie is worth nothing, though it is as it was, and what it watches ends."""
    token = add_token(site.system.store, "anna", "viewer")
    async with site.gateway() as browser:
        await browser.post("/login", {"token": token})
        assert (await browser.call(GET, _about(site))).status == 200
        watching = browser.watch(site.execution_id)
        assert "error" not in json.loads(await anext(watching))
        with site.system.store.write() as transaction:
            transaction.revoke_token(id_of(hash_of(token)), time.time())
        began_s = time.monotonic()
        async with asyncio.timeout(WAITS_S):
            *_, last = [message async for message in watching]
        assert time.monotonic() - began_s < SOON_S
        told = json.loads(last)["error"]
        assert (told["code"], "was revoked" in told["message"]) == ("unauthenticated", True)
        page = await browser.call(GET, _about(site))
        assert (page.status, "the token was revoked" in page.text) == (401, True)


async def test_pages_of_others_cannot_use_a_session(site: Site) -> None:
    """A write by the cookie needs the origin of the gateway; pages of other origins log nobody in or out either, also
    those that may call the gateway. What shows a token itself is served whatever its cookie is."""
    token = add_token(site.system.store, "anna", "operator@team-a")
    evil, app = "https://evil.example.com", "https://app.example.com"
    async with site.gateway(cors_origins=(app,)) as browser:
        for origin in (evil, app, "null"):
            assert (await browser.post("/login", form={"token": token}, origin=origin)).status == 403
            assert (await browser.post("/login", {"token": token}, origin=origin)).status == 403
        assert (await browser.post("/login", form={"token": token}, origin="")).status == 403
        assert browser.cookies == {}
        await browser.post("/login", {"token": token})
        for headers in (
            {"origin": evil},
            {"origin": app},
            {"origin": "null"},
            {"origin": ""},
            {"origin": "", "sec_fetch_site": "same-site"},
            {"origin": "", "sec_fetch_site": "cross-site"},
        ):
            assert (await browser.call(PAUSE, _about(site), **headers)).status == 403, headers
            assert (await browser.post("/logout", form={}, **headers)).status == 403, headers
        read = f"/dalsegno.v1.{GET}?encoding=json&message={json.dumps(_about(site))}"
        assert (await browser.get(read)).status == 200
        assert (await browser.get(read, sec_fetch_site="same-origin")).status == 200
        for site_ in ("same-site", "cross-site"):
            assert (await browser.get(read, sec_fetch_site=site_)).status == 403
        page = await browser.call(GET, _about(site), origin=app, authorization=f"Bearer {token}")
        assert page.status == 200
        assert "access-control-allow-credentials" not in page.headers
        assert (await browser.call(PAUSE, _about(site), origin="", sec_fetch_site="same-origin")).status == 200


async def test_a_cookie_is_nothing_elsewhere(site: Site) -> None:
    """Neither the api nor a webhook takes it, nor another gateway with a key of its own; the api never sees it."""
    token = add_token(site.system.store, "anna", "operator")
    async with site.gateway() as browser, site.gateway() as other:
        await browser.post("/login", {"token": token})
        cookie = other.cookies["dalsegno"] = browser.cookies["dalsegno"]
        assert (await other.call(GET, _about(site))).status == 401
        assert (await browser.post("/hooks/alias/order-1?namespace=team-a", 1)).status == 401
        async with open_channel(f"127.0.0.1:{site.system.api.port}") as channel:
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            for metadata in (("authorization", f"Bearer {cookie}"), ("cookie", f"dalsegno={cookie}")):
                call = stub.GetExecution(
                    executions.GetExecutionRequest(execution_id=site.execution_id), metadata=(metadata,)
                )
                assert (await call.code()).name == "UNAUTHENTICATED"


async def test_gateways_with_one_key_know_each_others_sessions(site: Site, tmp_path: Path) -> None:
    """It goes on at another gateway, and after a restart; a used cookie is replaced on the way."""
    token, file = add_token(site.system.store, "anna", "viewer"), tmp_path / "session-keys"
    file.write_text(new_key())
    async with site.gateway(cipher=CookieCipher(str(file))) as browser:
        await browser.post("/login", {"token": token})
        kept = dict(browser.cookies)
    async with site.gateway(cipher=CookieCipher(str(file))) as browser:
        browser.cookies = dict(kept)
        page = await browser.call(GET, _about(site))
        assert (page.status, page.cookies) == (200, {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sessions, "RENEW_S", 0.0)
            page = await browser.call(GET, _about(site))
        assert (page.status, list(page.cookies)) == (200, ["dalsegno"])
        assert browser.cookies != kept
        assert (await browser.call(GET, _about(site))).status == 200


async def test_over_tls_the_cookie_needs_tls(site: Site, tmp_path: Path) -> None:
    """With TLS it is Secure and set by this host alone, also behind a proxy whose origin the gateway is told; without
    either there are no sessions for other machines."""
    token = add_token(site.system.store, "anna", "viewer")
    pair = make_certificate(tmp_path)
    serves = Links(serves=ServerTls(str(pair.chain), str(pair.key)))
    async with site.gateway(str(pair.authority), tls=serves) as browser:
        page = await browser.post("/login", {"token": token})
        assert page.cookies["__Host-dalsegno"].endswith("; HttpOnly; SameSite=Strict; Secure")
        assert (await browser.call(GET, _about(site))).status == 200
    public = "https://flows.example.com"
    async with site.gateway(public_origin=public) as browser:
        page = await browser.post("/login", {"token": token}, host="flows.example.com", origin=public)
        assert page.cookies["__Host-dalsegno"].endswith("; HttpOnly; SameSite=Strict; Secure")
        assert (await browser.call(GET, _about(site), host="flows.example.com", origin=public)).status == 200
        assert (await browser.call(GET, _about(site))).status == 403
    async with site.gateway(host_names=("flows.example.com",)) as browser:
        origin = "http://flows.example.com"
        page = await browser.post("/login", {"token": token}, host="flows.example.com", origin=origin)
        assert (page.status, "sessions need https" in page.text, page.cookies) == (403, True, {})
        await browser.post("/login", {"token": token})
        page = await browser.call(GET, _about(site), host="flows.example.com", origin=origin)
        assert (page.status, "sessions need https" in page.text) == (403, True)


async def test_where_no_tokens_are_asked_for_nobody_logs_in(site: Site) -> None:
    """A gateway that is not told that the apis ask for tokens says so."""
    async with site.gateway(auth="open") as browser:
        page = await browser.get("/login")
        assert (page.status, "--auth tokens" in page.text) == (404, True)
        async with browser_at(browser.url) as other:
            assert (await other.post("/login", {"token": "x"})).status == 404
