"""WorkflowService."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from dalsegno.api.known import KnownActions
from dalsegno.api.reads import Reads
from dalsegno.api.writes import Writes
from dalsegno.definitions.apart import Reading, Registry
from dalsegno.definitions.document import Document, MemberKind
from dalsegno.definitions.problems import PROBLEMS_MAX, Problem
from dalsegno.expressions.pool.pool import Pool
from dalsegno.rpc import convert, messages
from dalsegno.rpc.errors import problem_message
from dalsegno.rpc.reading import read_apart
from dalsegno.store.filters import DEFINITION_FIELDS, parse_filter
from dalsegno.store.pages import page_size
from dalsegno.store.store import Queries
from dalsegno.v1 import workflow_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2_grpc
from dalsegno.workflow.refusals import InvalidRequest, NotFound, TooLarge
from dalsegno.workflow.value import VALUE_BYTES_MAX, byte_length


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
        if not request.text.strip():
            raise InvalidRequest.of("text", "is empty")
        size = byte_length(request.text)
        if size > VALUE_BYTES_MAX:
            raise TooLarge("text", size, VALUE_BYTES_MAX)
        document = await self._outline(request)
        problems, further = _listed(document, strict=request.strict)
        return wire.ValidateDefinitionsResponse(
            problems=map(problem_message, problems),
            further_problems=further,
            warnings=() if request.strict else map(problem_message, document.warnings),
            language=convert.language(document.language),
            workflows=[
                member.name for member in document.members if member.kind is MemberKind.WORKFLOW and member.name
            ],
            actions=[member.name for member in document.members if member.kind is MemberKind.ACTION],
        )

    async def _outline(self, request: wire.ValidateDefinitionsRequest) -> Document:
        """What the text says, compared with the actions that there are."""
        known = KnownActions(self._reads, request.namespace)
        registry = Registry(await asyncio.to_thread(known.described))
        reading = Reading(request.text, request.name, registry, is_outline=True)
        found = await read_apart(self._pool, reading)
        if not found.missing:
            return found.document
        stored = await asyncio.to_thread(known.stored, found.missing)
        registry = Registry({**registry.signatures, **stored}, await asyncio.to_thread(known.stored_names))
        return (await read_apart(self._pool, replace(reading, registry=registry))).document

    async def GetWorkflow(self, request: wire.GetWorkflowRequest, context: Any) -> wire.GetWorkflowResponse:
        fields = convert.Fields()
        fields.number("version", request.version)
        if not request.definition_id:
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


def _listed(document: Document, *, strict: bool) -> tuple[list[Problem], int]:
    """The first problems, warnings among them for a strict reader, and how many there are beside them."""
    problems = list(document.problems[:PROBLEMS_MAX])
    further = document.left_off[0]
    if strict:
        problems += document.warnings[:PROBLEMS_MAX]
        problems.sort(key=lambda problem: (problem.line, problem.column))
        further += document.left_off[1] + max(0, len(problems) - PROBLEMS_MAX)
    return problems[:PROBLEMS_MAX], further
