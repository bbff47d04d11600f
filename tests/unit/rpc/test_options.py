"""Options of services: what the list of processes must not show."""

from __future__ import annotations

import pytest

from dalsegno.rpc.options import DATABASE_URL, warning_of


@pytest.mark.parametrize("query", ["", "?password=secret", "?sslmode=require&sslpassword=secret"])
def test_a_password_among_the_options_is_warned_of(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of processes shows it; the environment of a process is for its owner."""
    url = f"postgresql://one/store{query}" if query else "postgresql://me:secret@one:1,two:2/store"
    monkeypatch.setenv(DATABASE_URL, url)
    assert warning_of(url) == ""
    monkeypatch.delenv(DATABASE_URL)
    assert DATABASE_URL in warning_of(url)
    assert "secret" not in warning_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite:////data/store.db",
        "memory://",
        "postgresql://me@one/store",
        "postgresql://?service=x",
        "postgres://[",
    ],
)
def test_other_options_are_not_warned_of(url: str) -> None:
    """What has no password, or is refused later."""
    assert warning_of(url) == ""
