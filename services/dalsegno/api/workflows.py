"""WorkflowService."""

from __future__ import annotations

from typing import Any

from dalsegno.api.known import KnownActions
from dalsegno.api.reads import Reads
from dalsegno.api.validation import validate
from dalsegno.api.writes import Writes
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import convert, messages
from dalsegno.store.filters import DEFINITION_FIELDS, parse_filter
from dalsegno.store.pages import page_size
from dalsegno.store.store import Queries
from dalsegno.v1 import workflow_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2_grpc
from dalsegno.workflow.refusals import NotFound


class Workflows(workflow_service_pb2_grpc.WorkflowServiceServicer):
    """See workflow_service.proto for what each call promises."""

    def __init__(self, reads: Reads, writes: Writes, pool: Pool) -> None:
        """`pool` reads definitions (definitions/apart.py)."""
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
        return await validate(request, KnownActions(self._reads, request.namespace), self._pool)

    async def GetWorkflow(self, request: wire.GetWorkflowRequest, context: Any) -> wire.GetWorkflowResponse:
        fields = convert.Fields()
        fields.number("version", request.version)
        if request.definition_id:
            fields.uuid("definition_id", request.definition_id)
            for name in ("namespace", "name", "version"):
                if getattr(request, name):
                    fields.refuse(name, "goes without a definition id, which says it all: leave one of them out")
        else:
            fields.name("name", request.name)
        fields.done()

        def read_one(queries: Queries) -> wire.GetWorkflowResponse:
            if request.definition_id:
                row = queries.definition(request.definition_id)
            else:
                row = queries.find_definition("workflow", request.name, request.namespace, request.version)
            if row is None or row.kind != "workflow":
                if request.definition_id:
                    raise NotFound("workflow", request.definition_id)
                raise convert.missing_workflow(request.name, request.version, request.namespace)
            return wire.GetWorkflowResponse(workflow=messages.workflow_message(row))

        return await self._reads.run(read_one)

    async def ListWorkflows(self, request: wire.ListWorkflowsRequest, context: Any) -> wire.ListWorkflowsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, DEFINITION_FIELDS)

        def read_page(queries: Queries) -> wire.ListWorkflowsResponse:
            page = queries.definitions("workflow", chosen, size, request.page_token, request.full, request.all_versions)
            found = [messages.workflow_message(row) for row in page.rows]
            return wire.ListWorkflowsResponse(workflows=found, next_page_token=page.next_token)

        return await self._reads.run(read_page)
