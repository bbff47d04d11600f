"""The rows of engines over SQL: a number for each, and their ends.

An ended engine writes nothing more: each of its transactions locks its row against its end, and looks whether it has
ended (`Transaction.claim_for`). So what it has stored is known from the end on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa

from dalsegno.store.statements import Statements

TRIES_MAX = 10
"""How often an engine tries to get a number when others start at the same moment."""


def register_engine(
    transaction: Callable[[], AbstractContextManager[sa.Connection]],
    statements: Statements,
    engine_id: str,
    process: str,
    *,
    is_alone: bool,
) -> int:
    """Add the row of an engine, and end all others if it is alone. Return its number."""
    for left in reversed(range(TRIES_MAX)):
        try:
            with transaction() as connection:
                if is_alone:
                    connection.exec_driver_sql(statements.end_all_engines)
                return int(connection.exec_driver_sql(statements.insert_engine, (engine_id, process)).scalar_one())
        except sa.exc.IntegrityError:  # another engine has just taken this number
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def end_engine(connection: sa.Connection, statements: Statements, number: int, *, can_cut_off: bool) -> bool:
    """End an engine unless a transaction of it is open. Return whether it has ended.

    The database ends such a transaction, and its connection: nobody else does if the engine stands still, or its
    machine is gone. The next call finds it ended, or just committed.
    """
    if connection.exec_driver_sql(statements.lock_engine, (number,)).first() is not None:
        connection.exec_driver_sql(statements.end_engine, (number,))
        return True
    if connection.exec_driver_sql(statements.has_engine, (number,)).first() is None:
        return True  # it has ended, and its row was deleted
    if can_cut_off:
        connection.exec_driver_sql(statements.cut_off, (connection_name(number),))
    return False


def connection_name(number: int) -> str:
    """Return the name by which the database knows the connections on which an engine writes."""
    return f"dalsegno engine {number}"
