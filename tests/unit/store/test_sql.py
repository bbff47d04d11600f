"""How a store holds its connections, and what it makes of errors of the database."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from dalsegno.store import sql, texts
from dalsegno.store.address import read_address
from dalsegno.store.postgres import NAME, Pools
from dalsegno.store.sql import SqlStore
from dalsegno.store.stalls import Phase, Stalls
from dalsegno.store.store import StoreConflict, StoreUnreachable


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """Provide a store in a file, with its tables."""
    made = SqlStore(f"sqlite:///{tmp_path}/store.db")
    made.upgrade()
    yield made
    made.close()


class DriverError(Exception):
    """What a driver raises, with the code of the database."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("two\n lines")
        self.sqlstate = sqlstate


def test_errors_of_the_database_are_told_in_one_sentence(store: SqlStore) -> None:
    """A conflict can be tried again, an outage names the database and what cannot be done; an error of a statement
    stays what it is."""

    def fail(error: Exception) -> None:
        with store._reaching("write"):
            raise error

    with pytest.raises(StoreConflict, match=r"^cannot write sqlite:///\S+/store.db: .*two lines"):
        fail(sa.exc.DBAPIError("UPDATE", None, DriverError("40001")))
    with pytest.raises(StoreUnreachable, match=r"^cannot write sqlite:///\S+/store.db: two lines$"):
        fail(sa.exc.DBAPIError("UPDATE", None, DriverError("25006")))
    with pytest.raises(sa.exc.DBAPIError, match="lines"):
        fail(sa.exc.DBAPIError("UPDATE", None, DriverError("42601")))
    with pytest.raises(ValueError, match="no error of the database"):
        fail(ValueError("no error of the database"))


def test_connections_are_set_for_what_they_do(store: SqlStore) -> None:
    """Writers wait for the disk, and readers cannot write; both see the log of writes."""
    for engine, query_only in ((store._writer, 0), (store._reader, 1)):
        with engine.connect() as connection:
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("synchronous", "query_only", "journal_mode", "temp_store")
            ]
        assert values == [2, query_only, "wal", 2]


def test_a_transaction_that_fails_gives_its_connection_back(store: SqlStore) -> None:
    """The next one gets another, as that one may not be usable; after a success it is kept."""
    with store.write():
        held = store._held
    assert store._held is held is not None
    with pytest.raises(ValueError, match="no"), store.write():
        raise ValueError("no")
    assert store._held is None
    with store.write() as transaction:
        assert transaction.now_s() > 0
    read_only = SqlStore(f"{store._name}", read_only=True)
    with pytest.raises(PermissionError, match="for reading only"), read_only.write():
        raise AssertionError("nothing is written")
    read_only.close()


def test_a_wait_for_the_standby_is_told(store: SqlStore) -> None:
    """While a commit lasts, where the database says that it waits for its synchronous standby."""
    assert store.stall().lasts_s == 0
    servers = SimpleNamespace(waits_for_standby=True)
    store._pools = cast(Pools, SimpleNamespace(servers=servers, close=lambda: None))
    assert store.stall().lasts_s == 0
    with store._stalls.measured(Phase.COMMIT), store._stalls.measured(Phase.STATEMENT):
        assert store.stall().reason == "a commit does not end; the database waits for its synchronous standby"
        servers.waits_for_standby = False
        assert store.stall().reason == "a commit does not end"
    assert store.stall().lasts_s == 0


class Busy:
    """A connection to a file that others have for a while."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)

    def execute(self, statement: str) -> None:
        assert statement == "PRAGMA journal_mode=WAL"
        if self.codes:
            error = sqlite3.OperationalError("busy")
            error.sqlite_errorcode = self.codes.pop(0)
            raise error


def test_the_log_of_writes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While others have the file; not longer than a writer waits, and not for what does not pass."""
    pauses: list[float] = []
    now = [0.0]

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        now[0] += pause_s

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sql._use_wal(Busy(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED | 0x100, sqlite3.SQLITE_BUSY))
    assert len(pauses) == 3
    with pytest.raises(sqlite3.OperationalError):
        sql._use_wal(Busy(sqlite3.SQLITE_CANTOPEN))
    assert len(pauses) == 3
    with pytest.raises(sqlite3.OperationalError):
        sql._use_wal(Busy(*[sqlite3.SQLITE_BUSY] * 10_000))
    assert now[0] > sql._BUSY_S


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:nonsense"])
def test_a_store_in_a_file_needs_a_path(url: str) -> None:
    """Memory is no place for a store that several processes use."""
    with pytest.raises(ValueError, match="needs a path"):
        SqlStore(url)


