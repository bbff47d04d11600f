"""The tokens of callers in every kind of store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dalsegno.store.store import Store, StoreConflict
from dalsegno.store.token_rows import TokenRow

ROW = TokenRow("id-1", "ab" * 32, "anna", '[["viewer", "*"]]', 5.0, 9.0, None, "root", "why")


def test_tokens_are_added_listed_and_revoked_once(store: Store) -> None:
    """Tokens are listed by age; a second revocation does not move the time of the first."""
    younger = replace(ROW, token_id="id-0", created_s=6.0, expires_s=None)
    with store.write() as transaction:
        transaction.add_token(younger)
        transaction.add_token(ROW)
    with store.read() as queries:
        assert queries.tokens() == [ROW, younger]
        assert queries.token_counts() == (2, 0)
    for at_s in (7.0, 8.0):
        with store.write() as transaction:
            transaction.revoke_token("id-1", at_s)
            transaction.revoke_token("unknown", at_s)
    with store.read() as queries:
        assert queries.tokens() == [replace(ROW, revoked_s=7.0), younger]
        assert queries.token_counts() == (2, 1)


def test_a_token_is_added_once(store: Store) -> None:
    """A second token with the same id is a conflict, and changes nothing."""
    with store.write() as transaction:
        transaction.add_token(ROW)
    with pytest.raises(StoreConflict), store.write() as transaction:
        transaction.add_token(replace(ROW, name="eve"))
    with store.read() as queries:
        assert queries.tokens() == [ROW]
