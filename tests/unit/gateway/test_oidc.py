"""Logins at an issuer: the code flow from its beginning to its session, and attacks on it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio
from tests.issuing import TestIssuer, forged, signing_key, write_issuers
from tests.openid import CLIENT, SECRET, Browser, Page, browser_at, openid_issuer
from tests.unit.gateway.conftest import Site

from dalsegno.gateway import oidc, sessions
from dalsegno.gateway.oidc import LoginFailed, Oidc
from dalsegno.gateway.provider import Provider
from dalsegno.gateway.settings import read_settings

GET = "ExecutionService/GetExecution"
BACK = {"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"}
"""How a browser that the issuer leads back asks."""


def _provider(site: Site, **more: Any) -> Provider:
    (site.folder / "secret").write_text(f"{SECRET}\n")
    given = {"issuer": site.issuer.url, "client_id": CLIENT, "secret_file": str(site.folder / "secret")}
    return Provider(**given | {"scopes": ("groups",)} | more)


@pytest_asyncio.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    """Provide a browser at a gateway where people log in at the issuer."""
    async with site.gateway(oidc=_provider(site)) as made:
        yield made


async def _begin(browser: Browser, next_path: str = "/") -> str:
    """Return the address of the issuer to which a login leads."""
    page = await browser.get(f"/login/oidc?next={next_path}")
    assert page.status == 303, page.text
    return str(page.headers["location"])


async def _come_back(site: Site, browser: Browser, **how: Any) -> Page:
    return await browser.get(site.issuer.authorize(await _begin(browser), **how), **BACK)


async def _code(site: Site, browser: Browser) -> int:
    return (await browser.call(GET, {"executionId": site.execution_id})).status


async def test_a_person_logs_in_at_the_issuer(site: Site, browser: Browser) -> None:
    """The way there has a challenge, and a cookie that comes back from it; the session has the roles that the apis give
    to the claims of the id token, and the page goes on to the path where the login began."""
    page = await browser.get("/login?next=/a?b%26c")
    assert 'href="/login/oidc?next=/a%3Fb%26c"' in page.text
    address = await _begin(browser, "/a?b%26c")
    asked = dict(parse_qsl(urlsplit(address).query))
    assert asked["redirect_uri"] == f"{browser.url}/login/callback"
    (kept,) = browser.cookies.values()
    assert not any(asked[name] in kept for name in ("state", "nonce", "code_challenge"))
    page = await browser.get(site.issuer.authorize(address), **BACK)
    assert (page.status, '<meta http-equiv="refresh" content="0; url=/a?b&amp;c">' in page.text) == (200, True)
    assert "HttpOnly; SameSite=Strict" in page.cookies["dalsegno"]
    assert page.cookies["dalsegno-login"].endswith("Max-Age=0; HttpOnly; SameSite=Lax")
    assert list(browser.cookies) == ["dalsegno"]
    assert await _code(site, browser) == 200
    assert (await browser.call("AccessService/ListTokens", {})).status == 403


async def test_a_session_ends_with_the_id_token(site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """When that expires, the cookie is worth nothing, here and at the apis."""
    site.issuer.claims = {"exp": int(time.time()) + 300}
    page = await _come_back(site, browser)
    lasts_s = re.search(r"Max-Age=(\d+)", page.cookies["dalsegno"])
    assert lasts_s is not None
    assert 290 < int(lasts_s[1]) <= 300
    assert await _code(site, browser) == 200
    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: time.time() + 310))
    assert await _code(site, browser) == 401


NOT_BEGUN = "this browser has begun no login, or too long ago"
OTHER = "it is not the login that this browser has begun last"


async def test_another_browser_does_not_finish_a_login(site: Site, browser: Browser) -> None:
    """Who is led to the callback of an attacker's login does not become the attacker (login CSRF), with a login of
    their own under way or without."""
    attack = site.issuer.authorize(await _begin(browser))
    async with browser_at(browser.url) as victim:
        page = await victim.get(attack, **BACK)
        assert (page.status, NOT_BEGUN in page.text) == (403, True)
        await _begin(victim)
        page = await victim.get(attack, **BACK)
        assert (page.status, OTHER in page.text, "dalsegno" in victim.cookies) == (403, True, False)
    assert site.issuer.count == 0


async def test_a_wrong_or_missing_state_is_refused(site: Site, browser: Browser) -> None:
    """Before the issuer is asked for anything; so are answers of others, and those that say why not, as text."""
    for state in ("other", "é"):
        page = await _come_back(site, browser, state=state)
        assert (page.status, OTHER in page.text) == (403, True)
    for query, told in (
        ("code=x", OTHER),
        ("state={state}", "has sent no code"),
        ("state={state}&code=x&iss=https://evil.example.com", "another issuer has answered"),
        ("state={state}&error=access_denied&error_description=<b>no</b>", "says: access_denied &lt;b&gt;no&lt;/b&gt;"),
    ):
        state = dict(parse_qsl(urlsplit(await _begin(browser)).query))["state"]
        page = await browser.get(f"/login/callback?{query.format(state=state)}")
        assert (page.status, told in page.text, browser.cookies) == (403, True, {})
    assert site.issuer.count == 0


async def test_an_answer_counts_once(site: Site, browser: Browser) -> None:
    """A callback that is repeated, with the cookie that the browser had, begins no second session; nor does its code in
    another login."""
    address = site.issuer.authorize(await _begin(browser))
    kept = dict(browser.cookies)
    assert (await browser.get(address, **BACK)).status == 200
    browser.cookies = kept
    page = await browser.get(address, **BACK)
    assert (page.status, "this login was finished before" in page.text) == (403, True)
    assert list(page.cookies) == ["dalsegno-login"]
    state = dict(parse_qsl(urlsplit(await _begin(browser)).query))["state"]
    used = dict(parse_qsl(urlsplit(address).query))["code"]
    page = await browser.get(f"/login/callback?code={used}&state={state}")
    assert (page.status, "gives no token for the code" in page.text) == (403, True)
    assert await _code(site, browser) == 401


async def test_the_code_of_another_login_is_worth_nothing(site: Site, browser: Browser) -> None:
    """A code that was taken from another browser does not fit the verifier of this one."""
    async with browser_at(browser.url) as victim:
        stolen = dict(parse_qsl(urlsplit(site.issuer.authorize(await _begin(victim))).query))["code"]
    state = dict(parse_qsl(urlsplit(await _begin(browser)).query))["state"]
    page = await browser.get(f"/login/callback?code={stolen}&state={state}")
    assert (page.status, "gives no token for the code" in page.text, browser.cookies) == (403, True, {})


CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong nonce": ({"nonce": "other"}, "it is for another login (nonce)"),
    "no nonce": ({"nonce": None}, "it is for another login (nonce)"),
    "another audience": ({"aud": "billing"}, f"its audience (aud) is none of {CLIENT}"),
    "another client": ({"aud": [CLIENT, "billing"], "azp": "billing"}, "it is for another client (azp)"),
    "another issuer": ({"iss": "https://evil.example.com"}, "another issuer has made it"),
    "expired": ({"exp": 1_600_000_000}, "it has expired (exp)"),
    "not yet": ({"nbf": 4_000_000_000}, "it is not valid yet"),
    "no subject": ({"sub": ""}, "its subject (sub) is empty"),
}


async def test_an_id_token_for_something_else_is_refused(site: Site, browser: Browser) -> None:
    """It is for this client, this login and this time, or it begins no session."""
    for name, (claims, told) in CLAIMS.items():
        site.issuer.claims = claims
        page = await _come_back(site, browser)
        assert (page.status, told in page.text, browser.cookies) == (403, True, {}), name


async def test_a_forged_id_token_is_refused(site: Site, browser: Browser) -> None:
    """Unsigned, signed by somebody else, by a key that the issuer does not have, or no token at all."""
    own = site.issuer.of_tokens
    claims = {"iss": own.url, "sub": "root", "aud": CLIENT, "exp": time.time() + 600}
    stranger = TestIssuer(url=own.url, key=signing_key("stranger"))
    for token, told in (
        (forged({"alg": "none"}, claims), "it is signed by &#x27;none&#x27;"),
        (forged({"alg": "HS256", "kid": "one"}, claims, b"x" * 32), "it is signed by &#x27;HS256&#x27;"),
        (stranger.token(aud=CLIENT), "which &#x27;127.0.0.1"),
        (stranger.token(aud=CLIENT, headers={"kid": "one"}), "its signature is not by the key"),
        ("not.a.token", "it cannot be read"),
        ("x" * 9000, "8192 are the most"),
    ):
        site.issuer.token = token
        page = await _come_back(site, browser)
        assert (page.status, told in page.text, browser.cookies) == (403, True, {}), page.text


async def test_an_id_token_that_the_apis_do_not_take_begins_no_session(site: Site, browser: Browser) -> None:
    """The apis decide: where their file of issuers names another audience, the person is told."""
    entry = site.issuer.of_tokens.entry("keys.json")
    write_issuers(site.folder / "issuers.yaml", entry)
    async with asyncio.timeout(40):
        while (page := await _come_back(site, browser)).status == 200:
            browser.cookies = {}
    assert (page.status, "its audience (aud) is none of dalsegno" in page.text) == (403, True)


async def test_a_login_at_the_issuer_leads_nowhere_else(site: Site, browser: Browser) -> None:
    """What the link says of another place is left out: the browser stays at the gateway (no open redirect)."""
    for path in ("//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "/%0d%0aevil:y"):
        page = await browser.get(site.issuer.authorize(await _begin(browser, path)))
        assert (page.status, "evil" in page.text, 'url=/login"' in page.text) == (200, False, True)


DOCUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"issuer": "https://evil.example.com"}, "it says that it is 'https://evil.example.com'"),
    ({"token_endpoint": "http://evil.example.com/token"}, "its token_endpoint is in plain text"),
    ({"jwks_uri": "file:///etc/passwd"}, "its jwks_uri is no URL"),
    ({"authorization_endpoint": "javascript:alert(1)"}, "its authorization_endpoint is no URL"),
    ({"code_challenge_methods_supported": ["plain"]}, "it does not take PKCE with S256"),
    ({"token_endpoint": 5}, "Expected `str`, got `int`"),
    ({"more": "x" * 300_000}, "has more than 262144 bytes"),
]


async def test_an_issuer_that_publishes_nonsense_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is told what is wrong with it, and it is not asked again at once."""
    monkeypatch.setattr(oidc, "AGAIN_S", 3600.0)
    async with openid_issuer() as issuer:
        for document, told in DOCUMENTS:
            issuer.document = document
            login = Oidc(Provider(issuer.url, CLIENT))
            with pytest.raises(LoginFailed, match=re.escape(told)):
                await login.begin("/", "http://localhost")
            issuer.document = {}
            with pytest.raises(LoginFailed, match="could not be asked a moment ago"):
                await login.begin("/", "http://localhost")


