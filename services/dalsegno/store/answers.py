"""The answered requests and the deletions that a write transaction over SQL keeps."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from dalsegno.store.records import Deletion, RequestRow, Resource, ResourceKind
from dalsegno.store.tables import DELETIONS, REQUESTS
from dalsegno.store.unsent import Sender


class AnsweredRequests(Sender):
    """The part of SqlTransaction about repeated requests. store.Transaction documents each method."""

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        table = REQUESTS
        row = self._connection.execute(
            sa.select(table.c.body_hash, table.c.answer, table.c.about).where(
                table.c.namespace == namespace, table.c.request_id == request_id
            )
        ).first()
        return RequestRow(row[0], bytes(row[1]), _read_about(row[2])) if row is not None else None

    def save_request(self, namespace: str, request_id: str, row: RequestRow, at_s: float) -> None:
        about = json.dumps(row.about, ensure_ascii=False)
        cells = namespace, request_id, row.body_hash, row.answer, at_s, about
        self._write(self._statements.insert_request, [cells])

    def forget_requests(self, namespace: str, request_ids: Collection[str]) -> None:
        table = REQUESTS
        chosen = (table.c.namespace == namespace, table.c.request_id == sa.bindparam("chosen"))
        if request_ids:
            self._connection.execute(sa.delete(table).where(*chosen), [{"chosen": each} for each in request_ids])

    def prune_requests(self, before_s: float) -> int:
        self._connection.execute(sa.delete(DELETIONS).where(DELETIONS.c.deleted_s < before_s))
        return self._connection.execute(sa.delete(REQUESTS).where(REQUESTS.c.created_s < before_s)).rowcount

    def save_deletions(self, deletions: Sequence[Deletion]) -> None:
        rows = [{**each.resource._asdict(), "deleted_s": each.deleted_s} for each in deletions]
        if rows:
            self._connection.execute(sa.insert(DELETIONS), rows)

    def deletions(self, kind: ResourceKind, name: str) -> list[Deletion]:
        table = DELETIONS
        statement = (
            sa.select(table.c.kind, table.c.name, table.c.namespace, table.c.life, table.c.deleted_s)
            .where(table.c.kind == kind, table.c.name == name)
            .order_by(table.c.deleted_s, table.c.namespace, table.c.life)
        )
        return [Deletion(Resource(*row[:4]), row[4]) for row in self._connection.execute(statement)]


def _read_about(text: str) -> tuple[Resource, ...]:
    """Read what an answer is about. Ignores what a later version adds to a resource."""
    return tuple(Resource(*parts[:4]) for parts in json.loads(text))
