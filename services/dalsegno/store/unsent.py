"""What a transaction over SQL sends to the database, and when.

Each statement that is waited for costs a round trip to PostgreSQL, which a distant database makes long, and a change of
threads in the engine. Rows are only written, so nobody waits for them: they are sent together before the next statement
that is waited for, or with the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa

from dalsegno.store.rows import Cells
from dalsegno.store.statements import Statements
from dalsegno.store.store import StoreConflict


class _Rows(NamedTuple):
    """A statement, and the rows that it writes."""

    statement: str
    cells: Sequence[Cells]
    is_counted: bool


class Unsent:
    """The statements of one transaction that are not sent yet, in their order."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._cursor: Any = connection.connection.cursor()
        self._rows: list[_Rows] = []
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._has_begun = self._is_sqlite

    @property
    def connection(self) -> sa.Connection:
        """The connection, for a statement that comes after all that was added. Raises what `send` does."""
        self.send()
        return self._connection

    @property
    def cursor(self) -> Any:
        """The driver's cursor, for a statement that comes after all that was added. Raises what `send` does."""
        self.send()
        return self._cursor

    def add(self, statement: str, rows: Sequence[Cells], *, is_counted: bool = False) -> None:
        """Add a statement, to be carried out with each of these rows. `is_counted`: it is a conflict if it does not
        alter exactly one row of the table each time."""
        if rows:
            self._rows.append(_Rows(statement, rows, is_counted))

    def send(self, *, commits: bool = False) -> None:
        """Send what was added, in one round trip. Raises StoreConflict.

        `commits`: with the commit, if the driver can send it along and nothing has to be counted before it. The
        database carries it out only if it has carried out everything before it.
        """
        if not self._rows and (self._has_begun or commits):
            return
        with self._sent_together() as cursor:
            counted = self._write_rows()
            if commits and not counted and not self._is_sqlite:
                cursor.execute("COMMIT", prepare=False)
        if any(each.rowcount != count for each, count in counted):
            raise StoreConflict("an execution is not at the revision from which its changes start")

    @contextmanager
    def together(self) -> Iterator[Any]:
        """Give a cursor whose statements are sent without waiting for each: all take one round trip, with what was
        added before, unless that is counted. Their results are there at the end. An error of a statement is raised
        there at the latest, and those after it do nothing."""
        if any(each.is_counted for each in self._rows):
            self.send()
        with self._sent_together() as cursor:
            self._write_rows()
            yield cursor

    def _write_rows(self) -> list[tuple[Any, int]]:
        """Write what was added. Return the cursors of what is counted, each with the right number of rows."""
        rows, self._rows = self._rows, []
        counted: list[tuple[Any, int]] = []
        for statement, cells, is_counted in rows:
            cursor = self.new_cursor()
            cursor.executemany(statement, cells)
            if is_counted:
                counted.append((cursor, len(cells)))
        return counted

    def ask(self, statement: str, given: Cells) -> list[tuple[Any, ...]]:
        """Carry out one statement after all that was added, in one round trip if that is not counted. Return its rows.
        Raises what `send` does."""
        if self._has_begun and not self._rows:  # a pipeline for one statement would only cost time
            self._cursor.execute(statement, given)
        else:
            with self.together() as cursor:
                cursor.execute(statement, given)
        found: list[tuple[Any, ...]] = self._cursor.fetchall()
        return found

    @contextmanager
    def _sent_together(self) -> Iterator[Any]:
        """Give the cursor of one round trip. The first one of a transaction begins it. Raises StoreConflict."""
        loaded = self._connection.dialect.loaded_dbapi
        try:
            if self._is_sqlite:
                yield self._cursor
                return
            with self._connection.connection.driver_connection.pipeline():  # type: ignore[union-attr]
                if not self._has_begun:  # the driver would wait for a BEGIN of its own
                    self._cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED", prepare=False)
                    self._has_begun = True
                yield self._cursor
        except loaded.Error as failure:
            error = failure if self._is_sqlite else _first_error(failure)
            if isinstance(error, loaded.IntegrityError):
                raise StoreConflict(f"another engine wrote this first: {error}") from error
            raise error from None

    def new_cursor(self) -> Any:
        """Return another cursor, which keeps results beside those of the first one. It sends nothing by itself."""
        return self._connection.connection.cursor()


class Reader:
    """What the parts of SqlQueries have in common: how they read."""

    def __init__(self, connect: Callable[[], sa.Connection]) -> None:
        """`connect` returns the connection for the next statement."""
        self._connect = connect

    @property
    def _connection(self) -> sa.Connection:
        return self._connect()


class Sender:
    """What the parts of SqlTransaction have in common: how they send statements."""

    def __init__(self, unsent: Unsent, statements: Statements) -> None:
        self._unsent, self._statements = unsent, statements

    @property
    def _connection(self) -> sa.Connection:
        return self._unsent.connection

    @property
    def _cursor(self) -> Any:
        return self._unsent.cursor

    def _ask(self, statement: str, *given: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement. It comes after all that was written."""
        return self._unsent.ask(statement, given)

    def _write(self, statement: str, rows: Sequence[Cells]) -> None:
        """Carry out a statement with each of these rows. Nobody waits for it before something else is read."""
        self._unsent.add(statement, rows)


def _first_error(error: BaseException) -> BaseException:
    """Return the error of the statement that failed, if others, which were not carried out because of it, say so."""
    while type(error).__name__ == "PipelineAborted" and error.__context__ is not None:
        error = error.__context__
    return error
