"""ActionService."""

from __future__ import annotations

from typing import Any

from dalsegno.api import action_waits, reading
from dalsegno.api.action_list import ACTION_FIELDS, list_actions
from dalsegno.api.definition import read_definition
from dalsegno.api.follow import Follower
from dalsegno.api.reads import Reads
from dalsegno.api.writes import Writes
from dalsegno.rpc import convert, messages, sizes, views
from dalsegno.store.filters import ATTEMPT_FIELDS, STANDALONE_FIELDS, parse_filter
from dalsegno.store.pages import page_size
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2 as wire
from dalsegno.v1 import action_service_pb2_grpc
from dalsegno.workflow.refusals import NotFound


class Actions(action_service_pb2_grpc.ActionServiceServicer):
    """See action_service.proto for the contract of each call."""

    def __init__(self, reads: Reads, writes: Writes, follower: Follower) -> None:
        self._reads = reads
        self._writes = writes
        self._follower = follower

    async def RunAction(self, request: wire.RunActionRequest, context: Any) -> wire.RunActionResponse:
        return await self._writes.submit("run_action", request, context, wire.RunActionResponse)

    async def CancelAction(self, request: wire.CancelActionRequest, context: Any) -> wire.CancelActionResponse:
        return await self._writes.submit("cancel_action", request, context, wire.CancelActionResponse)

    async def WaitAction(self, request: wire.WaitActionRequest, context: Any) -> wire.WaitActionResponse:
        return await action_waits.wait(self._reads, self._follower, request, context)

    async def CompleteAction(self, request: wire.CompleteActionRequest, context: Any) -> wire.CompleteActionResponse:
        return await self._writes.submit("complete_action", request, context, wire.CompleteActionResponse)

    async def UpdateAction(self, request: wire.UpdateActionRequest, context: Any) -> wire.UpdateActionResponse:
        return await self._writes.submit("update_action", request, context, wire.UpdateActionResponse)

    async def HeartbeatAction(self, request: wire.HeartbeatActionRequest, context: Any) -> wire.HeartbeatActionResponse:
        return await self._writes.submit("heartbeat_action", request, context, wire.HeartbeatActionResponse)

    async def GetActionExecution(
        self, request: wire.GetActionExecutionRequest, context: Any
    ) -> wire.GetActionExecutionResponse:
        fields = convert.Fields()
        execution_id, (task, item, attempt) = fields.numbered_id("action_execution_id", request.action_execution_id, 3)
        fields.done()

        def read(queries: Queries) -> wire.GetActionExecutionResponse:
            row = queries.attempt(execution_id, (task, item, attempt))
            if row is None or row.runs_workflow:
                raise NotFound("action execution", request.action_execution_id)
            return wire.GetActionExecutionResponse(action_execution=views.action_messages(queries, [row])[0])

        return await self._reads.run(read)

    async def ListActionExecutions(
        self, request: wire.ListActionExecutionsRequest, context: Any
    ) -> wire.ListActionExecutionsResponse:
        execution_id = reading.execution_id_of(request.execution_id) if request.execution_id else ""
        size = page_size(request.page_size)
        chosen = parse_filter(request.filter, ATTEMPT_FIELDS if execution_id else STANDALONE_FIELDS)

        def read(queries: Queries) -> wire.ListActionExecutionsResponse:
            if execution_id:
                views.found(queries.execution(execution_id), execution_id)
            page = queries.attempts(execution_id, request.task_number, chosen, size, request.page_token, request.full)
            rows = [row for row in page.rows if not row.runs_workflow]
            found, token = sizes.page_of(page, rows, views.action_messages(queries, rows))
            return wire.ListActionExecutionsResponse(action_executions=found, next_page_token=token)

        return await self._reads.run(read)

    async def GetAdhocAction(self, request: wire.GetAdhocActionRequest, context: Any) -> wire.GetAdhocActionResponse:
        row = await read_definition(self._reads, "action", request)
        return wire.GetAdhocActionResponse(action=messages.adhoc_message(row))

    async def DeleteAdhocAction(
        self, request: wire.DeleteAdhocActionRequest, context: Any
    ) -> wire.DeleteAdhocActionResponse:
        return await self._writes.submit("delete_adhoc_action", request, context, wire.DeleteAdhocActionResponse)

    async def ListActions(self, request: wire.ListActionsRequest, context: Any) -> wire.ListActionsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, ACTION_FIELDS)
        return await self._reads.run(lambda queries: list_actions(queries, request, size, chosen))
