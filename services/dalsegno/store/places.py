"""Rows that are looked up by keys of several columns, many at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from dalsegno.store.prepared import Prepared, parameter

PLACES = 200
"""How many rows are looked up at once."""


class ByPlace:
    """A statement for the rows at some places. It is made once: that takes longer than what it asks for a batch."""

    def __init__(self, statement: sa.Select[Any], *key: sa.ColumnElement[Any]) -> None:
        """`key`: the first columns of an index, which make up a place."""
        # For `IN (VALUES ...)` with several rows SQLite reads the whole table; for a join it uses the index.
        listed = sa.func.json_each(parameter("places", sa.String)).table_valued("value").alias("place")
        parts = (sa.func.json_extract(listed.c.value, f"$[{index}]") for index in range(len(key)))
        self._for_sqlite = Prepared(statement.where(*(column == part for column, part in zip(key, parts, strict=True))))
        places: sa.BindParameter[Any] = sa.bindparam("places", expanding=True)
        self._for_others = statement.where(sa.tuple_(*key).in_(places))

    def rows(self, connection: sa.Connection, places: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield those rows that exist, each once, in no order."""
        places = list(dict.fromkeys(places))
        for start in range(0, len(places), PLACES):
            some = places[start : start + PLACES]
            if connection.dialect.name == "sqlite":
                yield from self._for_sqlite.rows(connection, {"places": json.dumps(some)})
            else:
                yield from connection.execute(self._for_others, {"places": some}).all()
