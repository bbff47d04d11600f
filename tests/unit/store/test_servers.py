"""Which servers of a database are used, and what becomes of connections to one that was replaced."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from dalsegno.store import servers
from dalsegno.store.address import Host, read_address
from dalsegno.store.servers import Identity, OldPrimary, Servers, identify

FIRST, SECOND, THIRD = (Host(name, "", "5432") for name in ("a", "b", "c"))
URL = "postgresql://user@a:5432,b:5432,c:5432/db"
SOCKETS: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close all sockets after the test, also the copies that are kept."""

    def copy(fileno: int) -> socket.socket:
        SOCKETS.append(socket.socket(fileno=fileno))
        return SOCKETS[-1]

    monkeypatch.setattr(servers, "socket", SimpleNamespace(socket=copy, SHUT_RDWR=socket.SHUT_RDWR))
    yield
    while SOCKETS:
        SOCKETS.pop().close()


class Connection:
    """A connection to a server that says this of itself: whether it recovers, its file of the log, its system."""

    def __init__(self, host: str, *said: Any, error: Exception | None = None) -> None:
        self.ours, self.theirs = socket.socketpair()
        SOCKETS.extend((self.ours, self.theirs))
        self.autocommit = False
        self.closed = False
        self.waits = False
        self.info = SimpleNamespace(host=host)
        self.pgconn = SimpleNamespace(socket=self.ours.fileno(), info=())
        self._said, self._error = said or None, error

    def execute(self, text: str) -> Any:
        assert self.autocommit, "a look opens no transaction"
        if "SyncRep" in text:
            return SimpleNamespace(fetchone=lambda: (self.waits,))
        if self._error is not None:
            raise self._error
        return SimpleNamespace(fetchone=lambda: self._said)

    def close(self) -> None:
        self.closed = True

    def is_given_up(self) -> bool:
        """Return whether somebody has shut it."""
        self.theirs.setblocking(False)
        try:
            return self.theirs.recv(1) == b""
        except BlockingIOError:
            return False


def primary(host: str, timeline: int, system: int = 1) -> Connection:
    return Connection(host, False, f"{timeline:08X}0000000100000002", system)


class World:
    """What the next connections are, and what was asked for."""

    def __init__(self) -> None:
        self.next: list[Connection | Exception] = []
        self.asked: list[tuple[list[str], bool | None]] = []

    def connect(self, address: object, hosts: Sequence[Host], *, writes: bool | None, name: str) -> Connection:
        self.asked.append(([host.name for host in hosts], writes))
        found = self.next.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Provide the connections; nobody looks by itself."""
    world = World()
    monkeypatch.setattr(servers, "_connect", world.connect)
    monkeypatch.setattr(servers, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(Servers, "_look_on", lambda self, host: None)
    return world


def connect(known: Servers, world: World, connection: Connection) -> Any:
    world.next = [connection]
    return known.connect(writes=True, name="dalsegno")


def test_connections_to_a_replaced_primary_are_given_up(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """As soon as a later timeline of its system is seen; those to others stay, and so does a closed one."""
    known = Servers(read_address(URL))
    old, closed, other, standby = primary("a", 3), primary("a", 3), primary("x", 1, 2), Connection("b", True, "0", 1)
    for each in (old, closed, other, standby):
        assert connect(known, world, each) is each
    known.release(closed)
    known.release(closed)
    newer = primary("b", 10)
    with caplog.at_level(logging.WARNING):
        connect(known, world, newer)
    assert [each.is_given_up() for each in (old, closed, other, standby, newer)] == [True, False, False, False, False]
    (record,) = [each for each in caplog.records if each.name == servers.__name__]
    assert "timeline 10 follows timeline 3; 1 connections" in record.getMessage()
    again = primary("a", 3)
    with pytest.raises(OldPrimary, match="a is an old primary: it is on timeline 3"):
        connect(known, world, again)
    assert again.closed
    connect(known, world, primary("b", 10))
    assert len([each for each in caplog.records if each.name == servers.__name__]) == 1


def test_hosts_are_tried_in_the_order_of_what_was_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary first, then a standby, then those of which nothing is known now; a replaced one is not tried, unless
    there is no other."""
    known = Servers(read_address(URL))
    assert known._usable_hosts() == [FIRST, SECOND, THIRD]
    known._note(SECOND, Identity(is_primary=False, timeline=0, system=1))
    known._note(THIRD, Identity(is_primary=True, timeline=4, system=1))
    assert known._usable_hosts() == [THIRD, SECOND, FIRST]
    assert not known._has_looked.is_set()
    known._note(FIRST, None)
    assert known._has_looked.is_set()
    now_s = time.monotonic() + servers.FRESH_S + 1
    with monkeypatch.context() as later:
        later.setattr(time, "monotonic", lambda: now_s)
        assert known._usable_hosts() == [FIRST, SECOND, THIRD]
    known._note(FIRST, Identity(is_primary=True, timeline=5, system=1))
    assert known._usable_hosts() == [FIRST, SECOND]
    known._note(SECOND, None)
    assert known._usable_hosts() == [FIRST, SECOND]
    connect(known, world, primary("a", 5))
    assert world.asked[-1] == (["a", "b"], True)
    known._learn(Identity(is_primary=True, timeline=6, system=1))
    known._note(SECOND, Identity(is_primary=True, timeline=5, system=1))
    assert list(known._usable_hosts()) == [FIRST, SECOND, THIRD], "else none would be left"


