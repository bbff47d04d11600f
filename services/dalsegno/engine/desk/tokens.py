"""Tokens of callers: created and revoked. The engine gets their hashes only."""

from __future__ import annotations

import logging
from collections.abc import Collection

from dalsegno.access.bearer import id_of
from dalsegno.access.grants import Grant, write_grants
from dalsegno.engine.batches.answers import Answer
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.operations import Call, Operation, RequestIdentity, check_repeatable
from dalsegno.rpc.convert import Fields
from dalsegno.rpc.token_messages import read_grant, token_message
from dalsegno.store.token_rows import TokenRow
from dalsegno.v1 import access_service_pb2 as wire
from dalsegno.workflow.refusals import AlreadyExists, NotFound

GRANTS_MAX = 100
HASH_BYTES = 32

_PLACE = "\x1ftoken"
"""The place of the ids of these requests in the table of requests: a token belongs to no namespace."""

_log = logging.getLogger(__name__)


class CreateToken(Operation[wire.CreateTokenRequest, tuple[Grant, ...], wire.CreateTokenResponse]):
    """See CreateToken in access_service.proto. The plan is the grants."""

    def check(self, call: Call[wire.CreateTokenRequest], batch: Batch) -> tuple[Grant, ...]:
        request = call.request
        fields = check_repeatable(request)
        fields.name("name", request.name)
        if len(request.sha256) != HASH_BYTES:
            fields.refuse("sha256", f"has {len(request.sha256)} bytes; the SHA-256 of a token has {HASH_BYTES}")
        if request.HasField("expires_at") and fields.moment("expires_at", request.expires_at) <= batch.at_s:
            fields.refuse("expires_at", "is over")
        if not 1 <= len(request.grants) <= GRANTS_MAX:
            fields.refuse("grants", f"has {len(request.grants)} entries; 1 to {GRANTS_MAX} are allowed")
        grants = [_grant(fields, index, each) for index, each in enumerate(request.grants[:GRANTS_MAX])]
        fields.done()
        return tuple(each for each in grants if each is not None)

    def claims(self, call: Call[wire.CreateTokenRequest], plan: tuple[Grant, ...]) -> Collection[str]:
        return ()

    def identity(
        self, call: Call[wire.CreateTokenRequest], plan: tuple[Grant, ...], batch: Batch
    ) -> RequestIdentity | None:
        return _identity(call.request.request_id)

    def carry_out(
        self, call: Call[wire.CreateTokenRequest], plan: tuple[Grant, ...], batch: Batch
    ) -> Answer[wire.CreateTokenResponse]:
        request = call.request
        row = TokenRow(
            token_id=id_of(request.sha256),
            sha256=request.sha256.hex(),
            name=request.name,
            grants=write_grants(plan),
            created_s=batch.at_s,
            expires_s=request.expires_at.ToMicroseconds() / 1e6 if request.HasField("expires_at") else None,
            revoked_s=None,
            actor=call.actor,
            comment=request.comment,
        )
        if _find(batch, row.token_id) is not None:
            raise AlreadyExists("token", row.token_id)
        batch.transaction.add_token(row)
        return Answer(wire.CreateTokenResponse(token=token_message(row)))


class RevokeToken(Operation[wire.RevokeTokenRequest, None, wire.RevokeTokenResponse]):
    """See RevokeToken in access_service.proto."""

    def check(self, call: Call[wire.RevokeTokenRequest], batch: Batch) -> None:
        fields = check_repeatable(call.request)
        fields.name("token_id", call.request.token_id)
        fields.done()

    def claims(self, call: Call[wire.RevokeTokenRequest], plan: None) -> Collection[str]:
        return ()

    def identity(self, call: Call[wire.RevokeTokenRequest], plan: None, batch: Batch) -> RequestIdentity | None:
        return _identity(call.request.request_id)

    def carry_out(
        self, call: Call[wire.RevokeTokenRequest], plan: None, batch: Batch
    ) -> Answer[wire.RevokeTokenResponse]:
        token_id = call.request.token_id
        if _find(batch, token_id) is None:
            raise NotFound("token", token_id)
        batch.transaction.revoke_token(token_id, batch.at_s)
        row = _find(batch, token_id)
        assert row is not None
        _log.info("token revoked", extra={"token": token_id, "actor": call.actor, "comment": call.request.comment})
        return Answer(wire.RevokeTokenResponse(token=token_message(row)))


def _grant(fields: Fields, index: int, message: wire.Grant) -> Grant | None:
    """Return a grant; None if it is not valid."""
    grant = read_grant(message)
    if grant is None:
        fields.refuse(f"grants[{index}].role", "is missing, or unknown")
        return None
    fields.text(f"grants[{index}].pattern", grant.pattern)
    if grant.fault:
        fields.refuse(f"grants[{index}].pattern", grant.fault)
    return grant


def _find(batch: Batch, token_id: str) -> TokenRow | None:
    return next((row for row in batch.transaction.queries.tokens() if row.token_id == token_id), None)


def _identity(request_id: str) -> RequestIdentity | None:
    return RequestIdentity(request_id, (_PLACE,)) if request_id else None
