"""WatchExecution and WaitExecution: follow one execution, change by change or until it is at rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from dalsegno.api import reading
from dalsegno.api.follow import Follower, Watched
from dalsegno.api.reads import Reads
from dalsegno.rpc import convert, sizes, views
from dalsegno.rpc.messages import NOTHING
from dalsegno.rpc.tokens import ResumeTokens
from dalsegno.store.records import AttemptRow, ExecutionRow
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as wire
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.refusals import NotFound, RevisionAhead
from dalsegno.workflow.states import COMPLETED_EXECUTION

RPC = "WatchExecution"
"""The rpc in the resume tokens."""

PAGE = 1000
"""The maximum number of tasks in a page of a snapshot, and of changes in a batch."""

AWAITED_BYTES_MAX = 64 * 1024
"""The maximum size of the list of what an execution waits for."""

CHANGES_BYTES_MAX = sizes.CONTENT_BYTES_MAX - AWAITED_BYTES_MAX

LARGE = 1024 * 1024
"""An execution with more bytes than this has a page of a snapshot of its own."""
TASKS_BYTES_MAX = sizes.CONTENT_BYTES_MAX - LARGE - AWAITED_BYTES_MAX

PROGRESS_LEAST_S = 1.0
"""The shortest interval that a watcher can ask for: each message about nothing is a read of the store."""

WAIT_S = 50.0
"""The default time of a wait: many proxies cut a call without an answer after a minute."""

MARGIN_S = 0.25
"""A wait is answered this long before the deadline of its call."""

_COMPLETED = {str(state) for state in COMPLETED_EXECUTION}
Response = wire.WatchExecutionResponse


class Watcher:
    """One WatchExecution stream, with the revision up to which everything was sent."""

    def __init__(self, reads: Reads, request: wire.WatchExecutionRequest, progress_s: float) -> None:
        """`progress_s`: the longest time without a message, unless the request says otherwise."""
        self._reads = reads
        self._id = reading.execution_id_of(request.execution_id)
        self._progress_s = _read_interval(request) or progress_s
        self._due_s = 0.0
        """When something must be sent, by the clock of the event loop."""
        self._request = request
        self._sent = 0
        self._is_behind = False
        """Whether changes that follow what was sent were discarded."""
        self._at_rest = False
        self._told: dict[AttemptKey, str] = {}
        """The progress of attempts that was sent last, as stored."""
        self._names = reading.ChangeNames(self._id)
        self._tokens: ResumeTokens

    async def _resume(self) -> None:
        """Continue at the position of the request's token. Raises InvalidResumeToken and Unavailable."""
        self._tokens = await self._reads.resume_tokens()
        if self._request.resume_token:
            sent, *_ = self._tokens.read(self._request.resume_token, RPC, self._id, (int,))
            self._sent = int(sent)

    def _token(self, revision: int) -> str:
        """Return the token of a watcher who has everything up to this revision; 0: nothing yet."""
        return self._tokens.write(RPC, self._id, revision)

    async def stream(self, watched: Watched) -> AsyncIterator[Response]:
        """Yield all messages. Raises NotFound, also if the execution is deleted meanwhile, and RevisionAhead."""
        self._count_from_now()
        async for message in self._messages(watched):
            yield message
            self._count_from_now()

    def _count_from_now(self) -> None:
        self._due_s = asyncio.get_running_loop().time() + self._progress_s

    async def _messages(self, watched: Watched) -> AsyncIterator[Response]:
        await self._resume()
        if not self._sent and not self._request.from_first_change:
            async for page in self._snapshot():
                yield page
        while True:
            watched.moved.clear()
            while (batch := await self._reads.run(self._next)) is not None or self._is_behind:
                if batch is not None:
                    yield batch
                    continue
                async for page in self._snapshot():
                    yield page
            if self._at_rest and not self._request.keep_open:
                return
            if watched.deleted:
                raise NotFound("execution", self._id)
            if news := [row for row in watched.telling if self._told.get(row.key) != row.progress]:
                for told in await self._reads.run(lambda queries, rows=news: self._told_progress(queries, rows)):  # type: ignore[misc]
                    yield told
            try:
                async with asyncio.timeout_at(self._due_s):
                    await watched.moved.wait()
            except TimeoutError:
                yield await self._reads.run(self._progress)

    async def _snapshot(self) -> AsyncIterator[Response]:
        """Yield the pages of one snapshot; a change between two pages is sent again as a change."""
        execution = await self._reads.run(lambda queries: views.read_execution(queries, self._id))
        revision, token = execution.revision, ""
        first: execution_pb2.Execution | None = execution
        if execution.ByteSize() > LARGE:
            yield Response(
                resume_token=self._token(0),
                snapshot=Response.Snapshot(execution=execution, revision=revision),
            )
            first = None
        while True:
            tasks, token = await self._reads.run(lambda queries, at=token: self._tasks(queries, at))  # type: ignore[misc]
            page = Response.Snapshot(execution=first, tasks=tasks, last=not token, revision=revision)
            first = None
            if not token:
                break
            yield Response(resume_token=self._token(0), snapshot=page)
        self._sent = revision
        self._at_rest = _rests(execution)
        yield Response(resume_token=self._token(revision), snapshot=page)

    def _tasks(self, queries: Queries, token: str) -> tuple[list[execution_pb2.TaskExecution], str]:
        page = queries.tasks(self._id, size=PAGE, token=token)
        return sizes.page_of(page, page.rows, views.task_messages(queries, page.rows), TASKS_BYTES_MAX)

    def _next(self, queries: Queries) -> Response | None:
        """Return the next changes that were not sent; None if there are none now, or if some of them were discarded."""
        row = views.found(queries.execution(self._id), self._id)
        if self._sent > row.revision:
            raise RevisionAhead("execution", self._id, self._sent, row.revision)
        rows = queries.journal(self._id, self._sent, PAGE)
        self._is_behind = bool(rows) and reading.is_gap(self._sent, rows[0])
        if self._is_behind:
            return None
        if not rows:
            self._at_rest = row.state in _COMPLETED and not row.active_count
            return None
        changes = sizes.first_of(self._names.messages(queries, rows), CHANGES_BYTES_MAX)
        self._sent = changes[-1].sequence
        awaited = views.read_awaited(queries, [row]).get(row.id, NOTHING)
        batch = Response.ChangeBatch(changes=changes, waiting_for=awaited.names, further_waiting_for=awaited.further)
        return Response(resume_token=self._token(self._sent), changes=batch)

    def _told_progress(self, queries: Queries, rows: Sequence[AttemptRow]) -> list[Response]:
        """Return the progress of these attempts; progress of an old delivery is excluded."""
        self._told.update((row.key, row.progress) for row in rows)
        tasks = views.progress_messages(queries, rows)
        told: list[Response] = []
        while tasks:
            some = sizes.first_of(tasks)
            del tasks[: len(some)]
            batch = Response.ActionProgressBatch(tasks=some)
            told.append(Response(resume_token=self._token(self._sent), action_progress=batch))
        return told

    def _progress(self, queries: Queries) -> Response:
        row = views.found(queries.execution(self._id), self._id)
        awaited = views.read_awaited(queries, [row]).get(row.id, NOTHING)
        progress = Response.Progress(
            revision=self._sent, waiting_for=awaited.names, further_waiting_for=awaited.further
        )
        return Response(resume_token=self._token(self._sent), progress=progress)


