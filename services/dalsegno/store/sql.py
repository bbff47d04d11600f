"""The store over SQL: SQLite for one engine, PostgreSQL for several."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa

from dalsegno.store.address import Address, read_address
from dalsegno.store.engines import connection_name, end_engine, register_engine
from dalsegno.store.files import FILE_MODE, EngineLock, prepare_file
from dalsegno.store.migrate import check_tables, upgrade
from dalsegno.store.outages import is_conflict, is_outage, outage_of
from dalsegno.store.queries import SqlQueries
from dalsegno.store.stalls import Phase, Stall, Stalls
from dalsegno.store.statements import Statements
from dalsegno.store.store import Queries, StoreConflict, Transaction
from dalsegno.store.transaction import SqlTransaction
from dalsegno.store.unsent import Unsent

if TYPE_CHECKING:
    from dalsegno.store.postgres import Pools

_BUSY_S = 30.0
"""How long SQLite waits for the transaction of another process before it writes."""

_READER_WAITS_S = 5.0
"""How long a reader waits for SQLite, or for a free connection, before it fails."""


Shown = TypeVar("Shown")


class SqlStore:
    """See store.Store."""

    def __init__(
        self, url: str, *, read_only: bool = False, readers: int = 8, clock: Callable[[], float] | None = None
    ) -> None:
        """`clock` gives the store's time; None: PostgreSQL's own clock, and with SQLite this machine's."""
        self._clock = clock
        self._is_sqlite = url.startswith("sqlite:")
        self._stalls = Stalls()
        self._pools: Pools | None = None
        self._statements = Statements("sqlite" if self._is_sqlite else "postgresql")
        self._read_only = read_only
        self._writing = threading.Lock()
        self._lock: EngineLock | None = None
        # The writer keeps one connection: getting it from the pool for each transaction would cost as much as a row.
        self._held: sa.Connection | None = None
        # What an engine writes beside its batches, which may take long or wait for other engines.
        self._beside: sa.Engine | None = None
        if self._is_sqlite:
            path = file_path(url)
            self._name, self._file = f"sqlite:///{path}", path.resolve()
            self._writer, self._reader = _sqlite_engine(path, 1, True), _sqlite_engine(path, readers, False)
        else:
            address = read_address(url)
            self._name = address.shown
            pools = self._pools = _open_pools(address, self._stalls)
            self._writer = pools.open(1, writes=True, wait_s=_BUSY_S, is_measured=True)
            self._reader = pools.open(readers, writes=False, wait_s=_READER_WAITS_S)
        self._driver_errors = (self._writer.dialect.loaded_dbapi.Error,)
        if self._is_sqlite and not read_only:
            with self._opening():
                prepare_file(self._file)

    @contextmanager
    def _reaching(self, purpose: str) -> Iterator[None]:
        """Raise an outage as one sentence."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, *self._driver_errors) as error:
            if is_conflict(error):
                raise StoreConflict(f"cannot {purpose} {self._name}: {' '.join(str(error).split())}") from error
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

    def write(self) -> AbstractContextManager[Transaction]:
        return self._begun(lambda unsent: SqlTransaction(unsent, self._statements, self._clock))

    def _transaction(self) -> AbstractContextManager[sa.Connection]:
        return self._begun(lambda unsent: unsent.connection)

    @contextmanager
    def _begun(self, shown: Callable[[Unsent], Shown]) -> Iterator[Shown]:
        """Begin a transaction. Give what `shown` makes of it."""
        if self._read_only:
            raise PermissionError("this store was opened for reading only")
        with self._reaching("write"), self._writing:
            try:
                with self._stalls.measured(Phase.BEGIN):
                    transaction, connection = self._begin()
                with transaction:
                    unsent = Unsent(connection)
                    yield shown(unsent)
                    # What follows is never cancelled by us, however long it takes: a commit whose wait for a standby is
                    # broken off is reported as done, though the standby may lack it.
                    with self._stalls.measured(Phase.COMMIT):
                        unsent.send(commits=True)
                        transaction.commit()  # sends nothing if that was sent along
            except BaseException:
                self._release()  # the pool finds out whether the connection is still usable
                raise

    def _begin(self) -> tuple[sa.RootTransaction, sa.Connection]:
        if self._pools is not None:
            self._pools.servers.check()
        if self._held is None:
            self._held = self._writer.connect()
            if not self._is_sqlite:  # `Unsent` begins transactions, with the first statements
                self._held = self._held.execution_options(isolation_level="AUTOCOMMIT")
        return self._held.begin(), self._held

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    @contextmanager
    def read(self) -> Iterator[Queries]:
        with self._reaching("read"), self._reader.begin() as connection:
            yield SqlQueries(lambda: connection)

    def upgrade(self) -> bool:
        with self._opening(), self._writing:
            self._release()
            return upgrade(self._writer)

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
        if self._pools is not None:
            with self._writing:
                self._release()
                self._pools.name = connection_name(number)
                self._writer.dispose()  # its next connection has the name of the engine
                self._beside = self._beside or self._pools.open(1, writes=True, wait_s=_BUSY_S)
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

    def stall(self) -> Stall:
        stall = self._stalls.present()
        if stall.lasts_s and self._pools is not None and self._pools.servers.waits_for_standby:
            return Stall(stall.lasts_s, f"{stall.reason}; the database waits for its synchronous standby")
        return stall

    def close(self) -> None:
        if self._writing.acquire(blocking=False):  # else a commit hangs: it ends with the process, and is not cancelled
            self._release()
            self._writing.release()
        self._writer.dispose()
        self._reader.dispose()
        if self._beside is not None:
            self._beside.dispose()
        if self._pools is not None:
            self._pools.close()
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


def file_path(url: str) -> Path:
    """Return the path in a SQLite URL. Raises ValueError if there is none."""
    try:
        database = sa.make_url(url).database
    except sa.exc.ArgumentError:
        database = None
    if database in (None, "", ":memory:"):
        raise ValueError("a SQLite store needs a path, like sqlite:////var/lib/dalsegno/store.db")
    return Path(str(database))


def _open_pools(address: Address, stalls: Stalls) -> Pools:
    from dalsegno.store.postgres import Pools  # psycopg need not be installed for SQLite

    return Pools(address, stalls)


def _sqlite_engine(path: Path, connections: int, is_writer: bool) -> sa.Engine:
    import sqlite3

    wait_s = _BUSY_S if is_writer else _READER_WAITS_S
    # Never creates the file: a reader must not, and for an engine it exists already with the right mode.
    name = f"file:{quote(str(path))}?mode=rw"
    engine = sa.create_engine(
        "sqlite+pysqlite://",
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
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() > until_s:
                raise
            time.sleep(0.02)
