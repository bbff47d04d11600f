"""How a process keeps the keys of issuers: fetched, rotated, withdrawn, and not to be had."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.issuing import KeyServer, TestIssuer, jwks, key_server, rule, set_clock, signing_key, write_issuers
from tests.ports import free_address

from dalsegno.access.grants import Role
from dalsegno.access.issuers import LEEWAY_S, BadIssuers
from dalsegno.rpc import jwt_directory, key_source
from dalsegno.rpc.jwt_directory import IssuerFile, JwtDirectory
from dalsegno.workflow.refusals import Refusal, Unauthenticated, Unavailable

SSO = TestIssuer()
ONE, TWO, THREE = (signing_key(each) for each in ("one", "two", "three"))
WAITS_S = 40.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(jwt_directory, "LOOK_S", 0.02)


@asynccontextmanager
async def kept(directory: JwtDirectory) -> AsyncIterator[JwtDirectory]:
    """Provide a directory that keeps up."""
    keeping = asyncio.create_task(directory.keep_up(lambda: None))
    try:
        yield directory
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


def _directory(folder: Path, keys: str) -> JwtDirectory:
    rules = [rule("crew", "operator@shop")]
    return JwtDirectory(IssuerFile(write_issuers(folder / "issuers.yaml", SSO.entry(keys, rules))))


async def _until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(WAITS_S):
        while not is_so():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


async def _told(directory: JwtDirectory, token: str) -> str:
    with pytest.raises((Unauthenticated, Unavailable)) as raised:
        await directory.find(token)
    return str(raised.value)


async def test_keys_are_fetched_once(tmp_path: Path) -> None:
    """A thousand calls by one token, and tokens of others by the same key, cost one request for keys."""
    async with key_server(ONE) as server:
        directory = _directory(tmp_path, server.url)
        token = SSO.token(groups=["crew"])
        callers = await asyncio.gather(*(directory.find(token) for _ in range(1000)))
        caller = callers[0]
        assert (caller.name, caller.account) == ("sso/alice", "sso/alice")
        assert caller.has(Role.OPERATOR, "shop")
        assert not caller.has(Role.OPERATOR, "other")
        assert (await directory.find(SSO.token("bert"))).grants == ()
        assert server.count == 1


async def test_a_new_key_counts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token by a key that is not known yet has the keys fetched again, and counts without a second try."""
    async with key_server(ONE) as server:
        directory = _directory(tmp_path, server.url)
        await directory.find(SSO.token())
        server.content = jwks(ONE, TWO)
        monkeypatch.setattr(key_source, "AGAIN_S", 0.0)
        assert (await directory.find(SSO.token(key=TWO))).name == "sso/alice"
        assert server.count == 2


async def test_a_flood_of_unknown_keys_costs_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tokens by keys that do not exist fetch the keys once, not once each, and not again soon."""
    monkeypatch.setattr(key_source, "AGAIN_S", 600.0)
    async with key_server(ONE) as server:
        directory = _directory(tmp_path, server.url)
        tokens = [SSO.token(key=TWO, headers={"kid": f"k{index}"}) for index in range(100)]
        for _ in range(10):
            refused = await asyncio.gather(*map(directory.find, tokens), return_exceptions=True)
            assert {type(each) for each in refused} == {Unauthenticated}
        assert server.count == 1


async def test_only_so_many_calls_wait_for_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the keys do not come, further calls are told to try again at once, and nobody waits for ever."""
    monkeypatch.setattr(key_source, "WAITING_MAX", 3)
    monkeypatch.setattr(key_source, "FETCH_S", 0.5)
    async with key_server(ONE) as server:
        server.hangs = True
        directory = _directory(tmp_path, server.url)
        calls = await asyncio.gather(*(directory.find(SSO.token()) for _ in range(10)), return_exceptions=True)
        told = [str(each) for each in calls]
        assert sum("are being read: try again" in each for each in told) == 7
        assert sum("cannot be read at present" in each for each in told) == 3


