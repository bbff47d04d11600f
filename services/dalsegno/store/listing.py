"""Lists over SQL: the conditions of a filter, an order, and pages by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic

import sqlalchemy as sa

from dalsegno.store.filters import Filter, Prefix, Suffix, Term, Wanted
from dalsegno.store.pages import PAGE_BYTES_MAX, page_size, read_token, write_token
from dalsegno.store.prepared import Prepared, parameter
from dalsegno.store.records import Page
from dalsegno.store.tables import CHECKPOINTS, DOCUMENTS, EXECUTIONS, LABELS, TAGS
from dalsegno.store.texts import VALUES, Record, fill, row_bytes

Condition = sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Order:
    """The columns that order a list. Together they are unique."""

    columns: tuple[sa.ColumnElement[Any], ...]
    shape: tuple[type, ...]
    """The types of the columns' values."""
    descending: bool = False

    def after(self, key: Sequence[object]) -> Condition:
        """Return the condition for the rows after this key."""
        mine, theirs = sa.tuple_(*self.columns), sa.tuple_(*map(sa.literal, key))
        return mine < theirs if self.descending else mine > theirs

    @property
    def clauses(self) -> list[sa.ColumnElement[Any]]:
        """The clauses of ORDER BY."""
        return [column.desc() if self.descending else column.asc() for column in self.columns]


@dataclass(frozen=True, slots=True)
class Listing(Generic[Record]):
    """One kind of list."""

    kind: type[Record]
    table: sa.Table
    subject: str
    """Identifies the list in its page tokens."""
    order: Order
    source: sa.FromClause | None = None
    """The table with all joined tables."""

    def page(
        self, connection: sa.Connection, where: list[Condition], chosen: Filter, size: int, token: str, full: bool
    ) -> Page[Record]:
        """Return one page."""
        return self.page_of(connection, self.statement(where, full), {}, chosen, size, token, full)

    def page_of(
        self,
        connection: sa.Connection,
        statement: sa.Select[Any] | Prepared,
        given: Mapping[str, object],
        chosen: Filter,
        size: int,
        token: str,
        full: bool,
    ) -> Page[Record]:
        """Return one page of what `statement` has made. `given`: the values of the parameters in its conditions."""
        key = read_token(token, self.subject, chosen, self.order.shape)
        if key is not None:
            built = statement.statement if isinstance(statement, Prepared) else statement
            statement = built.where(self.order.after(key))
        size = page_size(size)
        names = [column.name for column in self.order.columns]

        def token_after(row: Record) -> str:
            return write_token(self.subject, chosen, tuple(getattr(row, name) for name in names))

        shown: list[Record] = []
        total = 0
        for read in self._read(connection, statement, {**given, "limit": size + 1}):
            row = fill(connection, read) if full else read
            total += row_bytes(row)
            if len(shown) == size or (shown and total > PAGE_BYTES_MAX):
                break
            shown.append(row)
        else:
            return Page(shown, "", token_after)
        return Page(shown, token_after(shown[-1]), token_after)

    def rows(self, connection: sa.Connection, where: list[Condition], limit: int, full: bool = False) -> list[Record]:
        """Return the first rows. Large values are references."""
        return list(self._read(connection, self.statement(where, full), {"limit": limit}))

    def statement(self, where: list[Condition], full: bool) -> sa.Select[Any]:
        """Return the statement for the first rows; the parameter `limit` says how many."""
        chosen = columns(self.kind, self.table, full)
        statement = sa.select(*chosen).select_from(self.table if self.source is None else self.source)
        limit = parameter("limit", sa.Integer)
        return statement.where(*where).order_by(*self.order.clauses).limit(limit)

    def _read(
        self, connection: sa.Connection, statement: sa.Select[Any] | Prepared, given: Mapping[str, object]
    ) -> Iterator[Record]:
        """Yield the rows one by one, as long as the caller asks for them."""
        if isinstance(statement, Prepared):
            yield from (self.kind(*row) for row in statement.each(connection, given))
            return
        with connection.execute(statement, given) as found:
            for row in found:
                yield self.kind(*row)


