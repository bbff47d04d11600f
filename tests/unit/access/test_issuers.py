"""The file of --issuers, and what claims give by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.issuing import TestIssuer, rule, write_issuers

from dalsegno.access.bearer import JWT_LENGTH_MAX, BadToken, TokenFile
from dalsegno.access.claims import given_by, named_by
from dalsegno.access.issuers import ALGORITHMS, BadIssuers, read_issuers

SSO = TestIssuer()

WHOLE = """
issuers:
- name: sso
  issuer: https://sso.example.com
  audience: [dalsegno, flows]
  keys: keys.json
  algorithms: [RS256, ES256]
  leeway_s: 10
  grants_claim: https://flows.example.com/roles
  grants:
  - when: {groups: [crew, officers], email_verified: true}
    roles: [operator@shop, viewer]
  - when: {realm.roles: admins}
    roles: [admin]
"""


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Each key of an entry counts, and paths are relative to the folder of the file."""
    path = tmp_path / "issuers.yaml"
    path.write_text(WHOLE)
    (sso,) = read_issuers(str(path)).issuers
    assert (sso.name, sso.issuer, sso.audiences) == ("sso", "https://sso.example.com", ("dalsegno", "flows"))
    assert (sso.keys, sso.has_url, sso.leeway_s) == (str(tmp_path / "keys.json"), False, 10)
    assert sso.algorithms == ("RS256", "ES256")
    assert sso.grants_claim == "https://flows.example.com/roles"


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"groups": ["cooks", "crew"], "email_verified": True}, ["operator@shop", "viewer"]),
        ({"groups": "officers", "email_verified": True, "realm": {"roles": ["admins"]}}, ["*", "operator@shop"]),
        ({"groups": ["crew"], "email_verified": "true"}, []),
        ({"groups": ["crew"], "email_verified": 1}, []),
        ({"groups": ["crew"]}, []),
        ({"groups": {"crew": True}, "email_verified": True}, []),
        ({"groups": ["CREW", "crew "], "email_verified": True}, []),
        ({"realm": "admins", "roles": "admins"}, []),
        ({"realm.roles": ["admins"]}, ["*"]),
        ({}, []),
    ],
)
def test_claims_give_what_the_rules_say(tmp_path: Path, claims: dict[str, Any], expected: list[str]) -> None:
    """A rule applies if each of its claims has one of its values, of the same type; without one, nothing is given."""
    path = tmp_path / "issuers.yaml"
    path.write_text(WHOLE)
    (sso,) = read_issuers(str(path)).issuers
    given = {str(each) for each in given_by(sso.rules, claims)}
    assert given == {"admin" if each == "*" else each for each in expected} | (
        {"viewer"} if len(expected) > 1 else set()
    )


def test_a_claim_may_name_grants_but_not_the_role_of_services() -> None:
    """Grants that the issuer names itself count, without what is unknown, and without the right to act for others."""
    claims = {"flows": {"roles": ["operator@shop", "viewer", "captain", "service", "viewer@a*b", 7, "viewer"]}}
    assert [str(each) for each in named_by(claims, "flows.roles")] == ["operator@shop", "viewer"]
    assert named_by({}, "flows.roles") == ()


