"""How the services of `dalsegno serve` speak with each other and with clients: all by one certificate.

The gateway may have one of its own, for browsers: its variables DALSEGNO_GATEWAY_TLS_... count before the options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dalsegno.cli.exits import CommandError
from dalsegno.rpc.links import BOTH_OPTIONS, BadCredentials, Links, links_of, variable_of

_FILES = {"certificate", "key", "ca", "client-ca", "client-certificate", "client-key"}
_VARIABLE = re.compile("DALSEGNO_(|[A-Z]+_)TLS_[A-Z_]+")
_GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class ServiceLinks:
    """The options of TLS that all services get; none: they speak plain text."""

    given: Mapping[str, str] = field(default_factory=dict)
    """By the names of the options, without `--tls-`."""
    own: Links = field(default_factory=Links)
    gateway: Links = field(default_factory=Links)

    @property
    def gateway_scheme(self) -> str:
        """Return https or http."""
        return "https" if self.gateway.serves is not None else "http"

    @property
    def gateway_is_as_others(self) -> bool:
        """Return whether the gateway serves by the same certificate as the others, or by none as they do."""
        return not any(variable_of(name, _GATEWAY) in os.environ for name in ("certificate", "client-ca"))

    @property
    def told(self) -> str:
        """Return a few words about who is let in."""
        if self.own.serves is None:
            return "plain text, open to all users of this machine"
        return "TLS, clients with certificates only" if self.own.serves.asks_clients else "TLS, open to all clients"

    def environment(self, service: str, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of one service."""
        kept = {
            name: value
            for name, value in environment.items()
            if not _VARIABLE.fullmatch(name) or (service == _GATEWAY and name.startswith("DALSEGNO_GATEWAY_TLS_"))
        }
        return kept | {variable_of(name): value for name, value in self.given.items()}


def plan_links(given: Mapping[str, str]) -> ServiceLinks:
    """Return how the services speak, by options without `--tls-`. Raises CommandError."""
    whole = {name: str(Path(value).absolute()) if name in _FILES else value for name, value in given.items() if value}
    try:
        if whole.get("certificate"):
            whole = _completed(whole)
        elif whole:
            raise BadCredentials(f"--tls-{next(iter(whole))} needs --tls-certificate: without it all links are plain")
        own = links_of(whole, listens=True)
        for_gateway = {name: os.environ.get(variable_of(name, _GATEWAY), whole.get(name, "")) for name in BOTH_OPTIONS}
        return ServiceLinks(whole, own, links_of(for_gateway, listens=True))
    except BadCredentials as error:
        raise CommandError(str(error)) from None


def _completed(given: dict[str, str]) -> dict[str, str]:
    """Return the options with what the services need to speak with each other. Raises BadCredentials."""
    from dalsegno.rpc.credentials import names_of_file  # loads cryptography: not for plain text

    if not given.get("ca"):
        raise BadCredentials(
            "--tls-certificate needs --tls-ca, the authorities that sign it: the services call each other, too"
        )
    names = names_of_file("--tls-certificate", given["certificate"])
    if not names:
        raise BadCredentials(f"--tls-certificate {given['certificate']}: it has no name that a client could check")
    shown = {"client-certificate": given["certificate"], "client-key": given.get("key", "")}
    # A certificate for *.example.com is one for every host there.
    whole = {"server-name": names[0].replace("*", "dalsegno"), **shown, **given}
    if given.get("client-names"):
        own = names_of_file("--tls-client-certificate", whole["client-certificate"])
        whole["client-names"] = " ".join([given["client-names"], *own])
    return whole
