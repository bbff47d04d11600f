"""The tokens of `dalsegno serve --auth tokens`."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.issuing import TestIssuer, jwks, write_issuers

from dalsegno.access.bearer import FILE_VARIABLE, hash_of
from dalsegno.cli.exits import CommandError
from dalsegno.cli.service_tokens import ServiceTokens
from dalsegno.cli.serving import plan_server
from dalsegno.rpc.options import AUTH_VARIABLE, ISSUERS_VARIABLE
from dalsegno.store.sql import SqlStore


def test_tokens_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    """A first start makes three tokens, of which the store has the hashes; the next one leaves them as they are."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    tokens = ServiceTokens(tmp_path / "tokens")
    tokens.make(url)
    assert tokens.admin is not None
    files = sorted((tmp_path / "tokens").iterdir())
    written = [file.read_text() for file in files]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    tokens.make(url)
    assert [file.read_text() for file in files] == written
    store = SqlStore(url, read_only=True)
    with store.read() as queries:
        stored = {row.sha256: row.grants for row in queries.tokens()}
    store.close()
    assert [stored[hash_of(each.strip()).hex()] for each in written] == [
        '[["admin", "*"]]',
        '[["executor", "*"]]',
        '[["service", "*"]]',
    ]


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """What the tool of the store says is the error, and no file is left that a later start would take for a token."""
    (tmp_path / "store.db").write_text("no database")
    with pytest.raises(CommandError, match=r"no tokens can be made: .*store\.db"):
        ServiceTokens(tmp_path / "tokens").make(f"sqlite:///{tmp_path / 'store.db'}")
    assert list((tmp_path / "tokens").iterdir()) == []


def test_each_service_gets_its_own_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services get their own tokens, not that of the user's commands; without --auth they are asked for none,
    whatever the environment of a private server says."""
    monkeypatch.setenv(AUTH_VARIABLE, "tokens")
    monkeypatch.setenv(FILE_VARIABLE, "/home/anna/anna.token")
    free = "127.0.0.1:0"
    guarded = plan_server(tmp_path, free, free, asks_tokens=True).services()
    environments = {each.name: each.environment or {} for each in guarded}
    told = {name: (each.get(AUTH_VARIABLE), each.get(FILE_VARIABLE)) for name, each in environments.items()}
    assert told == {
        "engine": ("tokens", None),
        "executor": ("tokens", str(tmp_path / "tokens" / "executor.token")),
        "api": ("tokens", str(tmp_path / "tokens" / "service.token")),
    }
    for each in plan_server(tmp_path, free, free).services():
        assert not {AUTH_VARIABLE, FILE_VARIABLE} & (each.environment or {}).keys()


def test_services_get_the_file_of_issuers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve --issuers` checks the file, and gives its services the whole path; it needs --auth tokens; without it they
    do not read one of the environment."""
    monkeypatch.setenv(ISSUERS_VARIABLE, "/home/anna/issuers.yaml")
    monkeypatch.chdir(tmp_path)
    sso = TestIssuer()
    (tmp_path / "keys.json").write_bytes(jwks(sso.key))
    write_issuers(tmp_path / "issuers.yaml", sso.entry("keys.json"))
    free = "127.0.0.1:0"

    def told(issuers: str) -> set[str | None]:
        planned = plan_server(tmp_path, free, free, asks_tokens=True, issuers=issuers).services()
        return {(each.environment or {}).get(ISSUERS_VARIABLE) for each in planned}

    assert told("issuers.yaml") == {str(tmp_path / "issuers.yaml")}
    assert told("") == {None}
    with pytest.raises(CommandError, match=r"--issuers needs --auth tokens"):
        plan_server(tmp_path, free, free, issuers="issuers.yaml")
    with pytest.raises(CommandError, match=r"--issuers none\.yaml: it cannot be read: No such file"):
        told("none.yaml")
