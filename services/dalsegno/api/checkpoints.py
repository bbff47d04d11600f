"""ListCheckpoints: the entries of an execution, and the checkpoints that are ahead of it."""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from dalsegno.api import reading
from dalsegno.api.reads import Reads
from dalsegno.definitions.document import MemberKind, load_stored
from dalsegno.definitions.reading import begin_load, is_short, unpickle
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import messages, sizes, views
from dalsegno.store.pages import page_size
from dalsegno.store.records import CheckpointRow, DefinitionRow, ExecutionRow, JournalChange
from dalsegno.store.store import Queries
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as wire
from dalsegno.workflow.changes import TaskAdded
from dalsegno.workflow.graph import checkpoints_ahead
from dalsegno.workflow.model import START, Workflow
from dalsegno.workflow.states import COMPLETED_EXECUTION

KEPT = 8
"""How many compiled workflows are kept."""

AHEAD_BYTES_MAX = 64 * 1024
"""The maximum size of the list of names that are ahead."""


class Checkpoints:
    """Reads entries of checkpoints. It keeps the workflows that it has compiled to find what is ahead."""

    def __init__(self, reads: Reads, pool: Pool) -> None:
        self._reads = reads
        self._pool = pool
        self._compiled: OrderedDict[str, Workflow] = OrderedDict()
        """By definition id, the least recently used one first."""

    async def list(self, request: wire.ListCheckpointsRequest) -> wire.ListCheckpointsResponse:
        """Return one page. Raises InvalidRequest, InvalidPageToken and NotFound."""
        execution_id = reading.execution_id_of(request.execution_id)
        size = page_size(request.page_size)
        definition = await self._reads.run(lambda queries: _definition(queries, execution_id))
        workflow = None if definition is None else await self._compile(definition)

        def read(queries: Queries) -> wire.ListCheckpointsResponse:
            row = views.found(queries.execution(execution_id), execution_id)
            ahead = _ahead(queries, row, workflow)
            page = queries.checkpoints(execution_id, size, request.page_token)
            rows = list(page.rows)
            start = None if page.next_token or row.first_sequence > 1 else _start(queries, execution_id)
            if start is not None and len(rows) < size:
                rows.append(start)
            told = _messages(queries, row, rows, ahead)
            entries, token = sizes.page_of(page, rows, told, sizes.CONTENT_BYTES_MAX - AHEAD_BYTES_MAX)
            if start is not None and not token and rows[-1] is not start:
                token = page.token_after(rows[-1])  # the next page has `start` alone
            response = wire.ListCheckpointsResponse(entries=entries, next_page_token=token)
            if not request.page_token:
                response.ahead.extend(ahead)
                response.further_ahead = sizes.cut(response.ahead, AHEAD_BYTES_MAX)
            return response

        return await self._reads.run(read)

    async def _compile(self, row: DefinitionRow) -> Workflow | None:
        """Return the compiled workflow; None if it has no checkpoints."""
        found = self._compiled.get(row.definition_id)
        if found is None:
            assert row.text is not None, "a definition is compiled from its text"
            if "checkpoint" not in row.text:
                return None
            found = await self._load(row, row.text)
            self._compiled[row.definition_id] = found
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(row.definition_id)
        return found

    async def _load(self, row: DefinitionRow, text: str) -> Workflow:
        """Compile a short text in a thread, and a long one in a process of the pool."""
        kind = MemberKind(row.kind)
        if is_short(text):
            member = await asyncio.to_thread(load_stored, text, row.name, kind)
        else:
            pickled = await asyncio.wrap_future(begin_load(self._pool, text, row.name, kind, row.version))
            member = await asyncio.to_thread(unpickle, pickled)
        assert isinstance(member.compiled, Workflow)
        return member.compiled


def _definition(queries: Queries, execution_id: str) -> DefinitionRow | None:
    """Return the definition that an execution runs. Raises NotFound when there is no such execution."""
    row = views.found(queries.execution(execution_id), execution_id)
    return queries.definition(row.definition_id)


def _ahead(queries: Queries, row: ExecutionRow, workflow: Workflow | None) -> tuple[str, ...]:
    """Return the checkpoints that an execution may still reach by going on."""
    if workflow is None or row.state in COMPLETED_EXECUTION:
        return ()
    return checkpoints_ahead(workflow, queries.open_tasks(row.id))


def _start(queries: Queries, execution_id: str) -> CheckpointRow | None:
    """Return the entry `start`, which stands after the first tasks; None if there are none. Only the journal has it,
    and only a whole one."""
    last: JournalChange | None = None
    after, is_over = 0, False
    while not is_over and (page := queries.journal(execution_id, after)):
        for each in page:
            is_first = isinstance(each.change, TaskAdded) and not each.change.sources
            is_over = last is not None and not is_first
            if is_over:
                break
            last = each if is_first else last
        after = page[-1].sequence
    return None if last is None else CheckpointRow(execution_id, last.sequence, START, 0, 0, None, last.at_s, False)


def _messages(
    queries: Queries, row: ExecutionRow, entries: Sequence[CheckpointRow], ahead: Sequence[str]
) -> Iterator[execution_pb2.CheckpointEntry]:
    """Yield the messages of entries, the newest first."""
    if not entries:
        return
    ended = queries.tasks_ended_after(row.id, entries[-1].sequence)
    tasks = queries.tasks_of({(row.id, entry.task) for entry in entries})
    for entry in entries:
        task = tasks.get((row.id, entry.task))
        since = len(ended) - bisect(ended, entry.sequence)
        yield messages.checkpoint_message(entry, task.name if task else "", since, is_ahead=entry.name in ahead)
