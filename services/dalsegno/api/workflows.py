"""WorkflowService."""

from __future__ import annotations

from typing import Any

from dalsegno.api.definition import read_definition
from dalsegno.api.reads import Reads
from dalsegno.api.registry import ServerRegistry
from dalsegno.api.validation import validate
from dalsegno.api.writes import Writes
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import messages, sizes
from dalsegno.store.filters import DEFINITION_FIELDS, parse_filter
from dalsegno.store.pages import page_size
from dalsegno.store.store import Queries
from dalsegno.v1 import workflow_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2_grpc


class Workflows(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """See workflow_service.proto for the contract of each call."""

    def __init__(self, reads: Reads, writes: Writes, pool: Pool) -> None:
        """`pool` reads definitions (definitions/reading.py)."""
        self._reads = reads
        self._writes = writes
        self._pool = pool

    async def CreateDefinitions(
        self, request: wire.CreateDefinitionsRequest, context: Any
    ) -> wire.CreateDefinitionsResponse:
        return await self._writes.submit("create_definitions", request, context, wire.CreateDefinitionsResponse)

    async def DeleteWorkflow(self, request: wire.DeleteWorkflowRequest, context: Any) -> wire.DeleteWorkflowResponse:
        return await self._writes.submit("delete_workflow", request, context, wire.DeleteWorkflowResponse)

    async def ValidateDefinitions(
        self, request: wire.ValidateDefinitionsRequest, context: Any
    ) -> wire.ValidateDefinitionsResponse:
        return await validate(request, ServerRegistry(self._reads, request.namespace), self._pool)

    async def GetWorkflow(self, request: wire.GetWorkflowRequest, context: Any) -> wire.GetWorkflowResponse:
        row = await read_definition(self._reads, "workflow", request)
        return wire.GetWorkflowResponse(workflow=messages.workflow_message(row))

    async def ListWorkflows(self, request: wire.ListWorkflowsRequest, context: Any) -> wire.ListWorkflowsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, DEFINITION_FIELDS)

        def read_page(queries: Queries) -> wire.ListWorkflowsResponse:
            page = queries.definitions("workflow", chosen, size, request.page_token, request.full, request.all_versions)
            found, token = sizes.page_of(page, page.rows, map(messages.workflow_message, page.rows))
            return wire.ListWorkflowsResponse(workflows=found, next_page_token=token)

        return await self._reads.run(read_page)