KEYS = "https://sso.example.com/certs"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (SSO.entry(KEYS, name="s/o"), "issuers[0].name: has 1 to 40 letters"),
        (SSO.entry(KEYS, name="certificate"), "issuers[0].name: is that of callers with certificates"),
        (SSO.entry(KEYS, issuer=""), "issuers[0].issuer: is the `iss`"),
        (SSO.entry(KEYS, audience=[]), "issuers[0].audience: names whom"),
        (SSO.entry(KEYS, audience=["a", ""]), "issuers[0].audience: names whom"),
        (SSO.entry(""), "issuers[0].keys: is the URL, or the path"),
        (SSO.entry("http://sso.example.com/certs"), "issuers[0].keys: is in plain text"),
        (SSO.entry("file:///etc/keys.json"), "issuers[0].keys: is no URL such as"),
        (SSO.entry("https://anna:secret@sso.example.com/certs"), "issuers[0].keys: has a user or a password"),
        (SSO.entry("keys.json", ca="ca.pem"), "issuers[0].ca: is for keys at a URL"),
        (SSO.entry(KEYS, algorithms=["none"]), "issuers[0].algorithms: 'none' is none of RS256"),
        (SSO.entry(KEYS, algorithms=["RS256", "HS256"]), "issuers[0].algorithms: 'HS256' is none of RS256"),
        (SSO.entry(KEYS, algorithms=[]), "issuers[0].algorithms: names at least one of RS256"),
        (SSO.entry(KEYS, leeway_s=3600), "issuers[0].leeway_s: is between 0 and 60 s"),
        (SSO.entry(KEYS, grants=[]), "issuers[0].grants: is empty"),
        (SSO.entry(KEYS, [rule("crew", "captain")]), "issuers[0].grants[0].roles: 'captain' is no role"),
        (SSO.entry(KEYS, [rule("crew")]), "issuers[0].grants[0].roles: is empty"),
        (SSO.entry(KEYS, [{"when": {}, "roles": ["viewer"]}]), "issuers[0].grants[0].when: needs at least one claim"),
        (SSO.entry(KEYS, [{"when": {"groups": []}, "roles": ["viewer"]}]), "issuers[0].grants[0].when: needs"),
        (SSO.entry(KEYS, audiences="x"), "unknown field `audiences`"),
        ({"name": "sso"}, "required field `issuer`"),
    ],
)
def test_a_faulty_entry_is_told_by_its_place(tmp_path: Path, entry: dict[str, Any], told: str) -> None:
    """What is wrong with the file is told with its path and the place in it, and never with a password."""
    path = write_issuers(tmp_path / "issuers.yaml", entry)
    with pytest.raises(BadIssuers) as raised:
        read_issuers(path)
    assert str(raised.value).startswith(f"--issuers {path}: ")
    assert told in str(raised.value)
    assert "secret@" not in str(raised.value)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """A missing file, text that is no YAML, and two entries for one issuer are told."""
    with pytest.raises(BadIssuers, match=r"cannot be read: No such file"):
        read_issuers(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("issuers: [")
    with pytest.raises(BadIssuers, match=r"bad\.yaml: "):
        read_issuers(str(tmp_path / "bad.yaml"))
    with pytest.raises(BadIssuers, match=r"two issuers have the name 'sso'"):
        read_issuers(write_issuers(tmp_path / "two.yaml", SSO.entry(KEYS), SSO.entry(KEYS, issuer="other")))
    with pytest.raises(BadIssuers, match=r"two issuers have the issuer"):
        read_issuers(write_issuers(tmp_path / "two.yaml", SSO.entry(KEYS), SSO.entry(KEYS, name="other")))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"when": {"cn": "alice"}, "roles": ["viewer"]}, "certificates[0].when: 'cn' is none of subject, common_name"),
        ({"when": {}, "roles": ["viewer"]}, "certificates[0].when: needs at least one claim"),
        ({"when": {"dns": "a.example.com"}, "roles": ["captain"]}, "certificates[0].roles: 'captain' is no role"),
        ({"roles": ["viewer"]}, "required field `when`"),
    ],
)
def test_a_faulty_rule_about_certificates_is_told(tmp_path: Path, written: dict[str, Any], told: str) -> None:
    """A rule asks for names that certificates have, and gives roles that exist."""
    path = write_issuers(tmp_path / "issuers.yaml", certificates=[written])
    with pytest.raises(BadIssuers) as raised:
        read_issuers(path)
    assert told in str(raised.value)


def test_only_algorithms_with_a_public_key_are_known() -> None:
    """No algorithm by which who checks a token could also make one is among those that can be chosen."""
    assert not [each for each in ALGORITHMS if each.startswith("HS") or each == "none"]


def test_a_program_takes_a_jwt_from_its_file(tmp_path: Path) -> None:
    """The file of --token-file may have a token of an issuer, unless that is too long."""
    file = tmp_path / "token"
    token = SSO.token(groups=["crew"])
    file.write_text(f"{token}\n")
    assert TokenFile(str(file)).metadata == (("authorization", f"Bearer {token}"),)
    file.write_text(SSO.token(groups=["x" * JWT_LENGTH_MAX]))
    with pytest.raises(BadToken, match=r"nor a JWT of at most 8192 characters"):
        TokenFile(str(file))
