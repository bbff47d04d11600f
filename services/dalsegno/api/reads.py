"""Reads of the store: each in a thread of its own and within one snapshot, none across an await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dalsegno.store.store import Queries, Store

Answer = TypeVar("Answer")


class Reads:
    """The read side of a store for servicers."""

    def __init__(self, store: Store, readers: int) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="read")

    async def run(self, read: Callable[[Queries], Answer]) -> Answer:
        """What `read` gives, called with one snapshot of the store in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    def _read(self, read: Callable[[Queries], Answer]) -> Answer:
        with self._store.read() as queries:
            return read(queries)

    async def is_possible(self) -> bool:
        """Whether the store can be read now."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._store.is_available)

    def close(self) -> None:
        """Let reads under way end, and take no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