async def test_what_an_issuer_published_before_stays_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it cannot be read again, people go on logging in, and nobody waits for another try; later it is read."""
    monkeypatch.setattr(oidc, "AGAIN_S", 3600.0)
    async with openid_issuer() as issuer:
        login = Oidc(Provider(issuer.url, CLIENT))
        address, _ = await login.begin("/", "http://localhost")
        assert address.startswith(f"{issuer.url}/authorize?")
        monkeypatch.setattr(oidc, "DOCUMENT_S", 0.0)
        issuer.document = {"issuer": "https://evil.example.com"}
        assert (await login.begin("/", "http://localhost"))[0].startswith(f"{issuer.url}/authorize?")
        issuer.document = {"authorization_endpoint": f"{issuer.url}/other?a=b"}
        assert (await login.begin("/", "http://localhost"))[0].startswith(f"{issuer.url}/authorize?")
        monkeypatch.setattr(oidc, "AGAIN_S", 0.0)
        assert (await login.begin("/", "http://localhost"))[0].startswith(f"{issuer.url}/other?a=b&response_type=code")


def test_the_options_are_checked_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not fit together is told before anything starts; variables count as options do."""
    (tmp_path / "empty").write_text("\n")
    auth, at = ["--auth", "tokens"], ["--oidc-issuer", "https://sso.example.com"]
    for arguments, told in (
        (at, "logins need --auth tokens"),
        (["--session-key-file", "/none"], "logins need --auth tokens"),
        ([*auth, "--session-key-file", "/none"], "--session-key-file /none: it cannot be read"),
        ([*auth, "--oidc-client-id", "web"], "--oidc-client-id needs --oidc-issuer"),
        ([*auth, *at], "--oidc-issuer needs --oidc-client-id"),
        ([*auth, "--oidc-issuer", "http://sso.example.com", "--oidc-client-id", "web"], "is in plain text"),
        ([*auth, *at, "--oidc-client-id", "web", "--oidc-client-secret-file", f"{tmp_path}/empty"], "it is empty"),
        ([*auth, *at, "--oidc-client-id", "web", "--oidc-client-secret-file", "/none"], "it cannot be read"),
        ([*auth, *at, "--oidc-client-id", "web", "--oidc-ca", "/none"], "no certificate of an authority can be read"),
        (["--public-origin", "flows.example.com"], "it is no origin such as https://flows.example.com"),
        (["--public-origin", "https://flows.example.com/path"], "it is no origin"),
    ):
        with pytest.raises(SystemExit):
            read_settings(arguments, {})
        assert told in " ".join(capsys.readouterr().err.split()), arguments
    environment = {
        "DALSEGNO_AUTH": "tokens",
        "DALSEGNO_GATEWAY_OIDC_ISSUER": "https://sso.example.com",
        "DALSEGNO_GATEWAY_OIDC_CLIENT_ID": "web",
        "DALSEGNO_GATEWAY_OIDC_SCOPES": "groups,email",
        "DALSEGNO_GATEWAY_PUBLIC_ORIGIN": "https://Flows.example.com/",
    }
    found = read_settings([], environment)
    assert found.oidc == Provider("https://sso.example.com", "web", scopes=("groups", "email"))
    assert (found.public_origin, found.cipher) == ("https://flows.example.com", None)
