"""Conditions over SQL that leave out what executions have discarded and what is not yet removed (discards.py).

The table of discards is empty nearly always. So each condition first asks whether it has anything of the execution, or
of its tree, which costs nothing then.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dalsegno.store.tables import CHECKPOINTS, DISCARDS, EXECUTIONS
from dalsegno.workflow.states import COMPLETED_EXECUTION

Condition = sa.ColumnElement[bool]


def at_rest(name: str) -> str:
    """Return the condition that an execution has ended and nothing of it is active. `name`: the table's name."""
    states = ", ".join(sorted(f"'{state.value}'" for state in COMPLETED_EXECUTION))
    return f"({name}.state IN ({states}) AND {name}.active_count = 0)"


IS_SHOWN = (
    "(executions.root_id NOT IN (SELECT root_id FROM discards) OR NOT EXISTS ("
    " WITH RECURSIVE above(parent_id, parent_task) AS ("
    f" SELECT executions.parent_id, executions.parent_task WHERE {at_rest('executions')}"
    " UNION ALL SELECT parent.parent_id, parent.parent_task"
    f" FROM executions AS parent JOIN above ON parent.id = above.parent_id WHERE {at_rest('parent')})"
    " SELECT 1 FROM above JOIN discards ON discards.execution_id = above.parent_id"
    " AND discards.first <= above.parent_task AND discards.last >= above.parent_task))"
)
"""The condition for executions. One that is at rest is left out when a task above it is discarded and all executions
between are at rest, too."""

SHOWN_EXECUTIONS: Condition = sa.text(IS_SHOWN)  # type: ignore[assignment]


def shown_tasks(execution_id: sa.ColumnElement[str], number: sa.ColumnElement[int]) -> Condition:
    """Return the condition that a task execution is not discarded."""
    table = DISCARDS
    covers = (table.c.execution_id == execution_id, table.c.first <= number, table.c.last >= number)
    return sa.or_(execution_id.not_in(sa.select(table.c.execution_id)), ~sa.exists().where(*covers))


def first_sequence(execution_id: Any) -> sa.ScalarSelect[int]:
    """Return the sequence number of the first change of an execution's journal."""
    return sa.select(EXECUTIONS.c.first_sequence).where(EXECUTIONS.c.id == execution_id).scalar_subquery()


def shown_entries(execution_id: str) -> list[Condition]:
    """Return the conditions for the entries of an execution that are not discarded."""
    return [CHECKPOINTS.c.execution_id == execution_id, CHECKPOINTS.c.sequence >= first_sequence(execution_id)]
