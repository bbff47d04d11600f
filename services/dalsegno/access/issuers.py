"""The file of --issuers: whose tokens (JWT) count beside our own, and what their claims, or certificates, give.

    issuers:
    - name: sso
      issuer: https://sso.example.com/realms/harbour
      audience: dalsegno
      keys: https://sso.example.com/realms/harbour/certs
      grants:
      - when: {groups: flow-operators}
        roles: [operator@shop, viewer]
    certificates:
    - when: {uri: spiffe://example.com/billing}
      roles: [operator@billing]

This module only reads text. It opens no connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from dalsegno.access.claims import Rule, Wanted
from dalsegno.access.grants import Grant

FILE_BYTES_MAX = 1_000_000

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""The algorithms that may sign tokens. All have a private key and a public one: who can check tokens makes none."""

CERTIFICATE_NAMES = ("subject", "common_name", "uri", "dns", "email", "address")
"""What a rule may ask of a certificate: its subject as a whole (RFC 4514), the common name in that, or one of its
alternative names."""

CERTIFICATE = "certificate"
"""The beginning of the names of callers that are known by certificates, which no issuer can have."""

LEEWAY_S = 3
LEEWAY_MAX_S = 60

_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")


class BadIssuers(ValueError):
    """The file of --issuers cannot be used. The text says where, and what to do."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the file says."""

    issuers: tuple[Issuer, ...]
    certificates: tuple[Rule, ...]
    """What certificates of clients give."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens count."""

    name: str
    """The beginning of its callers' names."""
    issuer: str
    """The claim `iss` of its tokens."""
    audiences: tuple[str, ...]
    """Its tokens are for one of these (`aud`)."""
    keys: str
    """The URL, or the path, of its public keys."""
    ca: str
    """The path of the authorities by which that URL is trusted; empty: those of the system."""
    algorithms: tuple[str, ...]
    leeway_s: int
    """By how much its clock may differ from ours."""
    grants_claim: str
    """The claim in which it names grants itself; empty: none."""
    rules: tuple[Rule, ...]

    @property
    def has_url(self) -> bool:
        """Return whether its keys are fetched."""
        return is_url(self.keys)


def is_url(keys: str) -> bool:
    """Return whether this is a URL, and no path."""
    return "://" in keys


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    when: dict[str, Wanted | list[Wanted]]
    roles: list[str]


class _Issuer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    issuer: str
    audience: str | list[str]
    keys: str
    ca: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway_s: int = LEEWAY_S
    grants_claim: str = ""
    grants: list[_Rule] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    issuers: list[_Issuer] = []
    certificates: list[_Rule] = []


def read_issuers(path: str) -> Trusted:
    """Read the file. Paths in it are relative to its folder. Raises BadIssuers."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX)
        found = msgspec.yaml.decode(content, type=_File)
        folder = Path(path).parent
        issuers = tuple(_issuer(f"issuers[{index}]", each, folder) for index, each in enumerate(found.issuers))
        _check_unique("name", (each.name for each in issuers))
        _check_unique("issuer", (each.issuer for each in issuers))
        rules = [_certificate_rule(f"certificates[{index}]", each) for index, each in enumerate(found.certificates)]
    except OSError as error:
        raise BadIssuers(f"--issuers {path}: it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # what msgspec and we say of the content
        raise BadIssuers(f"--issuers {path}: {error}") from None
    return Trusted(issuers, tuple(rules))


def _issuer(place: str, found: _Issuer, folder: Path) -> Issuer:
    """Return what an entry says. Raises ValueError."""
    audiences = (found.audience,) if isinstance(found.audience, str) else tuple(found.audience)
    for name, fault in (
        ("name", "" if _NAME.fullmatch(found.name) else "has 1 to 40 letters, digits, and . _ - only"),
        ("name", "is that of callers with certificates: choose another" if found.name == CERTIFICATE else ""),
        ("issuer", "" if found.issuer else "is the `iss` of its tokens: it must not be empty"),
        ("audience", "" if audiences and all(audiences) else "names whom the tokens are for: it must not be empty"),
        ("keys", _fault_of_keys(found.keys)),
        ("ca", "is for keys at a URL with https" if found.ca and not found.keys.startswith("https:") else ""),
        ("algorithms", _fault_of_algorithms(found.algorithms)),
        ("leeway_s", "" if 0 <= found.leeway_s <= LEEWAY_MAX_S else f"is between 0 and {LEEWAY_MAX_S} s"),
        ("grants", "" if found.grants or found.grants_claim else "is empty: its tokens would have no role"),
    ):
        if fault:
            raise ValueError(f"{place}.{name}: {fault}")
    rules = tuple(_rule(f"{place}.grants[{index}]", each) for index, each in enumerate(found.grants))
    return Issuer(
        name=found.name,
        issuer=found.issuer,
        audiences=audiences,
        keys=found.keys if is_url(found.keys) else str(folder / found.keys),
        ca=str(folder / found.ca) if found.ca else "",
        algorithms=found.algorithms,
        leeway_s=found.leeway_s,
        grants_claim=found.grants_claim,
        rules=rules,
    )


def _rule(place: str, found: _Rule) -> Rule:
    """Return what a rule says. Raises ValueError."""
    when = tuple((name, tuple(each) if isinstance(each, list) else (each,)) for name, each in found.when.items())
    if not when or not all(name and values for name, values in when):
        raise ValueError(f"{place}.when: needs at least one claim, each with a value")
    if not found.roles:
        raise ValueError(f"{place}.roles: is empty")
    grants = []
    for text in found.roles:
        try:
            grants.append(Grant.parse(text))
        except ValueError as error:
            raise ValueError(f"{place}.roles: {error}") from None
    return Rule(when, tuple(grants))


def _certificate_rule(place: str, found: _Rule) -> Rule:
    """Return what a rule about certificates says. Raises ValueError."""
    if others := [each for each in found.when if each not in CERTIFICATE_NAMES]:
        raise ValueError(f"{place}.when: {others[0][:40]!r} is none of {', '.join(CERTIFICATE_NAMES)}")
    return _rule(place, found)


def _fault_of_algorithms(found: tuple[str, ...]) -> str:
    others = [each for each in found if each not in ALGORITHMS]
    if found and not others:
        return ""
    told = f"{others[0][:40]!r} is none of" if others else "names at least one of"
    return f"{told} {', '.join(ALGORITHMS)}"


def _fault_of_keys(keys: str) -> str:
    """Return what is wrong with the place of keys; empty if nothing is."""
    if not keys:
        return "is the URL, or the path, of its public keys (JWKS): it must not be empty"
    return fault_of_url(keys) if is_url(keys) else ""


def fault_of_url(url: str) -> str:
    """Return what is wrong with the URL of something that an issuer publishes; empty if nothing is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is no URL such as https://sso.example.com/certs"
    if parts.username is not None or parts.password is not None:
        return "has a user or a password, and is shown in logs"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "is in plain text, so that anybody on the way could change what it answers: use https"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_unique(field: str, found: Iterable[str]) -> None:
    """Raise ValueError if two entries have the same value."""
    seen = set()
    for each in found:
        if each in seen:
            raise ValueError(f"two issuers have the {field} {each!r}")
        seen.add(each)
