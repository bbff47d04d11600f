"""SystemService: information about this server, and the connected executors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from dalsegno.api.bulk import RATE_MAX
from dalsegno.api.reads import Reads
from dalsegno.rpc import convert, sizes
from dalsegno.rpc.channel import MESSAGE_BYTES
from dalsegno.rpc.interceptors import UNARY_DEADLINE_S
from dalsegno.rpc.peers import Peers, Standing
from dalsegno.store.filters import LABEL, Field, Fields, Filter, Term, parse_filter
from dalsegno.store.pages import PAGE_SIZE_MAX, page_size, read_token, write_token
from dalsegno.store.records import SessionRow
from dalsegno.store.store import Queries
from dalsegno.v1 import definition_pb2, system_service_pb2_grpc
from dalsegno.v1 import system_service_pb2 as wire
from dalsegno.workflow.value import EXECUTION_BYTES_MAX, VALUE_BYTES_MAX

EXECUTOR_FIELDS: Fields = {
    "executor": Field("executor_id"),
    "action": Field("actions"),
    "label": LABEL,
}

ACTIONS_BYTES_MAX = 1024 * 1024
"""The maximum size of all action names of one executor together."""

FEATURES = (
    "bulk_delete",
    "checkpoints",
    "counts",
    "discard_history",
    "engines",
    "executors",
    "filters_2",
    "forks",
    "heartbeat_action",
    "read_value",
    "reflection_v1",
    "several_documents",
    "signed_resume_tokens",
    "use_existing",
)
"""Parts of the API that older servers lack, as in system_service.proto; a name never changes its meaning."""


_STANDINGS = {
    Standing.AWAY: wire.ENGINE_STANDING_AWAY,
    Standing.UNREADY: wire.ENGINE_STANDING_UNREADY,
    Standing.READY: wire.ENGINE_STANDING_READY,
}


class System(system_service_pb2_grpc.SystemServiceServicer):
    """See system_service.proto for the contract of each call."""

    def __init__(self, reads: Reads, engines: Peers) -> None:
        self._reads = reads
        self._engines = engines

    async def GetServerInfo(self, request: wire.GetServerInfoRequest, context: Any) -> wire.GetServerInfoResponse:
        return wire.GetServerInfoResponse(
            version=version("dalsegno"),
            languages=[number for number in definition_pb2.Language.values() if number],
            limits=wire.Limits(
                message_bytes=MESSAGE_BYTES,
                value_bytes=VALUE_BYTES_MAX,
                execution_bytes=EXECUTION_BYTES_MAX,
                page_size=PAGE_SIZE_MAX,
                bulk_rate=RATE_MAX,
                request_memory=convert.duration(convert.REQUESTS_KEPT_S),
                default_deadline=convert.duration(UNARY_DEADLINE_S),
            ),
            features=FEATURES,
        )

    async def ListEngines(self, request: wire.ListEnginesRequest, context: Any) -> wire.ListEnginesResponse:
        rows = await self._reads.run(lambda queries: list(queries.engines().values()))
        return wire.ListEnginesResponse(
            engines=[
                wire.Engine(number=row.number, engine_id=row.id, signs_of_life=row.beats)
                for row in rows
                if not row.ended
            ],
            addresses=[
                wire.EngineAddress(address=each.address, standing=_STANDINGS[each.rank], reason=each.told)
                for each in self._engines
            ],
        )

    async def ListExecutors(self, request: wire.ListExecutorsRequest, context: Any) -> wire.ListExecutorsResponse:
        size, chosen = page_size(request.page_size), parse_filter(request.filter, EXECUTOR_FIELDS)

        def read(queries: Queries) -> wire.ListExecutorsResponse:
            after = read_token(request.page_token, "executors", chosen, (str, str))
            rows = sorted((row for row in queries.sessions() if _is_chosen(row, chosen)), key=_key)
            rows = [row for row in rows if after is None or _key(row) > after]
            held = queries.held_counts()
            page = sizes.first_of((_executor(row, held.get(row.session_id, 0)) for row in rows), count=size)
            more = len(rows) > len(page)
            token = write_token("executors", chosen, _key(rows[len(page) - 1])) if more else ""
            return wire.ListExecutorsResponse(executors=page, next_page_token=token)

        return await self._reads.run(read)


def _key(row: SessionRow) -> tuple[str, str]:
    return row.executor_id, row.session_id


def _is_chosen(row: SessionRow, chosen: Filter) -> bool:
    def cells(term: Term) -> list[str]:
        if term.column == "label":
            return [row.labels[term.label]] if term.label in row.labels else []
        return list(row.actions) if term.column == "actions" else [row.executor_id]

    return all(term.admits(cells(term)) for term in chosen.terms)


def _executor(row: SessionRow, slots_in_use: int) -> wire.Executor:
    message = wire.Executor(
        executor_id=row.executor_id,
        session_id=row.session_id,
        labels=row.labels,
        slots=row.slots,
        slots_in_use=slots_in_use,
        connected_at=convert.timestamp(row.connected_s or None),
        last_seen_at=convert.timestamp(row.heard_s or None),
        lease_until=convert.timestamp(row.lease_until_s),
        peer=row.peer,
        actions=sorted(row.actions),
    )
    message.further_actions = sizes.cut(message.actions, ACTIONS_BYTES_MAX)
    return message
