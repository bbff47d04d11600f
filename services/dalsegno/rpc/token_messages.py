"""Tokens and grants as messages of the API."""

from __future__ import annotations

from dalsegno.access.grants import Grant, Role, read_grants
from dalsegno.rpc import convert
from dalsegno.store.token_rows import TokenRow
from dalsegno.v1 import access_service_pb2 as wire

_ROLES = {each: wire.Role.ValueType(wire.Role.Value(f"ROLE_{each.name}")) for each in Role}
_NAMED = {number: role for role, number in _ROLES.items()}


def token_message(row: TokenRow) -> wire.Token:
    """Return the message of a token."""
    return wire.Token(
        token_id=row.token_id,
        name=row.name,
        grants=map(grant_message, read_grants(row.grants)),
        created_at=convert.timestamp(row.created_s),
        expires_at=convert.timestamp(row.expires_s),
        revoked_at=convert.timestamp(row.revoked_s),
        actor=row.actor,
        comment=row.comment,
    )


def grant_message(grant: Grant) -> wire.Grant:
    """Return the message of a grant."""
    return wire.Grant(role=_ROLES[grant.role], pattern=grant.pattern)


def read_grant(message: wire.Grant) -> Grant | None:
    """Return the grant of a message; None if it has no role that is known."""
    role = _NAMED.get(message.role)
    return Grant(role, message.pattern) if role is not None else None
