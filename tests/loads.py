"""Callers that call again and again while something is changed, and not one of whose calls may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

RoundDone = Callable[[], Awaitable[None]]
Caller = Callable[[RoundDone], Awaitable[None]]
"""Calls for ever, and says when each round of its calls has ended well."""


class SteadyLoad:
    """Callers at work."""

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._rounds = [0] * len(callers)
        self._moved = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._run(number, caller)) for number, caller in enumerate(callers)]

    @property
    def rounds(self) -> int:
        """How many rounds of calls have ended well."""
        return sum(self._rounds)

    async def _run(self, number: int, caller: Caller) -> None:
        async def round_done() -> None:
            async with self._moved:
                self._rounds[number] += 1
                self._moved.notify_all()

        await caller(round_done)

    async def go_on(self) -> None:
        """Return when all calls that are open now have ended well, and each caller has begun anew. Raises the error of
        a call that fails."""
        wanted = [each + 2 for each in self._rounds]

        async def reached() -> None:
            async with self._moved:
                await self._moved.wait_for(lambda: all(map(int.__ge__, self._rounds, wanted)))

        reaching = asyncio.create_task(reached())
        await asyncio.wait([reaching, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()
        await reaching

    async def stop(self) -> None:
        """Call no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
