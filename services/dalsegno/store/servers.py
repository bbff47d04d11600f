"""The servers of a PostgreSQL database: which of them is the primary, and whether one was replaced.

Each promotion begins a new timeline. A primary whose timeline is lower than the highest that was seen has been
replaced, whatever it says itself: it is not written and not read, and connections to it are given up. No statement is
ever cancelled: a commit that waits there for its standby would be reported as done.

A thread for each host looks once a second, because a server that stands still keeps the thread that asks it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from os import dup
from typing import Any

import psycopg

from dalsegno.store.address import Address, Host, split_hosts
from dalsegno.store.stalls import Phase, Stalls
from dalsegno.store.store import StoreUnreachable

LOOK_EVERY_S = 1.0
CONNECT_EVERY_S = 4.0
"""How often it connects anew to look: the name of a host may lead to another server by now."""

FIRST_LOOK_S = 3.0
"""How long the first connection to one of several hosts waits until all have been looked at."""

FRESH_S = 3.0
"""For how long it counts what a look has found."""

_IDENTIFY = (
    "SELECT pg_is_in_recovery(),"
    " CASE WHEN pg_is_in_recovery() THEN '0' ELSE pg_walfile_name(pg_current_wal_lsn()) END,"
    " (SELECT system_identifier FROM pg_control_system())"
)
_WAITS = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep')"

_log = logging.getLogger(__name__)


class Session(psycopg.Connection[Any]):
    """A connection that tells how long it waits for the server."""

    stalls: Stalls | None = None

    def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
        """Do what psycopg does, which calls this whenever it waits for the server."""
        if self.stalls is None:
            return super().wait(gen, *arguments, **named)
        with self.stalls.measured(Phase.STATEMENT):
            return super().wait(gen, *arguments, **named)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says of itself."""

    is_primary: bool
    timeline: int
    """0: a standby, or a server that does not tell it."""
    system: int
    """The identifier that a primary shares with its standbys; 0: it does not tell it."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """What the last look at a host has found."""

    identity: Identity
    at_s: float


@dataclass(frozen=True, slots=True)
class _Held:
    """A connection that is in use, or waits in a pool."""

    identity: Identity
    socket: socket.socket


class OldPrimary(StoreUnreachable):
    """The server was a primary and has been replaced."""


class Servers:
    """Knows the servers of one database for all connections of a store. Every method may be called from any thread."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._hosts = address.hosts
        self._lock = threading.Lock()
        self._timelines: dict[int, int] = {}
        """The highest timeline that was seen of each system."""
        self._sightings: dict[Host, _Sighting] = {}
        self._looked: set[Host] = set()
        self._has_looked = threading.Event()
        self._held: dict[int, _Held] = {}
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.waits_for_standby = False
        """Whether a commit waits for the synchronous standby, as far as the last look has found."""

    def connect(self, *, writes: bool, name: str) -> Session:
        """Connect to a server that has not been replaced. Raises psycopg.Error and OldPrimary."""
        self._begin()
        if len(self._hosts) > 1:
            self._has_looked.wait(FIRST_LOOK_S)
        connection = _connect(self._address, self._usable_hosts(), writes=writes, name=name)
        try:
            identity = identify(connection)
            self._learn(identity)
            with self._lock:
                if self._is_old(identity):
                    raise OldPrimary(_told(identity, connection.info.host))
                copy = socket.socket(fileno=dup(connection.pgconn.socket))
                self._held[id(connection)] = _Held(identity, copy)
        except BaseException:
            connection.close()
            raise
        return connection

    def release(self, connection: object) -> None:
        """Note that a connection is closed."""
        with self._lock:
            held = self._held.pop(id(connection), None)
        if held is not None:
            held.socket.close()

    def check(self) -> None:
        """Raise OldPrimary if a pooler leads to a server that has been replaced: it may change at any transaction."""
        if self._address.is_pooled:
            with self._lock:
                sightings = list(self._sightings.items())
            if sightings and all(self._is_old(each.identity) for _, each in sightings):
                raise OldPrimary(_told(sightings[0][1].identity, sightings[0][0].shown))

    def close(self) -> None:
        """End the threads. One that waits for a server that stands still ends with the process."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(LOOK_EVERY_S)

    def _begin(self) -> None:
        """Start the threads."""
        with self._lock:
            if self._threads:
                return
            if not self._hosts:
                self._hosts = self._hosts_of_service()
            for host in self._hosts:
                look = threading.Thread(target=self._look_on, args=(host,), name="servers", daemon=True)
                self._threads.append(look)
        for thread in self._threads:
            thread.start()

    def _hosts_of_service(self) -> tuple[Host, ...]:
        """Return the hosts of a service, which only libpq can look up. Raises psycopg.Error."""
        with closing(_connect(self._address, (), writes=None, name="dalsegno watch")) as connection:
            found = {each.keyword: each.val or b"" for each in connection.pgconn.info}
        return split_hosts(*(found.get(name, b"").decode() for name in (b"host", b"hostaddr", b"port")))

    def _look_on(self, host: Host) -> None:
        """Look at a host once a second. The only host is looked at by its first connection."""
        if len(self._hosts) <= 1:
            self._stopped.wait(LOOK_EVERY_S)
        while not self._stopped.is_set():
            with suppress(psycopg.Error, OSError), self._connected(host) as connection:
                until_s = time.monotonic() + CONNECT_EVERY_S
                while time.monotonic() < until_s and not self._stopped.is_set():
                    self._look(host, connection)
                    self._stopped.wait(LOOK_EVERY_S)
                continue
            self._note(host, None)
            self._stopped.wait(LOOK_EVERY_S)

    @contextmanager
    def _connected(self, host: Host) -> Iterator[Session]:
        connection = _connect(self._address, (host,), writes=None, name="dalsegno watch")
        try:
            connection.autocommit = True
            yield connection
        finally:
            connection.close()

    def _look(self, host: Host, connection: Session) -> None:
        identity = identify(connection)
        if identity.is_primary and not self._is_old(identity):
            row = connection.execute(_WAITS).fetchone()
            self.waits_for_standby = bool(row and row[0])
        self._note(host, identity)

    def _note(self, host: Host, identity: Identity | None) -> None:
        if identity is not None:
            self._learn(identity)
        with self._lock:
            self._sightings.pop(host, None)
            if identity is not None:
                self._sightings[host] = _Sighting(identity, time.monotonic())
            self._looked.add(host)
            if len(self._looked) >= len(self._hosts):
                self._has_looked.set()

    def _learn(self, identity: Identity) -> None:
        """Note the timeline of a primary. Give up the connections to one that it has replaced."""
        if not identity.is_primary or not identity.timeline:
            return
        with self._lock:
            known = self._timelines.get(identity.system, 0)
            if identity.timeline <= known:
                return
            self._timelines[identity.system] = identity.timeline
            old = [held for held in self._held.values() if self._is_old(held.identity)]
        if known:
            _log.warning(
                "a standby was promoted: timeline %d follows timeline %d; %d connections to the old primary are given"
                " up, and what was being committed there is looked up on the new one",
                *(identity.timeline, known, len(old)),
            )
        for held in old:
            with suppress(OSError):  # the other side has closed it
                held.socket.shutdown(socket.SHUT_RDWR)

    def _is_old(self, identity: Identity) -> bool:
        return identity.is_primary and 0 < identity.timeline < self._timelines.get(identity.system, 0)

    def _usable_hosts(self) -> Sequence[Host]:
        """Return the hosts that may serve, those first that were seen to. Empty: as the URL says."""
        if len(self._hosts) <= 1:
            return ()
        with self._lock:
            seen = dict(self._sightings)
        since_s = time.monotonic() - FRESH_S

        def rank(host: Host) -> int:
            sighting = seen.get(host)
            if sighting is None or sighting.at_s < since_s:
                return 2
            return 0 if sighting.identity.is_primary else 1

        usable = [host for host in self._hosts if host not in seen or not self._is_old(seen[host].identity)]
        return sorted(usable, key=rank) or self._hosts


def identify(connection: Session) -> Identity:
    """Ask a server what it is. One that does not know of timelines, or tells nobody, is taken as it is."""
    was_automatic, connection.autocommit = connection.autocommit, True
    try:
        row = connection.execute(_IDENTIFY).fetchone()
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        row = None
    finally:
        if not connection.closed:
            connection.autocommit = was_automatic
    if row is None:
        return Identity(is_primary=True, timeline=0, system=0)
    in_recovery, file, system = row
    return Identity(is_primary=not in_recovery, timeline=int(file[:8], 16), system=system)


def _connect(address: Address, hosts: Sequence[Host], *, writes: bool | None, name: str) -> Session:
    """Connect. `writes`: None: for a look at the server, whatever it is."""
    parameters = address.asked(writes=bool(writes), hosts=hosts)
    if writes is None:
        parameters["target_session_attrs"] = "any"
        parameters["connect_timeout"] = "2"
    parameters["application_name"] = name
    text = psycopg.conninfo.make_conninfo(**parameters)
    return Session.connect(text, prepare_threshold=None) if address.is_pooled else Session.connect(text)


def _told(identity: Identity, host: str) -> str:
    return (
        f"{host} is an old primary: it is on timeline {identity.timeline}, and a standby that was promoted is on a"
        " later one; stop it, or make it a standby"
    )
