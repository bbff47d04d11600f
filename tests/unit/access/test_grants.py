"""Grants and tokens as texts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dalsegno.access.bearer import BadToken, TokenFile, hash_of, id_of, is_token, new_token
from dalsegno.access.callers import Caller
from dalsegno.access.grants import Grant, Role, read_grants, write_grants


@pytest.mark.parametrize(
    ("text", "role", "name", "has"),
    [
        ("viewer", Role.VIEWER, "any", True),
        ("viewer@", Role.VIEWER, "", True),
        ("viewer@", Role.VIEWER, "any", False),
        ("viewer@team", Role.VIEWER, "team-a", False),
        ("viewer@team-*", Role.VIEWER, "team-a", True),
        ("viewer", Role.OPERATOR, "any", False),
        ("operator@a", Role.VIEWER, "a", True),
        ("operator@a", Role.AUTHOR, "a", False),
        ("author@a", Role.OPERATOR, "a", False),
        ("admin@a", Role.AUTHOR, "a", True),
        ("admin@a", Role.AUTHOR, "b", False),
        ("admin", Role.EXECUTOR, "std.http", False),
        ("admin", Role.SERVICE, "any", False),
        ("executor@math.*", Role.EXECUTOR, "math.add", True),
        ("executor", Role.VIEWER, "any", False),
        ("service", Role.EXECUTOR, "std.http", True),
        ("service", Role.ADMIN, "any", True),
    ],
)
def test_a_grant_gives_roles(text: str, role: Role, name: str, has: bool) -> None:
    """A role includes what the contract says of it, for the names of its pattern only."""
    grants = read_grants(write_grants([Grant.parse(text)]))
    assert str(grants[0]) == text
    assert Caller("anna", grants).has(role, name) is has


@pytest.mark.parametrize("text", ["", "root", "viewer@a*b", "service@team"])
def test_a_grant_that_cannot_be_is_refused(text: str) -> None:
    """An unknown role, a star in the middle, and a service for a part say what is wrong."""
    with pytest.raises(ValueError, match=r"role|pattern"):
        Grant.parse(text)


def test_grants_of_a_later_version_give_nothing() -> None:
    """A role that this version does not know is left out, and the others count."""
    assert read_grants('[["later", "*"], ["viewer", "a"]]') == (Grant(Role.VIEWER, "a"),)


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new token in the file is shown at the next call; while the file has none, the one before stays in use."""
    first, second = new_token(), new_token()
    path = tmp_path / "token"
    path.write_text(f"{first}\n")
    file = TokenFile(str(path))
    for written, shown in (("", first), (second, second)):
        path.write_text(written)
        os.utime(path, ns=(len(written) + 1, len(written) + 1))  # a change within the clock's resolution
        assert file.metadata == (("authorization", f"Bearer {shown}"),)
    path.unlink()
    assert file.metadata == (("authorization", f"Bearer {second}"),)


@pytest.mark.parametrize("content", [None, "", "secret-of-something-else", b"\xff\xfe", f"dst_{'a' * 42}"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str | bytes | None) -> None:
    """The error names the file and what to do, and does not quote its content."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadToken, match=r"--token-file .*token: it (cannot be read|has no token)") as refused:
        TokenFile(str(path))
    assert not content or str(content) not in str(refused.value)


def test_tokens_differ_and_have_one_form() -> None:
    """Two tokens are different, have the form of tokens, and ids that are the beginnings of their hashes."""
    first, second = new_token(), new_token()
    assert first != second
    assert is_token(first)
    assert hash_of(first).hex().startswith(id_of(hash_of(first)))
