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


def _of_parent(column: str) -> str:
    """Return a column of an execution that is at rest, looked up by its id (a join might read the whole table)."""
    return (
        f"(SELECT parent.{column} FROM executions AS parent WHERE parent.id = above.parent_id AND {at_rest('parent')})"
    )


def _covers(parent_id: str, parent_task: str) -> str:
    """Return the condition that a range of discarded tasks of an execution has this one."""
    return f"discards.execution_id = {parent_id} AND discards.first <= {parent_task} AND discards.last >= {parent_task}"


IS_SHOWN = (
    f"(executions.root_id NOT IN (SELECT root_id FROM discards) OR NOT {at_rest('executions')} OR NOT ("
    f"EXISTS (SELECT 1 FROM discards WHERE {_covers('executions.parent_id', 'executions.parent_task')}) OR EXISTS ("
    "WITH RECURSIVE above(parent_id, parent_task) AS ("
    "SELECT executions.parent_id, executions.parent_task UNION ALL"
    f" SELECT {_of_parent('parent_id')}, {_of_parent('parent_task')} FROM above WHERE above.parent_id <> '')"
    f" SELECT 1 FROM above JOIN discards ON {_covers('above.parent_id', 'above.parent_task')})))"
)
"""The condition for executions. One that is at rest is left out when a task above it is discarded and all executions
between are at rest, too. Most are discarded with a task of their parent, which is asked first."""

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
