"""Tokens for services that run as processes: stored before they start, or while they run."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from dalsegno.access.bearer import TokenFile, hash_of, id_of, new_token
from dalsegno.access.grants import Grant, write_grants
from dalsegno.store.sql import SqlStore
from dalsegno.store.token_rows import TokenRow


def store_token(database: str, name: str, *grants: str) -> str:
    """Store a new token, in a store that is made unless it exists; return it."""
    token = new_token()
    sha256 = hash_of(token)
    written = write_grants(map(Grant.parse, grants))
    row = TokenRow(id_of(sha256), sha256.hex(), name, written, time.time(), None, None, "test", "")
    with closing(SqlStore(database)) as store:
        store.upgrade()
        with store.write() as transaction:
            transaction.add_token(row)
    return token


def write_token(path: Path, token: str) -> TokenFile:
    """Return a token as a program shows it, from a file."""
    path.write_text(token)
    return TokenFile(str(path))