async def test_a_key_that_is_withdrawn_counts_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the next fetch without it, its tokens are refused, and callers with open calls are not valid."""
    monkeypatch.setattr(key_source, "REFRESH_S", 0.05)
    async with key_server(ONE) as server, kept(_directory(tmp_path, server.url)) as directory:
        token = SSO.token()
        caller = await directory.find(token)
        directory.check(caller)
        server.content = jwks(TWO)
        await _until(lambda: _is_over(directory, caller))
        with pytest.raises(Unauthenticated, match=r"'sso' has withdrawn the key by which 'sso/alice' was known"):
            directory.check(caller)
        assert "the key 'one', which 'sso' does not have" in await _told(directory, token)


def _is_over(directory: JwtDirectory, caller: Any) -> bool:
    try:
        directory.check(caller)
    except Refusal:
        return True
    return False


Patch = pytest.MonkeyPatch


def _away(server: KeyServer, _: Patch) -> str:
    server.status = 503
    return "answers HTTP 503"


def _redirecting(server: KeyServer, _: Patch) -> str:
    server.status = 302
    return "answers HTTP 302, and redirects are not followed"


def _oversized(server: KeyServer, _: Patch) -> str:
    server.content = server.content + b" " * key_source.KEYS_BYTES_MAX
    return "has more than 262144 bytes"


def _slow(server: KeyServer, patch: Patch) -> str:
    server.hangs = True
    patch.setattr(key_source, "FETCH_S", 0.5)
    return "has not answered within 0.5 s"


def _wrong(server: KeyServer, _: Patch) -> str:
    server.content = b"<html>maintenance</html>"
    return "it is no JWKS document"


def _empty(server: KeyServer, _: Patch) -> str:
    server.content = b'{"keys": []}'
    return "it has no key that can be used"


@pytest.mark.parametrize("fail", [_away, _redirecting, _oversized, _slow, _wrong, _empty])
async def test_an_outage_keeps_the_last_keys(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fail: Callable[[KeyServer, Patch], str],
) -> None:
    """While keys cannot be read, those from before count; log and health say why, once; a new key is told to come
    again, and counts when they can be read; redirects are not followed."""
    for name, value in (("REFRESH_S", 600.0), ("AGAIN_S", 0.05), ("FETCH_S", 60.0)):
        monkeypatch.setattr(key_source, name, value)
    async with key_server(ONE) as server, kept(_directory(tmp_path, server.url)) as directory:
        await directory.find(SSO.token())
        with caplog.at_level(logging.INFO, "dalsegno.access"):
            told = fail(server, monkeypatch)
            monkeypatch.setattr(key_source, "REFRESH_S", 0.05)  # each further request has the bound that `fail` sets
            await _until(lambda: directory.told)
            seen = server.count
            await _until(lambda: server.count > seen)
            assert told in directory.told
            assert directory.told.endswith("those from before stay in use")
            assert (await directory.find(SSO.token("bert"))).name == "sso/bert"
            assert (
                await _told(directory, SSO.token(key=TWO)) == "the keys of the issuer 'sso' cannot be read at present"
            )
            assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1
            monkeypatch.setattr(key_source, "FETCH_S", 60.0)
            server.status, server.hangs, server.content = 200, False, jwks(TWO)
            await _until(lambda: not directory.told)
        assert (await directory.find(SSO.token(key=TWO))).name == "sso/alice"
        assert caplog.records[-1].getMessage() == "the issuer 'sso' has the keys two"
        assert server.elsewhere == 0


async def test_keys_that_were_never_there_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process starts while the issuer is away, refuses its tokens with UNAVAILABLE, and takes them once it is
    back."""
    monkeypatch.setattr(key_source, "AGAIN_S", 0.05)
    async with key_server(ONE) as server:
        server.status = 500
        async with kept(_directory(tmp_path, server.url)) as directory:
            assert "cannot be read at present" in await _told(directory, SSO.token())
            assert directory.told.endswith("its tokens do not count until then")
            server.status = 200
            await _until(lambda: not directory.told)
            assert (await directory.find(SSO.token())).name == "sso/alice"


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    """An address where nobody listens is told with the reason of the system."""
    url = f"http://{free_address()}/keys"
    directory = _directory(tmp_path, url)
    assert "cannot be read at present" in await _told(directory, SSO.token())
    assert url in directory.told
    assert "Cannot connect to host 127.0.0.1" in directory.told


