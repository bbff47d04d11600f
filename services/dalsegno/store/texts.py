"""Large values: from the references in rows to their texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, TypeVar, overload

import sqlalchemy as sa

from dalsegno.store.records import (
    AttemptRow,
    CheckpointRow,
    DefinitionRow,
    EnvironmentRow,
    ExecutionRow,
    TaskResult,
    TaskRow,
)
from dalsegno.store.rows import digests, full, full_object
from dalsegno.store.tables import TEXTS
from dalsegno.workflow.codec import Texts
from dalsegno.workflow.value import byte_length

Record = TypeVar("Record", ExecutionRow, TaskRow, AttemptRow, CheckpointRow, DefinitionRow, EnvironmentRow)

VALUES: dict[type, tuple[str, ...]] = {
    ExecutionRow: ("input", "params", "output", "errors"),
    TaskRow: ("published",),
    AttemptRow: ("input", "result"),
    CheckpointRow: ("data",),
    DefinitionRow: ("text",),
    EnvironmentRow: ("value",),
}
"""The columns that lists contain only if `full`."""

_OTHER_COLUMNS = {
    kind: [field.name for field in fields(kind) if field.name not in names] for kind, names in VALUES.items()
}
"""The columns that all lists contain."""

REFERRING = (ExecutionRow, TaskRow, AttemptRow, CheckpointRow)
"""The kinds of rows whose values may be references."""

ROW_BYTES = 400
"""The maximum size of a row in a message without its texts, in bytes."""

_CHUNK = 400
"""How many texts are looked up at once."""

_THESE = (
    TEXTS.c.execution_id == sa.bindparam("id"),
    TEXTS.c.digest.in_(sa.bindparam("digests", expanding=True)),
)
_TEXTS = sa.select(TEXTS.c.digest, TEXTS.c.text).where(*_THESE)
_SIZES = sa.select(TEXTS.c.digest, sa.func.length(TEXTS.c.text)).where(*_THESE)


def owner(row: object) -> str:
    """Return the id of the execution to which the texts of a row belong."""
    if isinstance(row, ExecutionRow):
        return row.id
    assert isinstance(row, TaskRow | AttemptRow | CheckpointRow)
    return row.execution_id


def references(row: object) -> list[str]:
    """Return the digests of a row's large values."""
    return referenced_digests(getattr(row, name) for name in VALUES[type(row)]) if isinstance(row, REFERRING) else []


def referenced_digests(cells: Iterable[str | None]) -> list[str]:
    """Return the digests that these cells, or journal texts, refer to, each once."""
    return list(dict.fromkeys(digest for cell in cells if cell for digest in digests(cell)))


def resolve(row: Record, texts: Texts) -> Record:
    """Return the row with its large values in place of the references."""
    if isinstance(row, TaskRow):
        return replace(row, published=full_object(row.published, texts)) if row.published is not None else row
    if not isinstance(row, REFERRING):
        return row
    cells: dict[str, Any] = {name: getattr(row, name) for name in VALUES[type(row)]}
    large: dict[str, Any] = {
        name: full(cell, texts) for name, cell in cells.items() if cell is not None and cell.startswith("$")
    }
    return replace(row, **large) if large else row


@overload
def fetch_texts(connection: sa.Connection, execution_id: str, wanted: Collection[str]) -> Texts: ...
@overload
def fetch_texts(
    connection: sa.Connection, execution_id: str, wanted: Collection[str], bytes_max: int
) -> Texts | None: ...


def fetch_texts(
    connection: sa.Connection, execution_id: str, wanted: Collection[str], bytes_max: int | None = None
) -> Texts | None:
    """Return the texts of an execution by digest. None when together they are larger than `bytes_max`."""
    if bytes_max is not None:
        sizes = dict(_lookup(connection, execution_id, wanted, _SIZES))  # in characters
        if sum(sizes.values()) > bytes_max:
            return None
    return Texts(_lookup(connection, execution_id, wanted, _TEXTS))


def _lookup(
    connection: sa.Connection, execution_id: str, wanted: Collection[str], statement: sa.Select[Any]
) -> Iterable[tuple[str, Any]]:
    names = list(wanted)
    for start in range(0, len(names), _CHUNK):
        given = {"id": execution_id, "digests": names[start : start + _CHUNK]}
        yield from ((row[0], row[1]) for row in connection.execute(statement, given))


def fill(connection: sa.Connection, row: Record) -> Record:
    """Return the row with its large values."""
    wanted = references(row)
    return resolve(row, fetch_texts(connection, owner(row), wanted) if wanted else Texts())


def without_values(row: Record) -> Record:
    """Return the row without values, for lists that are not `full`."""
    kind = type(row)
    cells: dict[str, Any] = {name: getattr(row, name) for name in _OTHER_COLUMNS[kind]}
    return kind(**cells, **dict.fromkeys(VALUES[kind]))  # type: ignore[arg-type]


def dropped_result(task: TaskRow | None) -> str | None:
    """Return the result of a task that keeps none. With items, that is a null for each."""
    if task is None or task.item_count is None:
        return None
    return f"[{','.join(['null'] * task.item_count)}]"


def bounded_result(text: str | None, bytes_max: int) -> TaskResult:
    """Return a result, unless it is too large."""
    is_too_large = text is not None and byte_length(text) > bytes_max
    return TaskResult(None if is_too_large else text, is_too_large)


def row_bytes(row: object) -> int:
    """Estimate the bytes of a row in a message: its texts, and the same again for everything else."""
    kind = type(row)
    if kind not in _CELLS:
        _CELLS[kind] = attrgetter(*(field.name for field in fields(row)))  # type: ignore[arg-type]
    return ROW_BYTES + sum(byte_length(cell) for cell in _CELLS[kind](row) if type(cell) is str)


_CELLS: dict[type, Callable[[object], tuple[object, ...]]] = {}
"""What reads all columns of a kind of row: to find them for each row would take most of the time."""
