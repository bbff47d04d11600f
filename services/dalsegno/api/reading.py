"""Reads of servicers that rpc/views.py does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dalsegno.rpc import convert, journal
from dalsegno.rpc.journal import Named
from dalsegno.store.records import JournalChange
from dalsegno.store.store import Queries
from dalsegno.v1 import change_pb2
from dalsegno.workflow.changes import AttemptsBegun, HistoryDiscarded
from dalsegno.workflow.model import START


def execution_id_of(text: str) -> str:
    """Return an execution's id from a request. Raises InvalidRequest."""
    fields = convert.Fields()
    execution_id = fields.uuid("execution_id", text)
    fields.done()
    return execution_id


def is_gap(after: int, first: JournalChange) -> bool:
    """Return whether changes are missing between the sequence number `after`, if it is not 0, and this change: they
    were discarded."""
    return 0 < after < first.sequence - 1


class ChangeNames:
    """Names of the tasks and checkpoints in the changes of one execution, read on demand."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._named: dict[int, Named] = {}
        self._entries: dict[int, str] = {}

    def messages(self, queries: Queries, rows: Sequence[JournalChange]) -> Iterator[change_pb2.Change]:
        """Yield the messages of these changes."""
        self._read(queries, rows)
        return (journal.change_message(self._execution_id, row, self._named, self._entries) for row in rows)

    def _read(self, queries: Queries, rows: Iterable[JournalChange]) -> None:
        """Read the names of the tasks in these changes, whether they have items, and the names of checkpoints."""
        wanted: dict[int, None] = {}
        for row in rows:
            sequence = journal.entry_of(row.change)
            if sequence and sequence not in self._entries:
                # The entry before which something was discarded may be discarded since, and `start` has no row.
                other = "" if isinstance(row.change, HistoryDiscarded) else START
                self._entries[sequence] = queries.checkpoint_name(self._execution_id, sequence) or other
            for number in journal.task_numbers(row.change):
                if number not in self._named or isinstance(row.change, AttemptsBegun):
                    wanted[number] = None  # only the first round of attempts of a task shows whether it has items
        for number in wanted:
            task = queries.task(self._execution_id, number)
            if task is not None:
                self._named[number] = Named(task.name, task.item_count is not None)
