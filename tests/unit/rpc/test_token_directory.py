"""How a process knows tokens: without a read for each call, and soon after they change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.api.guarded import add_token

from dalsegno.access.bearer import hash_of, id_of, new_token
from dalsegno.rpc import token_directory
from dalsegno.rpc.token_directory import UNKNOWN_S, TokenDirectory
from dalsegno.store.memory import MemoryStore
from dalsegno.store.store import Queries
from dalsegno.workflow.refusals import Unauthenticated, Unavailable


class Reader:
    """Reads a store, and counts how often."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.count = 0
        self.is_away = False

    async def run(self, read: Callable[[Queries], Any]) -> Any:
        if self.is_away:
            raise Unavailable("the store cannot be read at present")
        self.count += 1
        with self.store.read() as queries:
            return read(queries)


async def test_known_tokens_cost_no_read() -> None:
    """A thousand calls with a token that is known read nothing."""
    reader = Reader()
    directory = TokenDirectory(reader.run)
    token = add_token(reader.store, "anna", "viewer")
    assert (await directory.find(token)).name == "anna"
    for _ in range(1000):
        await directory.find(token)
    assert reader.count == 1


async def test_a_flood_of_wrong_tokens_costs_few_reads() -> None:
    """A thousand unknown tokens at once share a read, and a new one that comes among them counts at once."""
    reader = Reader()
    directory = TokenDirectory(reader.run)
    await directory.refresh()
    began_s = time.monotonic()
    calls = [asyncio.ensure_future(directory.find(new_token())) for _ in range(1000)]
    calls.append(asyncio.ensure_future(directory.find(add_token(reader.store, "anna", "viewer"))))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, Unauthenticated) for each in answers[:-1])
    assert answers[-1].name == "anna"  # type: ignore[union-attr]
    assert reader.count <= 2 + (time.monotonic() - began_s) / UNKNOWN_S


async def test_what_is_known_counts_on_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an outage a token that is known is served, an unknown one is told to come again, and an expired one is
    refused all the same."""
    reader = Reader()
    directory = TokenDirectory(reader.run)
    token = add_token(reader.store, "anna", "viewer")
    short = add_token(reader.store, "bert", "viewer", expires_s=time.time() + 600)
    caller = await directory.find(short)
    reader.is_away = True
    assert (await directory.find(token)).name == "anna"
    with pytest.raises(Unavailable):
        await directory.find(new_token())
    later = SimpleNamespace(time=lambda: time.time() + 601, monotonic=time.monotonic)
    monkeypatch.setattr(token_directory, "time", later)
    for ended in (directory.find(short), asyncio.to_thread(directory.check, caller)):
        with pytest.raises(Unauthenticated, match=r"the token of 'bert' has expired"):
            await ended


async def test_a_revoked_token_is_known_as_such() -> None:
    """After the next look the caller of a revoked token is not valid, and the refusal says why."""
    reader = Reader()
    directory = TokenDirectory(reader.run)
    token = add_token(reader.store, "anna", "viewer")
    caller = await directory.find(token)
    with reader.store.write() as transaction:
        transaction.revoke_token(id_of(hash_of(token)), 1.0)
    directory.check(caller)
    await directory.refresh()
    with pytest.raises(Unauthenticated, match=r"was revoked"):
        directory.check(caller)
    with pytest.raises(Unauthenticated, match=r"was revoked"):
        await directory.find(token)
