"""EnvironmentService."""

from __future__ import annotations

from typing import Any

from dalsegno.api.reads import Reads
from dalsegno.api.writes import Writes
from dalsegno.rpc import convert, messages, sizes
from dalsegno.store.filters import ENVIRONMENT_FIELDS, parse_filter
from dalsegno.store.pages import page_size
from dalsegno.store.store import Queries
from dalsegno.v1 import environment_service_pb2 as wire
from dalsegno.v1 import environment_service_pb2_grpc
from dalsegno.workflow.refusals import NotFound


class Environments(environment_service_pb2_grpc.EnvironmentServiceServicer):
    """See environment_service.proto for the contract of each call."""

    def __init__(self, reads: Reads, writes: Writes) -> None:
        self._reads = reads
        self._writes = writes

    async def PutEnvironment(self, request: wire.PutEnvironmentRequest, context: Any) -> wire.PutEnvironmentResponse:
        return await self._writes.submit("put_environment", request, context, wire.PutEnvironmentResponse)

    async def DeleteEnvironment(
        self, request: wire.DeleteEnvironmentRequest, context: Any
    ) -> wire.DeleteEnvironmentResponse:
        return await self._writes.submit("delete_environment", request, context, wire.DeleteEnvironmentResponse)

    async def GetEnvironment(self, request: wire.GetEnvironmentRequest, context: Any) -> wire.GetEnvironmentResponse:
        fields = convert.Fields()
        fields.name("name", request.name)
        fields.done()
        row = await self._reads.run(lambda queries: queries.environment(request.namespace, request.name))
        if row is None:
            raise NotFound("environment", request.name)
        return wire.GetEnvironmentResponse(environment=messages.environment_message(row))

    async def ListEnvironments(
        self, request: wire.ListEnvironmentsRequest, context: Any
    ) -> wire.ListEnvironmentsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, ENVIRONMENT_FIELDS)

        def read(queries: Queries) -> wire.ListEnvironmentsResponse:
            page = queries.environments(chosen, size, request.page_token, request.full)
            found, token = sizes.page_of(page, page.rows, map(messages.environment_message, page.rows))
            return wire.ListEnvironmentsResponse(environments=found, next_page_token=token)

        return await self._reads.run(read)
