"""The URL of a PostgreSQL database, as libpq writes it, and what each connection to it asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

POOLER = "pooler"
"""Our own parameter of the URL. libpq never sees it."""

FOR_WRITING = frozenset({"read-write", "primary"})
"""The values of target_session_attrs with which a connection can write."""

PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "3",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "tcp_user_timeout": "7000",
}
"""How soon a server that is gone is noticed, unless the URL says otherwise: in 7 s, in ms or s as libpq takes each."""

_CANNOT_READ = "the URL of the store cannot be read"
_SHAPE = "sqlite:///path, postgresql://user@host:port/name, or postgresql://user@host1:port,host2:port/name?target_session_attrs=primary"
_ESCAPE = "write @ : / ? # % in a user or password as %40 %3A %2F %3F %23 %25"


@dataclass(frozen=True, slots=True)
class Host:
    """One of the servers that a URL names."""

    name: str
    address: str
    """Its IP address, if the URL has it (`hostaddr`); else empty."""
    port: str

    @property
    def shown(self) -> str:
        """Its name, as messages show it."""
        name = self.name or self.address or "the default host"
        return f"{name}:{self.port}" if self.port else name


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says."""

    parameters: dict[str, str] = field(repr=False)
    """libpq's parameters. May contain the password."""
    is_pooled: bool
    """Whether a pooler gives each transaction another session: nothing may be set for a session."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The servers that the URL names; none if a service or the environment names them."""
        given = (("host", "PGHOST"), ("hostaddr", "PGHOSTADDR"), ("port", "PGPORT"))
        if "service" in self.parameters and "host" not in self.parameters:
            return ()
        return split_hosts(*(self.parameters.get(name) or os.environ.get(other, "") for name, other in given))

    @property
    def shown(self) -> str:
        """The URL without passwords."""
        shown = {name: value for name, value in self.parameters.items() if name not in _secrets()}
        hosts = ",".join(host.shown for host in self.hosts if host.name or host.address)
        user, name = shown.pop("user", ""), shown.pop("dbname", "")
        for each in ("host", "hostaddr", "port"):
            shown.pop(each, None)
        if self.is_pooled:
            shown[POOLER] = "transaction"
        query = "&".join(f"{key}={quote(value, safe='/-,')}" for key, value in sorted(shown.items()))
        return f"postgresql://{quote(user)}{'@' if user else ''}{hosts}/{quote(name)}{'?' if query else ''}{query}"

    def asked(self, *, writes: bool, hosts: Sequence[Host] = ()) -> dict[str, str]:
        """Return the parameters of a connection, to one of these hosts, else to one that the URL names.

        What writes needs a server that takes writes. What only reads takes any primary where the URL asks for one that
        takes writes, or names several hosts and asks for nothing; else whatever the URL asks for.
        """
        parameters = {**PATIENCE, **self.parameters}
        given = parameters.pop("target_session_attrs", "") or os.environ.get("PGTARGETSESSIONATTRS", "")
        if writes:
            given = given if given in FOR_WRITING else "read-write"
        elif given == "read-write" or (not given and max(len(hosts), len(self.hosts)) > 1):
            given = "primary"
        if given:
            parameters["target_session_attrs"] = given
        if hosts:
            for key, values in (
                ("host", [host.name for host in hosts]),
                ("hostaddr", [host.address for host in hosts]),
                ("port", [host.port for host in hosts]),
            ):
                parameters.pop(key, None)
                if any(values):
                    parameters[key] = ",".join(values)
        return parameters


def split_hosts(names: str, addresses: str, ports: str) -> tuple[Host, ...]:
    """Return the hosts of libpq's parameters `host`, `hostaddr` and `port`, which are lists with commas.

    >>> [host.shown for host in split_hosts("a,b", "", "5432")]
    ['a:5432', 'b:5432']
    """
    lists = [text.split(",") if text else [] for text in (names, addresses, ports)]
    count = max(map(len, lists[:2]))
    if len(lists[2]) == 1:
        lists[2] *= count
    return tuple(Host(*row) for row in zip(*([*each, *[""] * count][:count] for each in lists), strict=True))


def read_address(url: str) -> Address:
    """Read a URL. Raises ValueError, whose message contains nothing that may be a part of a password."""
    import psycopg

    plain, pooler = _take_pooler(url)
    if pooler not in (None, "transaction"):
        raise ValueError(
            f"{_CANNOT_READ}: {POOLER} may be `transaction` only; leave it out for a pooler that keeps sessions"
        )
    try:
        found = psycopg.conninfo.conninfo_to_dict(plain)
    except psycopg.Error as error:
        unknown = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
        if unknown is not None:
            raise ValueError(f"{_CANNOT_READ}: PostgreSQL knows no parameter {unknown.group(1)!r}") from None
        raise ValueError(f"{_CANNOT_READ}: {_SHAPE}; {_ESCAPE}") from None
    parameters = {name: str(value) for name, value in found.items() if value is not None}
    address = Address(parameters, is_pooled=pooler is not None)
    # A part of a password that is not escaped would be a host or a port, which errors show.
    for host in address.hosts:
        if "@" in host.name or not (host.port == "" or (host.port.isascii() and host.port.isdigit())):
            raise ValueError(f"{_CANNOT_READ}: a host or a port is none: {_SHAPE}; {_ESCAPE}")
    return address


def _take_pooler(url: str) -> tuple[str, str | None]:
    """Return the URL without our own parameter, and its value, None if it is not there."""
    base, mark, query = url.rpartition("?")
    parts = query.split("&") if mark else []
    ours = [part for part in parts if part.startswith(f"{POOLER}=")]
    if not ours:
        return url, None
    rest = "&".join(part for part in parts if part not in ours)
    return f"{base}?{rest}" if rest else base, unquote(ours[-1].partition("=")[2])


def _secrets() -> frozenset[str]:
    """Return the names of the parameters that libpq itself shows nobody."""
    from psycopg import pq

    shown = ("replication", "sslkeylogfile")
    options = pq.Conninfo.get_defaults()
    return frozenset(each.keyword.decode() for each in options if each.dispchar) - frozenset(shown)