def test_behind_a_pooler_the_server_is_checked(world: World) -> None:
    """What was seen last says whether a pooler leads to a replaced primary; without a pooler each connection says it
    itself."""
    pooled, plain = (Servers(read_address(f"postgresql://user@a/db{end}")) for end in ("?pooler=transaction", ""))
    for known in (pooled, plain):
        known.check()
        known._note(Host("a", "", ""), Identity(is_primary=True, timeline=1, system=1))
        known.check()
        known._learn(Identity(is_primary=True, timeline=2, system=1))
    plain.check()
    with pytest.raises(OldPrimary, match="a is an old primary"):
        pooled.check()
    assert pooled._usable_hosts() == ()


def test_a_server_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary its timeline, in hex digits, and its system; a standby has none; what knows nothing of that is taken
    for a primary. The connection is left as it was."""
    said = [
        (primary("a", 26, 7), Identity(is_primary=True, timeline=26, system=7)),
        (Connection("a", True, "0", 7), Identity(is_primary=False, timeline=0, system=7)),
        (Connection("a", error=psycopg.ProgrammingError()), Identity(is_primary=True, timeline=0, system=0)),
        (Connection("a", error=psycopg.NotSupportedError()), Identity(is_primary=True, timeline=0, system=0)),
    ]
    for connection, identity in said:
        assert identify(connection) == identity  # type: ignore[arg-type]
        assert connection.autocommit is False
    gone = Connection("a", error=psycopg.OperationalError())
    gone.closed = True
    with pytest.raises(psycopg.OperationalError):
        identify(gone)  # type: ignore[arg-type]
    assert gone.autocommit is True


def test_a_look_tells_whether_commits_wait(world: World) -> None:
    """A primary that is not replaced says whether its commits wait for a standby; what others say is not asked for."""
    known = Servers(read_address(URL))
    for connection, waits in ((primary("a", 2), True), (primary("a", 2), False), (primary("b", 1), False)):
        connection.autocommit = True
        connection.waits = waits or connection.info.host == "b"
        known._look(FIRST, connection)  # type: ignore[arg-type]
        assert known.waits_for_standby is waits
    assert known._sightings[FIRST].identity.timeline == 1


def test_each_host_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again over one connection, over a new one after a while, and without one it is known that nobody is
    there; a service is asked for its hosts first."""
    world = World()
    monkeypatch.setattr(servers, "_connect", world.connect)
    for name in ("LOOK_EVERY_S", "CONNECT_EVERY_S"):
        monkeypatch.setattr(servers, name, 0.01)
    known = Servers(read_address("postgresql://user@a/db"))
    seen: list[Identity | None] = []

    def note(host: Host, identity: Identity | None) -> None:
        seen.append(identity)
        if not world.next:
            known._stopped.set()

    monkeypatch.setattr(known, "_note", note)
    first, second = primary("a", 1), primary("a", 1)
    world.next = [first, psycopg.OperationalError(), second]
    known._look_on(FIRST)
    assert [each is None for each in seen].count(True) == 1
    assert (first.closed, second.closed, first.autocommit) == (True, True, True)
    assert world.asked == [(["a"], None)] * 3
    assert seen[0] == Identity(is_primary=True, timeline=1, system=1)

    service = Connection("s")
    options = {"host": b"x,y", "hostaddr": None, "port": b"1"}
    service.pgconn.info = [SimpleNamespace(keyword=name.encode(), val=value) for name, value in options.items()]
    world.next = [service]
    found = Servers(read_address("postgresql:///?service=db"))._hosts_of_service()
    assert [host.shown for host in found] == ["x:1", "y:1"]
    assert service.closed


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Note what is asked of libpq."""
    noted: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def connect(text: str, **more: Any) -> None:
        noted.append((psycopg.conninfo.conninfo_to_dict(text), more))

    monkeypatch.setattr(servers.Session, "connect", connect)
    return noted


def test_a_look_takes_any_server_and_has_little_time(texts: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """What writes wants a server that takes writes; through a pooler nothing is prepared. Each says who it is."""
    plain, pooled = read_address(URL), read_address("postgresql://user@a/db?pooler=transaction")
    servers._connect(plain, (SECOND,), writes=None, name="look")
    servers._connect(plain, (), writes=True, name="write")
    servers._connect(pooled, (), writes=False, name="read")
    look, write, _ = texts
    assert (look[0]["target_session_attrs"], look[0]["connect_timeout"], look[0]["host"]) == ("any", "2", "b")
    assert (write[0]["target_session_attrs"], write[0]["connect_timeout"]) == ("read-write", "5")
    assert [each[0]["application_name"] for each in texts] == ["look", "write", "read"]
    assert [each[1] for each in texts] == [{}, {}, {"prepare_threshold": None}]
