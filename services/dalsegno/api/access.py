"""AccessService."""

from __future__ import annotations

from typing import Any

from dalsegno.api.reads import Reads
from dalsegno.api.writes import Writes
from dalsegno.rpc import sizes
from dalsegno.rpc.token_messages import token_message
from dalsegno.store.filters import EVERYTHING
from dalsegno.store.pages import page_size, read_token, write_token
from dalsegno.store.store import Queries
from dalsegno.v1 import access_service_pb2 as wire
from dalsegno.v1 import access_service_pb2_grpc


class AccessTokens(access_service_pb2_grpc.AccessServiceServicer):
    """See access_service.proto for the contract of each call."""

    def __init__(self, reads: Reads, writes: Writes) -> None:
        self._reads = reads
        self._writes = writes

    async def CreateToken(self, request: wire.CreateTokenRequest, context: Any) -> wire.CreateTokenResponse:
        return await self._writes.submit("create_token", request, context, wire.CreateTokenResponse)

    async def RevokeToken(self, request: wire.RevokeTokenRequest, context: Any) -> wire.RevokeTokenResponse:
        return await self._writes.submit("revoke_token", request, context, wire.RevokeTokenResponse)

    async def ListTokens(self, request: wire.ListTokensRequest, context: Any) -> wire.ListTokensResponse:
        size = page_size(request.page_size)

        def read(queries: Queries) -> wire.ListTokensResponse:
            after = read_token(request.page_token, "tokens", EVERYTHING, (float, str))
            rows = [row for row in queries.tokens() if after is None or (row.created_s, row.token_id) > after]
            page = sizes.first_of(map(token_message, rows), count=size)
            last = rows[len(page) - 1] if len(rows) > len(page) else None
            token = write_token("tokens", EVERYTHING, (last.created_s, last.token_id)) if last is not None else ""
            return wire.ListTokensResponse(tokens=page, next_page_token=token)

        return await self._reads.run(read)
