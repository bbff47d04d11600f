"""All tokens of the store, in memory: a call costs no read. They are read again when their number has changed, which is
looked at once a second."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dalsegno.access.bearer import hash_of, is_token
from dalsegno.access.callers import Caller
from dalsegno.access.grants import read_grants
from dalsegno.store.store import Queries
from dalsegno.store.token_rows import TokenCounts, TokenRow
from dalsegno.workflow.refusals import Unauthenticated, Unavailable

REFRESH_S = 1.0
"""How often it is looked whether a token was added or revoked."""

UNKNOWN_S = 0.2
"""The least time between two reads for tokens that are not known: a flood of wrong ones costs little."""

HOW = "an admin makes one with `dalsegno token create`, and programs take it by --token-file or DALSEGNO_TOKEN_FILE"

Run = Callable[[Callable[[Queries], Any]], Awaitable[Any]]
"""Reads the store. Raises Unavailable."""

_log = logging.getLogger("dalsegno.access")


class TokenDirectory:
    """Finds the callers of tokens. While the store cannot be read, those that are known stay as they are."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._counts: TokenCounts | None = None
        self._callers: dict[str, Caller] = {}
        """By the hash of the token, in hex: those that were not revoked when this was read."""
        self._revoked: frozenset[str] = frozenset()
        self._read_s = -math.inf
        """When the last read began, by the clock of the event loop."""
        self._reading = asyncio.Lock()

    async def find(self, token: str) -> Caller:
        """Return the caller of a token. Raises Unauthenticated, and Unavailable if it is unknown and the store cannot
        be read."""
        if not is_token(token):
            raise Unauthenticated(f"what was sent has not the form of a token; {HOW}")
        sha256 = hash_of(token).hex()
        caller = self._callers.get(sha256)
        if caller is None and sha256 not in self._revoked:
            await self._look_again()
            caller = self._callers.get(sha256)
        if caller is None:
            told = "was revoked" if sha256 in self._revoked else "is unknown"
            raise Unauthenticated(f"the token {told}; {HOW}")
        self.check(caller)
        return caller

    def check(self, caller: Caller) -> None:
        """Raise Unauthenticated if the token of a caller has expired or was revoked. Only compares."""
        if caller.expires_s is not None and caller.expires_s <= time.time():
            raise Unauthenticated(f"the token of {caller.name!r} has expired; {HOW}")
        if caller.sha256 in self._revoked:
            raise Unauthenticated(f"the token of {caller.name!r} was revoked; {HOW}")

    async def _look_again(self) -> None:
        """Read the store once more, together with all who ask for it meanwhile. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        async with self._reading:
            if self._read_s < asked_s:
                await asyncio.sleep(self._read_s + UNKNOWN_S - loop.time())
                await self._refresh()

    async def refresh(self) -> None:
        """Read the store. Raises Unavailable."""
        async with self._reading:
            await self._refresh()

    async def _refresh(self) -> None:
        self._read_s = asyncio.get_running_loop().time()
        found = await self._run(self._read_changed)
        if found is not None:
            self._counts, rows = found
            self._take(rows)

    def _read_changed(self, queries: Queries) -> tuple[TokenCounts, list[TokenRow]] | None:
        counts = queries.token_counts()
        return (counts, queries.tokens()) if counts != self._counts else None

    def _take(self, rows: list[TokenRow]) -> None:
        self._callers = {row.sha256: _caller(row) for row in rows if row.revoked_s is None}
        self._revoked = frozenset(row.sha256 for row in rows if row.revoked_s is not None)

    async def keep_up(self, refreshed: Callable[[], None]) -> None:
        """Read the store once a second for ever, and call `refreshed` each time, also when it cannot be read."""
        while True:
            try:
                await self.refresh()
            except Unavailable as error:
                _log.debug("tokens cannot be read now: %s", error)
            refreshed()
            await asyncio.sleep(REFRESH_S)


def _caller(row: TokenRow) -> Caller:
    return Caller(row.name, read_grants(row.grants), row.token_id, row.sha256, row.expires_s, account=row.token_id)
