"""The tokens of callers over SQL."""

from __future__ import annotations

import sqlalchemy as sa

from dalsegno.store.store import StoreConflict
from dalsegno.store.tables import TOKENS
from dalsegno.store.token_rows import TokenCounts, TokenRow
from dalsegno.store.unsent import Reader, Sender


class TokenReads(Reader):
    """The part of SqlQueries about tokens. store.token_rows documents each method."""

    def tokens(self) -> list[TokenRow]:
        statement = sa.select(TOKENS).order_by(TOKENS.c.created_s, TOKENS.c.token_id)
        return [TokenRow(**row._mapping) for row in self._connection.execute(statement)]

    def token_counts(self) -> TokenCounts:
        statement = sa.select(sa.func.count(), sa.func.count(TOKENS.c.revoked_s)).select_from(TOKENS)
        count, revoked = self._connection.execute(statement).one()
        return count, revoked


class TokenWrites(Sender):
    """The part of SqlTransaction about tokens. store.token_rows documents each method."""

    def add_token(self, row: TokenRow) -> None:
        values = {column.name: getattr(row, column.name) for column in TOKENS.c}
        try:
            self._connection.execute(sa.insert(TOKENS).values(values))
        except sa.exc.IntegrityError as error:
            raise StoreConflict(f"token {row.token_id} was added by another engine") from error

    def revoke_token(self, token_id: str, at_s: float) -> None:
        is_live = (TOKENS.c.token_id == token_id, TOKENS.c.revoked_s.is_(None))
        self._connection.execute(sa.update(TOKENS).where(*is_live).values(revoked_s=at_s))