def one_row(
    kind: type[Record],
    table: sa.Table,
    *where: Condition,
    source: sa.FromClause | None = None,
    order: sa.ColumnElement[Any] | None = None,
    full: bool = True,
) -> Prepared:
    """Return the statement for one row. Without `full` values are null."""
    statement = sa.select(*columns(kind, table, full)).select_from(table if source is None else source).where(*where)
    return Prepared((statement if order is None else statement.order_by(order)).limit(1))


def read_record(
    connection: sa.Connection, kind: type[Record], statement: Prepared, given: Mapping[str, object]
) -> Record | None:
    """Return the row of a statement of `one_row`. Large values are references. `given`: the values of its
    parameters."""
    rows = statement.rows(connection, given)
    return kind(*rows[0]) if rows else None


def columns(kind: type[Record], table: sa.Table, full: bool) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a record in its order. Without `full` values are null."""
    return [
        sa.null().label(field.name)
        if not full and field.name in VALUES[kind]
        else (table.c[field.name] if field.name in table.c else DOCUMENTS.c[field.name])
        for field in fields(kind)
    ]


def conditions(
    chosen: Filter, table: sa.Table, owner: sa.ColumnElement[Any], other: sa.Table | None = None
) -> list[Condition]:
    """Return the filter as SQL. `owner`: the column that labels or tags refer to; `other`: the table with the columns
    that `table` lacks."""
    return [_condition(term, table, owner, other) for term in chosen.terms]


def _condition(term: Term, table: sa.Table, owner: sa.ColumnElement[Any], other: sa.Table | None) -> Condition:
    if term.column == "label":
        wanted = sa.and_(
            LABELS.c.execution_id == owner, LABELS.c.key == term.label, _among(LABELS.c.value, term.values)
        )
        return _or_opposite(sa.exists().where(wanted), term)
    if term.column == "tag":
        return _or_opposite(sa.exists().where(TAGS.c.definition_id == owner, _among(TAGS.c.tag, term.values)), term)
    if term.column == "checkpoint":
        entry = sa.and_(
            CHECKPOINTS.c.execution_id == owner,
            ~CHECKPOINTS.c.undone,
            CHECKPOINTS.c.sequence >= table.c.first_sequence,
            _among(CHECKPOINTS.c.name, term.values),
        )
        return _or_opposite(sa.exists().where(entry), term)
    if term.column == "forks":
        fork = EXECUTIONS.alias()
        return _or_opposite(sa.exists().where(fork.c.forked_from == owner, _among(fork.c.id, term.values)), term)
    if term.column == "revert":
        return _or_opposite((table.c.reverts != 0).in_(term.values), term)
    if term.column == "superseded":
        return _or_opposite((table.c.superseded_by != "").in_(term.values), term)
    source = other if other is not None and term.column not in table.c else table
    column = source.c[term.column]
    value = term.values[0]
    match term.operator:
        case "=" | "!=":
            return _or_opposite(_among(column, term.values), term, column)
        case "<":
            return column < value
        case "<=":
            return column <= value
        case ">":
            return column > value
        case ">=":
            return column >= value


def _or_opposite(found: Condition, term: Term, column: sa.ColumnElement[Any] | None = None) -> Condition:
    """Return the condition, or for `!=` its opposite, which also holds where the column has no value."""
    if term.operator == "=":
        return found
    return ~found if column is None else sa.or_(column.is_(None), ~found)


def _among(column: sa.ColumnElement[Any], values: Sequence[Wanted]) -> Condition:
    """Return the condition for any of these values. LIKE cannot be used: in SQLite it ignores case."""
    whole = [value for value in values if not isinstance(value, Prefix | Suffix)]
    found: list[Condition] = []
    if whole:
        found.append(column == whole[0] if len(whole) == 1 else column.in_(whole))
    for value in values:
        length = len(value.text) if isinstance(value, Prefix | Suffix) else 0
        if isinstance(value, Prefix):
            found.append(sa.func.substr(column, 1, length) == value.text)
        elif isinstance(value, Suffix):
            found.append(sa.func.substr(column, sa.func.length(column) - length + 1, length) == value.text)
    return found[0] if len(found) == 1 else sa.or_(*found)
