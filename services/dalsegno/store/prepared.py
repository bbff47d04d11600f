"""Statements that are compiled once for each database, and that the driver's cursor executes.

For a row that is found by its key, SQLAlchemy takes several times as long as the database: to build the statement, to
find what it has compiled of it, and to wrap the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

Cells = tuple[Any, ...]

Parameter = sa.BindParameter[Any]

_NOTHING: Mapping[str, object] = {}


def parameter(name: str, kind: type[sa.types.TypeEngine[Any]] | None = None) -> Parameter:
    """Return a parameter of a prepared statement. It has the type of the column that it is compared with, or `kind`."""
    return sa.bindparam(name, required=False, type_=kind)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement for one kind of database."""

    text: str
    given: Mapping[str, object]
    """The values that the statement itself has."""
    order: tuple[str, ...] | None
    """The names of its parameters in their order; None: the driver takes them by name."""
    flags: tuple[int, ...]
    """The columns whose numbers the driver does not know to be flags."""


class Prepared:
    """A statement with named parameters, none of which is a list."""

    def __init__(self, statement: sa.Select[Any]) -> None:
        self.statement = statement
        self._compiled: dict[str, _Compiled] = {}
        """By the name of the database."""

    def rows(self, connection: sa.Connection, given: Mapping[str, object] = _NOTHING) -> list[Cells]:
        """Return all rows. `given`: the values of the parameters; those of other parameters may be among them."""
        return list(self.each(connection, given))

    def each(self, connection: sa.Connection, given: Mapping[str, object] = _NOTHING) -> Iterator[Cells]:
        """Yield the rows one by one, as long as the caller asks for them."""
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = self._compiled[connection.dialect.name] = _compile(self.statement, connection.dialect)
        values = {**compiled.given, **given}
        arguments = values if compiled.order is None else [values[name] for name in compiled.order]
        cursor: Any = connection.connection.cursor()
        with closing(cursor):
            cursor.execute(compiled.text, arguments)
            for row in cursor:
                yield _with_flags(row, compiled.flags) if compiled.flags else row


def _compile(statement: sa.Select[Any], dialect: sa.Dialect) -> _Compiled:
    compiled: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    order = tuple(compiled.positiontup) if compiled.positional else None
    flags = [index for index, column in enumerate(statement.selected_columns) if isinstance(column.type, sa.Boolean)]
    # SQLite has numbers only; PostgreSQL's driver gives what the column is.
    return _Compiled(str(compiled), compiled.params, order, tuple(flags) if dialect.name == "sqlite" else ())


def _with_flags(row: Cells, columns: tuple[int, ...]) -> Cells:
    """Return the row with flags in place of the numbers in these columns."""
    cells = list(row)
    for index in columns:
        cells[index] = bool(cells[index])
    return tuple(cells)
