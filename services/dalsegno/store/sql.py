"""The store over SQL: SQLite for one engine, PostgreSQL for several."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from dalsegno.store.engines import connection_name, end_engine, name_connections, register_engine
from dalsegno.store.files import FILE_MODE, EngineLock, prepare_file
from dalsegno.store.migrate import check_tables, upgrade
from dalsegno.store.outages import is_outage, outage_of
from dalsegno.store.queries import SqlQueries
from dalsegno.store.statements import Statements
from dalsegno.store.store import Queries, Transaction
from dalsegno.store.transaction import SqlTransaction

_BUSY_S = 30.0
"""How long SQLite waits for the transaction of another process before it writes."""

_READER_WAITS_S = 5.0
"""How long a reader waits for SQLite, or for a free connection, before it fails."""


class SqlStore:
    """See store.Store."""

    def __init__(
        self, url: str, *, read_only: bool = False, readers: int = 8, clock: Callable[[], float] | None = None
    ) -> None:
        """`clock` gives the store's time; None: PostgreSQL's own clock, and with SQLite this machine's."""
        self._clock = clock
        self._url = driver_url(url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._statements = Statements("sqlite" if self._is_sqlite else "postgresql")
        self._read_only = read_only
        self._writing = threading.Lock()
        self._lock: EngineLock | None = None
        # The writer keeps one connection: getting it from the pool for each transaction would cost as much as a row.
        self._held: sa.Connection | None = None
        # What an engine writes beside its batches, which may take long or wait for other engines.
        self._beside: sa.Engine | None = None
        if self._is_sqlite:
            self._writer, self._reader = _sqlite_engine(self._url, 1, True), _sqlite_engine(self._url, readers, False)
        else:
            self._writer, self._reader = (
                _postgres_engine(self._url, 1, True),
                _postgres_engine(self._url, readers, False),
            )
        self._driver_errors = (self._writer.dialect.loaded_dbapi.Error,)
        if self._is_sqlite and not read_only:
            with self._opening():
                prepare_file(self._file)

    @property
    def _name(self) -> str:
        """The name of the database, as it was given, without its password."""
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string()

    @property
    def _file(self) -> Path:
        """The path of the SQLite file, without symbolic links."""
        return Path(str(self._url.database)).resolve()

    @contextmanager
    def _reaching(self, purpose: str) -> Iterator[None]:
        """Raise an outage as one sentence."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, *self._driver_errors) as error:
            if not is_outage(error):
                raise
            raise outage_of(error, f"cannot {purpose} {self._name}") from error

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Raise an error at the opening of the database as one sentence."""
        try:
            with self._reaching("open"):
                yield
        except OSError as error:
            raise outage_of(error, f"cannot open {self._name}") from None

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._transaction() as connection:
            yield SqlTransaction(connection, self._statements, self._clock)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        if self._read_only:
            raise PermissionError("this store was opened for reading only")
        with self._reaching("write"), self._writing:
            if self._held is None:
                self._held = self._writer.connect()
            try:
                with self._held.begin():
                    yield self._held
            except BaseException:
                self._release()  # the pool finds out whether the connection is still usable
                raise

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    @contextmanager
    def read(self) -> Iterator[Queries]:
        with self._reaching("read"), self._reader.begin() as connection:
            yield SqlQueries(connection)

    def upgrade(self) -> None:
        with self._opening(), self._writing:
            self._release()
            upgrade(self._writer)

    def check_version(self) -> None:
        with self._opening(), self._reader.begin() as connection:
            check_tables(connection)

    def hold_engine_lock(self) -> None:
        if not self._is_sqlite or self._lock is not None:
            return
        with self._opening():
            self._lock = EngineLock(self._file)

    def register_engine(self, engine_id: str, process: str, *, is_alone: bool) -> int:
        number = register_engine(self._transaction, self._statements, engine_id, process, is_alone=is_alone)
        if not self._is_sqlite:
            with self._writing:
                self._release()
                self._writer.dispose()  # its next connection has the name of the engine
                self._beside = self._beside or _postgres_engine(self._url, 1, True)
                for engine in (self._writer, self._beside):
                    name_connections(engine, connection_name(number))
        return number

    def renew_engine(self, number: int, patience_s: float) -> bool:
        with self._transaction_beside() as connection:
            done = connection.exec_driver_sql(self._statements.renew_engine, (patience_s, number))
            return done.rowcount > 0

    def end_engine(self, number: int) -> bool:
        with self._transaction_beside() as connection:
            return end_engine(connection, self._statements, number, can_cut_off=not self._is_sqlite)

    @contextmanager
    def _transaction_beside(self) -> Iterator[sa.Connection]:
        """Begin a transaction that waits for no batch of this engine, where the database allows several."""
        if self._beside is None:
            with self._transaction() as connection:
                yield connection
            return
        with self._reaching("write"), self._beside.begin() as connection:
            yield connection

    def is_available(self) -> bool:
        try:
            with self._reader.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
        except (sa.exc.SQLAlchemyError, OSError):
            return False
        return True

    def close(self) -> None:
        self._release()
        self._writer.dispose()
        self._reader.dispose()
        if self._beside is not None:
            self._beside.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def inspect(self) -> Iterator[sa.Connection]:
        """Give a connection that reads the tables themselves, at one moment."""
        with self._reaching("read"), self._reader.begin() as connection:
            yield connection

    def backup(self, target: Path) -> None:
        """Copy a SQLite store at one moment to a file. Raises ValueError for another database."""
        if not self._is_sqlite:
            raise ValueError("only a SQLite store can be copied: use pg_dump for PostgreSQL")
        import sqlite3

        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
        try:
            with self._reaching("copy"), self._reader.connect() as connection, sqlite3.connect(target) as copy:
                source: Any = connection.connection.dbapi_connection
                source.backup(copy)
            copy.close()
        except BaseException:
            target.unlink()
            raise


def driver_url(url: str) -> sa.URL:
    """Return the URL with the driver that is used. Raises ValueError for a SQLite URL without a path, and for no
    URL."""
    try:
        parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1))
    except (sa.exc.ArgumentError, ValueError):  # their messages may contain the password
        raise ValueError(
            "the URL of the store cannot be read: sqlite:///path or postgresql://user@host:port/name"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ValueError("a SQLite store needs a path, like sqlite:////var/lib/dalsegno/store.db")
        return parsed.set(drivername="sqlite+pysqlite")
    return parsed.set(drivername="postgresql+psycopg")


def _sqlite_engine(url: sa.URL, connections: int, is_writer: bool) -> sa.Engine:
    import sqlite3

    wait_s = _BUSY_S if is_writer else _READER_WAITS_S
    # Never creates the file: a reader must not, and for an engine it exists already with the right mode.
    name = f"file:{quote(str(url.database))}?mode=rw"
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_s,
        creator=lambda: sqlite3.connect(name, uri=True, timeout=wait_s, check_same_thread=False, cached_statements=256),
    )
    pragmas = ["PRAGMA synchronous=FULL", "PRAGMA cache_size=-16384", "PRAGMA temp_store=MEMORY"]
    begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"
    if not is_writer:
        pragmas.append("PRAGMA query_only=ON")

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions itself, and too late
        if is_writer:
            _use_wal(connection)
        for pragma in pragmas:
            connection.execute(pragma)

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        # Directly to the driver: through SQLAlchemy this takes twice as long as the rest of a transaction's beginning.
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(begin)
        except connection.dialect.loaded_dbapi.OperationalError as error:
            raise sa.exc.OperationalError(begin, None, error) from error

    return engine


def _use_wal(connection: Any) -> None:
    """Switch to WAL. Repeat it, because this statement does not wait for other processes as others do."""
    import sqlite3

    until_s = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.02)


def _postgres_engine(url: sa.URL, connections: int, is_writer: bool) -> sa.Engine:
    # Compiling a statement takes a thousand times as long as running it: the conditions on discards look costly to the
    # planner, and are not evaluated while nothing is discarded.
    options = "-c jit=off" if is_writer else "-c jit=off -c default_transaction_read_only=on"
    return sa.create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_BUSY_S if is_writer else _READER_WAITS_S,
        pool_pre_ping=not is_writer,
        isolation_level="READ COMMITTED" if is_writer else "REPEATABLE READ",
        connect_args={"options": options, "connect_timeout": 10, "application_name": "dalsegno"},
    )
