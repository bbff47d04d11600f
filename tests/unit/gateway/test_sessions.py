"""Sessions: how long they last, which requests may use them, and where a login leads."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest
from tests.issuing import TestIssuer

from dalsegno.access.bearer import new_token
from dalsegno.gateway import sessions as module
from dalsegno.gateway.cookie_cipher import CookieCipher
from dalsegno.gateway.login import path_of
from dalsegno.gateway.sessions import RENEW_S, SESSION_S, UNUSED_S, Asked, Sessions, TooLong, foreign, unprotected

OWN = "https://flows.example.com"
ASKED = Asked(OWN, "flows.example.com", True, OWN, "", "")
TOKEN = new_token()


def _with(told: tuple[str, str]) -> Asked:
    """Return a request with the cookie that a header gave."""
    return Asked(OWN, "flows.example.com", True, OWN, "", told[1].partition(";")[0])


class Clock:
    """A clock that the test moves."""

    now_s = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Provide the clock by which sessions end."""
    made = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: made.now_s))
    return made


def test_a_cookie_is_for_the_gateway_only() -> None:
    """Scripts do not see it, other sites do not have it sent, it needs TLS, and its text says nothing; on a loopback
    address without TLS it is sent without."""
    sessions = Sessions(CookieCipher())
    session, (name, value) = sessions.begin(TOKEN, ASKED)
    assert name == "set-cookie"
    assert value.startswith("__Host-dalsegno=")
    assert value.endswith(f"; Path=/; Max-Age={int(UNUSED_S)}; HttpOnly; SameSite=Strict; Secure")
    assert TOKEN not in value
    assert session.token == TOKEN
    plain = Asked("http://localhost:7702", "localhost", True, "", "", "")
    _, (_, value) = sessions.begin(TOKEN, plain)
    assert value.startswith("dalsegno=")
    assert value.endswith("; HttpOnly; SameSite=Strict")


def test_a_session_ends(clock: Clock) -> None:
    """When its token expires, when its cookie was not used, when its time is over, when somebody logs out."""
    sessions, issuer = Sessions(CookieCipher()), TestIssuer()
    _, told = sessions.begin(TOKEN, ASKED)
    clock.now_s += UNUSED_S - 1
    assert sessions.find(_with(told)) is not None
    clock.now_s += 1
    assert sessions.find(_with(told)) is None
    _, told = sessions.begin(issuer.token(exp=clock.now_s + 60), ASKED)
    assert "; Max-Age=60;" in told[1]
    assert sessions.find(_with(told)) is not None
    clock.now_s += 60
    assert sessions.find(_with(told)) is None
    session, told = sessions.begin(TOKEN, ASKED)
    _, others = sessions.begin(TOKEN, ASKED)
    sessions.end(session)
    assert sessions.find(_with(told)) is None
    assert sessions.find(_with(others)) is not None


def test_a_used_cookie_is_replaced(clock: Clock) -> None:
    """A new one comes when it is five minutes old, and each is valid for its time; none outlasts the session."""
    sessions = Sessions(CookieCipher())
    session, told = sessions.begin(TOKEN, ASKED)
    assert sessions.renewed(session, ASKED) == ()
    seen = {told[1]}
    began_s = clock.now_s
    while clock.now_s < began_s + SESSION_S:
        found = sessions.find(_with(told))
        assert found is not None
        clock.now_s += RENEW_S
        (told,) = sessions.renewed(found, ASKED)
        seen.add(told[1])
    assert len(seen) > 100
    assert sessions.find(_with(told)) is None


def test_of_two_cookies_none_counts() -> None:
    """On a loopback address another program of the machine may have set one: it cannot choose whose session it is."""
    sessions = Sessions(CookieCipher())
    one, other = (sessions.begin(TOKEN, ASKED)[1] for _ in range(2))
    both = f"{_with(one).cookies}; {_with(other).cookies}"
    assert sessions.find(Asked(OWN, "flows.example.com", True, OWN, "", both)) is None


def test_a_token_that_does_not_fit_is_refused() -> None:
    """Browsers would leave out a longer cookie without a word."""
    issuer, sessions = TestIssuer(), Sessions(CookieCipher())
    groups = [secrets.token_hex(16) for _ in range(150)]
    _, told = sessions.begin(issuer.token(groups=groups[:60]), ASKED)
    assert 2000 < len(told[1]) < 4096
    with pytest.raises(TooLong, match="let its issuer put fewer claims into it"):
        sessions.begin(issuer.token(groups=groups), ASKED)


@pytest.mark.parametrize(
    ("is_write", "origin", "site", "may"),
    [
        (True, OWN, "", True),
        (True, OWN, "same-origin", True),
        (True, "", "same-origin", True),
        (True, "", "", False),
        (True, "null", "", False),
        (True, "https://evil.example.com", "same-origin", False),
        (True, "https://app.flows.example.com", "", False),
        (True, "http://flows.example.com", "", False),
        (True, f"{OWN}:8443", "", False),
        (True, "", "same-site", False),
        (True, "", "cross-site", False),
        (True, "", "none", False),
        (False, "", "", True),
        (False, "", "none", True),
        (False, "", "same-origin", True),
        (False, "", "same-site", False),
        (False, "", "cross-site", False),
        (False, "https://evil.example.com", "", False),
    ],
)
def test_only_pages_of_the_gateway_use_a_session(is_write: bool, origin: str, site: str, may: bool) -> None:
    """A write shows that a page of the same origin sends it; a read is not one of another's page."""
    asked = Asked(OWN, "flows.example.com", is_write, origin, site, "")
    assert (not foreign(asked, needs_origin=is_write)) is may


def test_a_network_without_tls_has_no_sessions() -> None:
    """Cookies go over TLS, or to the machine itself."""
    for own, host, may in (
        (OWN, "flows.example.com", True),
        ("http://flows.example.com", "flows.example.com", False),
        ("http://10.0.0.7:7702", "10.0.0.7", False),
        ("http://127.0.0.1:7702", "127.0.0.1", True),
        ("http://localhost:7702", "localhost", True),
    ):
        assert (not unprotected(Asked(own, host, True, "", "", ""))) is may


@pytest.mark.parametrize(
    "text",
    [
        *(
            "//evil.example.com",
            "///evil.example.com",
            "/\\evil.example.com",
            "\\\\evil.example.com",
            "\\/evil.example",
        ),
        *("https://evil.example.com", "https:evil.example.com", "javascript:alert(1)", "evil.example.com", "", "."),
        *("/\t/evil.example.com", "/\n/evil.example.com", " //evil.example.com", "/ok\r\nset-cookie: a=b", "/é"),
    ],
)
def test_a_login_leads_nowhere_else(text: str) -> None:
    """Whatever a link says, a browser stays at this gateway."""
    assert path_of(text) == ""


def test_a_login_leads_to_a_path() -> None:
    """A path with its query is taken as it is."""
    for text in ("/", "/openapi.json", "/a/b?c=d&e=//f#g"):
        assert path_of(text) == text
