"""Reads of servicers that rpc/views.py does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dalsegno.rpc import convert, journal
from dalsegno.rpc.journal import Named
from dalsegno.store.records import JournalChange
from dalsegno.store.store import Queries
from dalsegno.workflow.changes import AttemptsBegun


def execution_id_of(text: str) -> str:
    """Return an execution's id from a request. Raises InvalidRequest."""
    fields = convert.Fields()
    execution_id = fields.uuid("execution_id", text)
    fields.done()
    return execution_id


class ChangeNames:
    """Names of the tasks in the changes of one execution, read on demand."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._named: dict[int, Named] = {}

    def of(self, queries: Queries, rows: Iterable[JournalChange]) -> Mapping[int, Named]:
        """Return the names of the tasks in these changes, and whether they have items."""
        wanted: dict[int, None] = {}
        for row in rows:
            for number in journal.task_numbers(row.change):
                if number not in self._named or isinstance(row.change, AttemptsBegun):
                    wanted[number] = None  # only the first round of attempts of a task shows whether it has items
        for number in wanted:
            task = queries.task(self._execution_id, number)
            if task is not None:
                self._named[number] = Named(task.name, task.item_count is not None)
        return self._named
