"""The options of all programs for TLS: `--tls-certificate`, `--tls-ca`, ... and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls, ServerTls


ALPN = "h2"
"""The protocol within TLS: HTTP/2."""


class BadCredentials(ValueError):
    """A file cannot be used, or options do not fit together. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Links:
    """How a process speaks with others; None: in plain text."""

    serves: ServerTls | None = None
    calls: ClientTls | None = None


SERVER_OPTIONS = {
    "certificate": "the file of the certificate and those above it, PEM: serve TLS; empty: plain text",
    "key": "the file of its key, PEM",
    "client-ca": "the file of authorities, PEM: only clients with a certificate of theirs are let in",
    "client-names": "the names, one of which the certificate of a client must have; empty: any name",
}
"""The options of what listens, without `--tls-`."""

CALLER_OPTIONS = {
    "ca": "the file of the authorities that sign the certificates of servers, PEM: call by TLS; empty: plain text",
    "certificate": "the file of the certificate to show to servers that ask for one, PEM",
    "key": "the file of its key, PEM",
    "server-name": "the name in the certificates of servers, if it is not the host of their addresses",
}
"""The options of what only calls."""

BOTH_OPTIONS = {
    **SERVER_OPTIONS,
    "ca": CALLER_OPTIONS["ca"],
    "client-certificate": "the file of the certificate to show to servers, PEM; empty: that of --tls-certificate",
    "client-key": "the file of its key, PEM",
    "server-name": CALLER_OPTIONS["server-name"],
}
"""The options of what listens and calls."""


def links_of(given: Mapping[str, str], *, listens: bool) -> Links:
    """Return how a process speaks with others, as its options say, which are given without `--tls-`.

    Raises BadCredentials.
    """
    value = {name: given.get(name, "") for name in BOTH_OPTIONS}
    for name in ("", "client-"):
        if bool(value[f"{name}certificate"]) != bool(value[f"{name}key"]):
            raise BadCredentials(f"--tls-{name}certificate and --tls-{name}key belong together")
    if listens:
        _check_needs(value, "client-ca", "certificate", "only over TLS clients show certificates")
        _check_needs(value, "client-names", "client-ca", "without it no certificate of a client is asked for")
        _check_needs(value, "client-certificate", "ca", "it is shown to servers that are called by TLS")
    else:
        _check_needs(value, "certificate", "ca", "the authorities that sign the certificates of the servers")
    _check_needs(value, "server-name", "ca", "the authorities that sign the certificates of the servers")
    if not any(value.values()):
        return Links()
    from dalsegno.rpc.credentials import ClientTls, ServerTls  # loads cryptography: not for plain text

    serves = calls = None
    if listens and value["certificate"]:
        names = value["client-names"].replace(",", " ").split()
        serves = ServerTls(value["certificate"], value["key"], value["client-ca"], names)
    if value["ca"]:
        own = "client-" if value["client-certificate"] else ""
        calls = ClientTls(value["ca"], value[f"{own}certificate"], value[f"{own}key"], value["server-name"])
    return Links(serves, calls)


def _check_needs(value: Mapping[str, str], name: str, needed: str, why: str) -> None:
    if value[name] and not value[needed]:
        raise BadCredentials(f"--tls-{name} needs --tls-{needed}: {why}")


def variable_of(name: str, service: str = "") -> str:
    """Return the environment variable of an option that is given without `--tls-`.

    >>> variable_of("client-ca"), variable_of("ca", "api")
    ('DALSEGNO_TLS_CLIENT_CA', 'DALSEGNO_API_TLS_CA')
    """
    return "_".join(filter(None, ("DALSEGNO", service, "TLS", name))).upper().replace("-", "_")


def caller_from(environment: Mapping[str, str]) -> ClientTls | None:
    """Return how a program that only calls does so, by the variables DALSEGNO_TLS_CA, ... Raises BadCredentials."""
    return links_of({name: environment.get(variable_of(name), "") for name in CALLER_OPTIONS}, listens=False).calls
