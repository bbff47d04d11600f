"""`dalsegno token`: what is asked of the server, what is printed, and what is not."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Ended, FakeApi

from dalsegno.access.bearer import hash_of, is_token, new_token
from dalsegno.v1 import access_service_pb2 as messages
from dalsegno.workflow.refusals import InvalidRequest, PermissionDenied, Unauthenticated

Type = Callable[..., Ended]


def test_a_token_is_made_here_and_printed_once(api: FakeApi, type_command: Type) -> None:
    """The server gets the hash; the token is the only line of the output, so that a script can take it."""
    api.answer("CreateToken", messages.CreateTokenResponse(token=messages.Token(token_id="0123", name="anna")))
    ended = type_command("token", "create", "anna", "-g", "viewer@shop", "--grant", "admin", "-s", api.address)
    token = ended.out.strip()
    assert (ended.exit_code, is_token(token)) == (0, True)
    assert "it is not shown again" in ended.err
    assert "dalsegno token revoke 0123" in ended.err
    request = api.requests[-1]
    assert (request.name, request.sha256) == ("anna", hash_of(token))
    assert [(each.role, each.pattern) for each in request.grants] == [
        (messages.ROLE_VIEWER, "shop"),
        (messages.ROLE_ADMIN, "*"),
    ]
    assert not request.HasField("expires_at")


def test_a_token_goes_to_a_file_of_its_own(api: FakeApi, type_command: Type, tmp_path: Path) -> None:
    """The file is for its owner only, is never one that exists, and goes again when the server refuses."""
    file = tmp_path / "anna.token"
    words = ("token", "create", "anna", "-g", "viewer", "--expires-in", "90d", "--file", file, "-s", api.address)
    api.answer("CreateToken", InvalidRequest.of("name", "is not welcome"))
    assert type_command(*words).exit_code == 2
    assert not file.exists()
    api.answer("CreateToken", messages.CreateTokenResponse(token=messages.Token(token_id="0123")))
    ended = type_command(*words)
    assert ended.exit_code == 0
    token = file.read_text().strip()
    assert token not in ended.out + ended.err
    assert api.requests[-1].sha256 == hash_of(token)
    assert api.requests[-1].HasField("expires_at")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ended = type_command(*words)
    assert (ended.exit_code, "it exists" in ended.err) == (2, True)
    assert file.read_text().strip() == token


def test_tokens_are_listed_and_revoked(api: FakeApi, type_command: Type) -> None:
    """The list shows grants as they are typed, and which tokens count; a revocation names the token."""
    tokens = [
        messages.Token(token_id="01", name="anna", grants=[messages.Grant(role=messages.ROLE_VIEWER, pattern="a*")]),
        messages.Token(token_id="02", name="bert", grants=[messages.Grant(role=messages.ROLE_ADMIN, pattern="*")]),
        messages.Token(token_id="03", name="carl"),
    ]
    tokens[1].revoked_at.seconds = 1
    tokens[2].expires_at.seconds = 1
    api.answer("ListTokens", messages.ListTokensResponse(tokens=tokens))
    lines = [line.split()[:4] for line in type_command("token", "list", "-s", api.address).out.splitlines()]
    assert lines[1:3] == [["01", "anna", "viewer@a*", "valid"], ["02", "bert", "admin", "revoked"]]
    assert lines[3][:3] == ["03", "carl", "expired"]
    api.answer("RevokeToken", messages.RevokeTokenResponse(token=tokens[1]))
    assert type_command("token", "revoke", "02", "-m", "lost", "-s", api.address).exit_code == 0
    assert (api.requests[-1].token_id, api.requests[-1].comment) == ("02", "lost")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "anna"), "--grant"),
        (("create", "anna", "-g", "root"), "no role"),
        (("create", "anna", "-g", "viewer@a*b"), "pattern"),
        (("create", "anna", "-g", "viewer", "--expires-in", "soon"), "--expires-in"),
        (("create", "anna", "-g", "viewer", "-o", "json"), "--file"),
    ],
)
def test_a_wrong_command_line_makes_nothing(
    api: FakeApi, type_command: Type, words: tuple[str, ...], said: str
) -> None:
    """What cannot be is refused before the server is asked."""
    ended = type_command("token", *words, "-s", api.address)
    assert (ended.exit_code, api.requests) == (2, [])
    assert said in ended.err


def test_commands_show_the_token_of_a_file(api: FakeApi, type_command: Type, tmp_path: Path) -> None:
    """A file without a token is refused with its name; who is not known, or may not, is told what to do."""
    file = tmp_path / "token"
    file.write_text("not a token")
    ended = type_command("list", "-s", api.address, "--token-file", file)
    assert (ended.exit_code, "it has no token" in ended.err, "not a token" in ended.err) == (2, True, False)
    file.write_text(new_token())
    api.answer("ListExecutions", Unauthenticated("the token is unknown"))
    ended = type_command("list", "-s", api.address, "--token-file", file)
    assert (ended.exit_code, "--token-file, or in DALSEGNO_TOKEN_FILE" in ended.err) == (2, True)
    api.answer("ListExecutions", PermissionDenied("'anna' lacks the role viewer"))
    ended = type_command("--token-file", file, "list", "-s", api.address)
    assert (ended.exit_code, "lacks the role viewer" in ended.err) == (2, True)
