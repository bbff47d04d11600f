"""Recognizes the errors of a database that is not available, damaged or full. Other errors are those of a statement.

Driver errors are recognized by the names of their classes, which PEP 249 defines, so psycopg need not be installed.
"""

from __future__ import annotations

import sqlalchemy as sa

from dalsegno.store.store import StoreConflict, StoreDamaged, StoreUnreachable

_READ_ONLY = "25006"
"""PostgreSQL's error of what it takes for no bad statement: the server is a standby, or was made read-only."""

_ROLLED_BACK = "40"
"""PostgreSQL's class of errors of transactions that met: deadlocks and failed serializations."""


def is_outage(error: BaseException) -> bool:
    """Return whether the error is an outage, and not caused by the statement."""
    if isinstance(error, StoreUnreachable | OSError | sa.exc.TimeoutError):
        return True
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    cause = _cause(error)
    if _is_damage(cause):
        return True
    state = getattr(cause, "sqlstate", None) or ""
    if state == _READ_ONLY:
        return True
    if is_conflict(error):
        return False
    names = {kind.__name__ for kind in type(cause).__mro__}
    is_postgres = type(cause).__module__.startswith("psycopg")
    return "OperationalError" in names or (is_postgres and "InterfaceError" in names)


def is_conflict(error: BaseException) -> bool:
    """Return whether the database has rolled a transaction back because it met another one. Another try succeeds."""
    return (getattr(_cause(error), "sqlstate", None) or "").startswith(_ROLLED_BACK)


def is_of_store(error: BaseException) -> bool:
    """Return whether the error is the store's: an outage, or a transaction that met another one. It says nothing about
    what was read or written."""
    return isinstance(error, StoreConflict) or is_outage(error) or is_conflict(error)


def outage_of(error: BaseException, what: str) -> StoreUnreachable:
    """Return the outage with one sentence. `what` names the database and what cannot be done."""
    cause = _cause(error)
    kind = StoreDamaged if _is_damage(cause) else StoreUnreachable
    return kind(f"{what}: {' '.join(str(cause).split())}")


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    cause = getattr(error, "orig", None)
    return cause if isinstance(cause, BaseException) else error


def _is_damage(cause: BaseException) -> bool:
    """Return whether SQLite says that the file is malformed or no database. It has no class of its own for that."""
    return type(cause).__name__ == "DatabaseError" and type(cause).__module__ == "sqlite3"