class Session:
    """A connection to PostgreSQL, with its settings of durability."""

    def __init__(self, commit: str = "on", standbys: str = "s1") -> None:
        self.autocommit: bool | None = None
        self.read_only: bool | None = None
        self.stalls: Stalls | None = None
        self.is_closed = False
        self.statements: list[str] = []
        self.settings = (commit, standbys)
        self.fails = False

    def execute(self, statement: str) -> Any:
        assert self.autocommit
        if self.fails:
            raise ValueError("no")
        self.statements.append(statement)
        return SimpleNamespace(fetchall=lambda: [self.settings])

    def close(self) -> None:
        self.is_closed = True


class Servers:
    """Gives the next session, and notes what is released."""

    def __init__(self) -> None:
        self.next = Session()
        self.names: list[str] = []
        self.released: list[object] = []

    def connect(self, *, writes: bool, name: str) -> Session:
        self.names.append(name)
        return self.next

    def release(self, connection: object) -> None:
        self.released.append(connection)


@pytest.mark.parametrize("pooler", ["", "?pooler=transaction"])
def test_connections_to_postgresql_are_set_for_what_they_do(pooler: str, caplog: pytest.LogCaptureFixture) -> None:
    """Writers have the name of their engine, and are measured; readers begin nothing but what reads; through a pooler
    nothing is set for a session. What was committed and may be lost is told when that changes."""
    stalls = Stalls()
    pools = Pools(read_address(f"postgresql://one/store{pooler}"), stalls)
    servers = Servers()
    pools.servers = servers  # type: ignore[assignment]
    pools.name = "engine 7"
    writer = servers.next
    pools._connect(writes=True, is_measured=True)
    assert (writer.autocommit, writer.read_only, writer.stalls) == (False, None, stalls)
    servers.next = reader = Session()
    pools._connect(writes=False, is_measured=False)
    assert (reader.autocommit, reader.read_only, reader.stalls) == (False, True, None)
    assert servers.names == ["engine 7", NAME]
    assert len(reader.statements) == (0 if pooler else 1)
    told = [" ".join(each.statements) for each in (writer, reader)]
    sets = ["set_config('synchronous_commit'" in each for each in told]
    assert sets == [not pooler, False], "a server that does not wait for its disk is told to"
    assert caplog.records == []
    for commit in ("off", "off", "on"):
        servers.next = Session(commit)
        pools._connect(writes=True, is_measured=True)
    risk, none = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert "synchronous_commit is off" in risk
    assert none == "the database confirms only what its synchronous standby has"
    servers.next = failing = Session()
    failing.fails = True
    with pytest.raises(ValueError, match="no"):
        pools._connect(writes=True, is_measured=True)
    assert (servers.released, failing.is_closed) == ([failing], True)


def test_texts_that_are_too_large_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sizes are asked first; at the limit they are read."""
    read: list[object] = []

    def look_up(connection: object, execution_id: str, wanted: list[str], statement: object) -> list[tuple[str, Any]]:
        read.append(statement)
        return [(each, 5 if statement is texts._SIZES else each * 5) for each in wanted]

    monkeypatch.setattr(texts, "_lookup", look_up)
    connection = cast(sa.Connection, None)
    assert texts.fetch_texts(connection, "e", ["a", "b"], 9) is None
    assert read == [texts._SIZES]
    assert texts.fetch_texts(connection, "e", ["a", "b"], 10) == {"a": "aaaaa", "b": "bbbbb"}
    assert texts.fetch_texts(connection, "e", ["a"]) == {"a": "aaaaa"}
    assert read[-1] is texts._TEXTS