def _read_interval(request: wire.WatchExecutionRequest) -> float:
    """Return the interval that a watcher asks for; 0: it does not ask. Raises InvalidRequest."""
    if not request.HasField("progress_interval"):
        return 0.0
    fields = convert.Fields()
    interval_s = fields.length("progress_interval", request.progress_interval)
    if 0 <= interval_s < PROGRESS_LEAST_S:
        fields.refuse("progress_interval", f"is {interval_s:g} s; at least {PROGRESS_LEAST_S:g} s")
    fields.done()
    return interval_s


async def wait(
    reads: Reads, follower: Follower, request: wire.WaitExecutionRequest, context: Any
) -> wire.WaitExecutionResponse:
    """Return when the execution is at rest or paused, or when the time is over."""
    execution_id = reading.execution_id_of(request.execution_id)
    fields = convert.Fields()
    timeout_s = time_to_wait_s(fields, request, context)
    fields.done()
    ends_s = asyncio.get_running_loop().time() + timeout_s
    with follower.watch(execution_id) as watched:
        while True:
            watched.rested.clear()
            known, execution = await reads.execution(execution_id) or (None, None)
            row = views.found(known, execution_id)
            reason = _why_to_return(row, through_pauses=request.through_pauses)
            if reason:
                at_rest = reason == wire.WAIT_REASON_AT_REST
                return wire.WaitExecutionResponse(execution=execution, at_rest=at_rest, reason=reason)
            watched.revision = max(watched.revision, row.revision)
            try:
                async with asyncio.timeout_at(ends_s):
                    await watched.rested.wait()
            except TimeoutError:
                execution = await reads.run(lambda queries: views.read_execution(queries, execution_id))
                return wire.WaitExecutionResponse(execution=execution, reason=wire.WAIT_REASON_TIME_OVER)


def time_to_wait_s(
    fields: convert.Fields, request: wire.WaitExecutionRequest | action_service_pb2.WaitActionRequest, context: Any
) -> float:
    """Return how long a request waits at most: until shortly before the deadline of its call."""
    remaining_s = context.time_remaining()
    timeout_s = WAIT_S if remaining_s is None else max(0.0, remaining_s - MARGIN_S)
    if request.HasField("timeout"):
        timeout_s = min(timeout_s, fields.length("timeout", request.timeout))
    return timeout_s


def _why_to_return(row: ExecutionRow, *, through_pauses: bool) -> wire.WaitReason.ValueType:
    """Return why a wait for this execution ends now; unspecified: it continues."""
    if row.state in _COMPLETED and not row.active_count:
        return wire.WAIT_REASON_AT_REST
    if row.state == "PAUSED" and row.goes_on_s is None and not through_pauses:
        return wire.WAIT_REASON_PAUSED
    return wire.WAIT_REASON_UNSPECIFIED


def _rests(execution: execution_pb2.Execution) -> bool:
    state = execution_pb2.ExecutionState.Name(execution.state).removeprefix("EXECUTION_STATE_")
    return state in _COMPLETED and not execution.active_count