async def test_a_file_of_keys_is_read_again(tmp_path: Path) -> None:
    """Keys in a file rotate when the file changes; one with a fault leaves those from before in use."""
    file = tmp_path / "keys.json"
    file.write_bytes(jwks(ONE))
    async with kept(_directory(tmp_path, "keys.json")) as directory:
        caller = await directory.find(SSO.token())
        file.write_text("half")
        await _until(lambda: directory.told)
        assert "it is no JWKS document" in directory.told
        directory.check(caller)
        file.write_bytes(jwks(THREE, TWO))
        await _until(lambda: _is_over(directory, caller))
        assert (await directory.find(SSO.token(key=TWO))).name == "sso/alice"
        assert directory.told == ""


async def test_the_file_of_issuers_is_read_again(tmp_path: Path) -> None:
    """What it gives changes without a restart: open calls of that issuer are told to call again, and those of others
    go on; a fault in it changes nothing, and is told."""
    (tmp_path / "keys.json").write_bytes(jwks(ONE))
    other = TestIssuer("other", "https://other.example.com")
    path = tmp_path / "issuers.yaml"

    def write(*roles: str) -> None:
        write_issuers(path, SSO.entry("keys.json", [rule("crew", *roles)]), other.entry("keys.json"))

    write("viewer")
    async with kept(JwtDirectory(IssuerFile(str(path)))) as directory:
        token = SSO.token(groups=["crew"])
        caller, unaffected = await directory.find(token), await directory.find(other.token())
        path.write_text("issuers: 7")
        await _until(lambda: directory.told)
        assert directory.told.endswith("what was read before stays in use")
        directory.check(caller)
        (tmp_path / "keys.json").write_text("half")  # the keys from before stay in use for the new rules
        write("operator@shop")
        await _until(lambda: _is_over(directory, caller))
        with pytest.raises(Unavailable, match=r"what the file of --issuers says of 'sso' has changed: call again"):
            directory.check(caller)
        assert [str(each) for each in (await directory.find(token)).grants] == ["operator@shop"]
        directory.check(unaffected)
        (tmp_path / "keys.json").write_bytes(jwks(ONE))
        write_issuers(path, other.entry("keys.json"))
        await _until(lambda: directory.told == "" and _is_over(directory, _known(directory)))
        assert "is not in the file of --issuers" in await _told(directory, token)
        directory.check(unaffected)


def _known(directory: JwtDirectory) -> Any:
    """Return the caller that it remembers of alice."""
    return next(each for each in directory._known.values() if each.name == "sso/alice")


async def test_an_expired_token_is_over_also_for_open_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller is valid until its token has expired, and not for longer than the clocks may differ."""
    (tmp_path / "keys.json").write_bytes(jwks(ONE))
    directory = _directory(tmp_path, "keys.json")
    ends_s = int(time.time()) + 600
    caller = await directory.find(SSO.token(exp=ends_s))
    for after_s, is_over in ((-1.0, False), (LEEWAY_S - 0.1, False), (LEEWAY_S, True)):
        set_clock(monkeypatch, lambda after_s=after_s: ends_s + after_s)  # type: ignore[misc]
        assert _is_over(directory, caller) is is_over
    with pytest.raises(Unauthenticated, match=r"the token \(JWT\) of 'sso/alice' has expired"):
        directory.check(caller)


async def test_only_so_many_tokens_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that makes token after token takes no more memory."""
    monkeypatch.setattr(jwt_directory, "KNOWN_MAX", 10)
    (tmp_path / "keys.json").write_bytes(jwks(ONE))
    directory = _directory(tmp_path, "keys.json")
    for index in range(30):
        assert (await directory.find(SSO.token(jti=str(index)))).name == "sso/alice"
    assert len(directory._known) == 10


@pytest.mark.parametrize(
    ("keys", "more", "told"),
    [
        ("none.json", {}, "the keys of 'sso': "),
        ("bad.json", {}, "it is no JWKS document"),
        ("large.json", {}, "has more than 262144 bytes"),
        ("https://sso.example.com/certs", {"ca": "none.pem"}, "no certificate of an authority can be read in"),
    ],
)
def test_a_start_tells_what_is_wrong_with_files(tmp_path: Path, keys: str, more: dict[str, Any], told: str) -> None:
    """Files that the file of issuers names are looked at before anything starts."""
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "large.json").write_bytes(b" " * 300_000)
    with pytest.raises(BadIssuers) as raised:
        IssuerFile(write_issuers(tmp_path / "issuers.yaml", SSO.entry(keys, **more)))
    assert str(raised.value).startswith(f"--issuers {tmp_path / 'issuers.yaml'}: ")
    assert told in str(raised.value)
