"""ExecutionService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from dalsegno.access.callers import current
from dalsegno.api import bulk, reading, values, watch
from dalsegno.api.checkpoints import Checkpoints
from dalsegno.api.follow import Follower
from dalsegno.api.reads import Reads
from dalsegno.api.writes import Writes
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import convert, sizes, views
from dalsegno.rpc.caller_limits import CallerLimits, is_start
from dalsegno.store.filters import EVERYTHING, EXECUTION_FIELDS, TASK_FIELDS, parse_filter
from dalsegno.store.pages import page_size, read_token, write_token
from dalsegno.store.store import Queries
from dalsegno.v1 import execution_service_pb2 as wire
from dalsegno.v1 import execution_service_pb2_grpc
from dalsegno.workflow.refusals import ChangesDiscarded, InvalidRequest, NotFound

FORKS_MAX = 100
"""The maximum number of forks that an execution lists."""


class Executions(execution_service_pb2_grpc.ExecutionServiceServicer):
    """See execution_service.proto for the contract of each call."""

    def __init__(
        self, reads: Reads, writes: Writes, follower: Follower, pool: Pool, progress_s: float, limits: CallerLimits
    ) -> None:
        """`progress_s`: the longest time without a message on the stream of a watcher who does not ask for another;
        `limits`: of callers."""
        self._limits = limits
        self._checkpoints = Checkpoints(reads, pool)
        self._reads = reads
        self._writes = writes
        self._follower = follower
        self._progress_s = progress_s

    async def StartExecution(self, request: wire.StartExecutionRequest, context: Any) -> wire.StartExecutionResponse:
        return await self._writes.submit("start_execution", request, context, wire.StartExecutionResponse)

    async def PauseExecution(self, request: wire.PauseExecutionRequest, context: Any) -> wire.PauseExecutionResponse:
        return await self._writes.submit("pause_execution", request, context, wire.PauseExecutionResponse)

    async def ResumeExecution(self, request: wire.ResumeExecutionRequest, context: Any) -> wire.ResumeExecutionResponse:
        return await self._writes.submit("resume_execution", request, context, wire.ResumeExecutionResponse)

    async def CancelExecution(self, request: wire.CancelExecutionRequest, context: Any) -> wire.CancelExecutionResponse:
        return await self._writes.submit("cancel_execution", request, context, wire.CancelExecutionResponse)

    async def RerunExecution(self, request: wire.RerunExecutionRequest, context: Any) -> wire.RerunExecutionResponse:
        return await self._writes.submit("rerun_execution", request, context, wire.RerunExecutionResponse)

    async def UpdateContext(self, request: wire.UpdateContextRequest, context: Any) -> wire.UpdateContextResponse:
        return await self._writes.submit("update_context", request, context, wire.UpdateContextResponse)

    async def GoToCheckpoint(self, request: wire.GoToCheckpointRequest, context: Any) -> wire.GoToCheckpointResponse:
        return await self._writes.submit("go_to_checkpoint", request, context, wire.GoToCheckpointResponse)

    async def DiscardHistory(self, request: wire.DiscardHistoryRequest, context: Any) -> wire.DiscardHistoryResponse:
        return await self._writes.submit("discard_history", request, context, wire.DiscardHistoryResponse)

    def PauseExecutions(
        self, request: wire.PauseExecutionsRequest, context: Any
    ) -> AsyncIterator[wire.PauseExecutionsResponse]:
        return self._bulk(request, context, self.PauseExecution, wire.PauseExecutionsResponse)

    def ResumeExecutions(
        self, request: wire.ResumeExecutionsRequest, context: Any
    ) -> AsyncIterator[wire.ResumeExecutionsResponse]:
        return self._bulk(request, context, self.ResumeExecution, wire.ResumeExecutionsResponse)

    def CancelExecutions(
        self, request: wire.CancelExecutionsRequest, context: Any
    ) -> AsyncIterator[wire.CancelExecutionsResponse]:
        return self._bulk(request, context, self.CancelExecution, wire.CancelExecutionsResponse)

    def RerunExecutions(
        self, request: wire.RerunExecutionsRequest, context: Any
    ) -> AsyncIterator[wire.RerunExecutionsResponse]:
        return self._bulk(request, context, self.RerunExecution, wire.RerunExecutionsResponse)

    def DeleteExecutions(
        self, request: wire.DeleteExecutionsRequest, context: Any
    ) -> AsyncIterator[wire.DeleteExecutionsResponse]:
        return self._bulk(request, context, self.DeleteExecution, wire.DeleteExecutionsResponse)

    async def _bulk(self, request: Any, context: Any, single: Any, response: Any) -> AsyncIterator[Any]:
        caller = current.get()

        async def ask(each: Any) -> Any:
            await self._limits.start_in_turn(caller, each)
            return await single(each, context)

        is_limited = is_start(request.each) and self._limits.limits_starts(caller)
        together = 1 if is_limited else bulk.TOGETHER_MAX  # an outcome must not wait for the turns of others
        async for token, outcome in bulk.stream(self._reads, request, ask, together):
            yield response(resume_token=token, outcome=outcome)

    async def DeleteExecution(self, request: wire.DeleteExecutionRequest, context: Any) -> wire.DeleteExecutionResponse:
        return await self._writes.submit("delete_execution", request, context, wire.DeleteExecutionResponse)

    async def GetExecution(self, request: wire.GetExecutionRequest, context: Any) -> wire.GetExecutionResponse:
        execution_id = reading.execution_id_of(request.execution_id)

        def read(queries: Queries) -> wire.GetExecutionResponse:
            execution = views.read_execution(queries, execution_id)
            forks, total = queries.forks(execution_id, FORKS_MAX)
            execution.forks.extend(forks)
            execution.further_forks = total - len(forks)
            return wire.GetExecutionResponse(execution=execution)

        return await self._reads.run(read)

    async def ListExecutions(self, request: wire.ListExecutionsRequest, context: Any) -> wire.ListExecutionsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, EXECUTION_FIELDS)

        def read(queries: Queries) -> wire.ListExecutionsResponse:
            page = queries.executions(chosen, size, request.page_token, request.full)
            found, token = sizes.page_of(page, page.rows, views.execution_messages(queries, page.rows))
            return wire.ListExecutionsResponse(executions=found, next_page_token=token)

        return await self._reads.run(read)

    async def CountExecutions(self, request: wire.CountExecutionsRequest, context: Any) -> wire.CountExecutionsResponse:
        chosen = parse_filter(request.filter, EXECUTION_FIELDS)
        counts = await self._reads.run(lambda queries: queries.count_executions(chosen))
        told = [
            wire.ExecutionCount(state=convert.execution_state(state), count=count) for state, count in counts.items()
        ]
        return wire.CountExecutionsResponse(counts=told, total=sum(counts.values()))

    async def WaitExecution(self, request: wire.WaitExecutionRequest, context: Any) -> wire.WaitExecutionResponse:
        return await watch.wait(self._reads, self._follower, request, context)

    async def WatchExecution(
        self, request: wire.WatchExecutionRequest, context: Any
    ) -> AsyncIterator[wire.WatchExecutionResponse]:
        watcher = watch.Watcher(self._reads, request, self._progress_s)
        with self._follower.watch(request.execution_id) as watched:
            async for response in watcher.stream(watched):
                yield response

    async def ReadValue(self, request: wire.ReadValueRequest, context: Any) -> AsyncIterator[wire.ReadValueResponse]:
        async for piece in values.stream(self._reads, request):
            yield piece

    async def ListTasks(self, request: wire.ListTasksRequest, context: Any) -> wire.ListTasksResponse:
        execution_id = reading.execution_id_of(request.execution_id)
        size, chosen = page_size(request.page_size), parse_filter(request.filter, TASK_FIELDS)

        def read(queries: Queries) -> wire.ListTasksResponse:
            views.found(queries.execution(execution_id), execution_id)
            page = queries.tasks(execution_id, chosen, size, request.page_token, request.full)
            tasks, token = sizes.page_of(page, page.rows, views.task_messages(queries, page.rows, full=request.full))
            return wire.ListTasksResponse(tasks=tasks, next_page_token=token)

        return await self._reads.run(read)

    async def GetTask(self, request: wire.GetTaskRequest, context: Any) -> wire.GetTaskResponse:
        fields = convert.Fields()
        execution_id, (number,) = fields.numbered_id("task_execution_id", request.task_execution_id, 1)
        fields.done()

        def read(queries: Queries) -> wire.GetTaskResponse:
            row = queries.task(execution_id, number)
            execution = queries.execution(execution_id)
            if row is None or execution is None or not execution.workflow:
                raise NotFound("task execution", request.task_execution_id)
            return wire.GetTaskResponse(task=next(views.task_messages(queries, [row], full=True)))

        return await self._reads.run(read)

    async def ListCheckpoints(self, request: wire.ListCheckpointsRequest, context: Any) -> wire.ListCheckpointsResponse:
        return await self._checkpoints.list(request)

    async def ListChanges(self, request: wire.ListChangesRequest, context: Any) -> wire.ListChangesResponse:
        execution_id = reading.execution_id_of(request.execution_id)
        size, after = page_size(request.page_size), request.after_sequence
        if after < 0:
            raise InvalidRequest.of("after_sequence", "is negative")
        subject = f"changes {execution_id}"
        if (key := read_token(request.page_token, subject, EVERYTHING, (int,))) is not None:
            after = int(key[0])

        def read(queries: Queries) -> wire.ListChangesResponse:
            row = views.found(queries.execution(execution_id), execution_id)
            rows = queries.journal(execution_id, after, size)
            if rows and reading.is_gap(after, rows[0]):
                raise ChangesDiscarded(execution_id, rows[0].sequence)
            changes = sizes.first_of(reading.ChangeNames(execution_id).messages(queries, rows))
            token = ""
            if changes and changes[-1].sequence < row.revision:
                token = write_token(subject, EVERYTHING, (changes[-1].sequence,))
            return wire.ListChangesResponse(changes=changes, next_page_token=token)

        return await self._reads.run(read)
