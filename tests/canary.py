"""A canary: a two-task execution begun again and again beside other work, and how long each one takes.

What holds others up shows in its times. It speaks to api alone, like any client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

EVERY_S = 0.1
NAME = "canary"
TEXT = """
version: '2.0'
canary:
  tasks:
    sing: {action: std.noop, on-success: listen}
    listen: {action: std.noop}
"""


@dataclass
class Canary:
    """The times of the executions so far, in seconds, from the start call to the end."""

    run: Callable[[], Awaitable[object]]
    """Starts one execution and waits for its end; raises when it is no success."""
    times_s: list[float] = field(default_factory=list)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def sing(self) -> None:
        """Begin one execution every EVERY_S seconds, until cancelled."""
        while True:
            task = asyncio.create_task(self._sing_once())
            self._running.add(task)
            await asyncio.sleep(EVERY_S)

    async def _sing_once(self) -> None:
        began_s = time.monotonic()
        await self.run()
        self.times_s.append(time.monotonic() - began_s)

    async def finish(self) -> None:
        """Wait for those that still run. Raises what went wrong in any."""
        await asyncio.gather(*self._running)


@asynccontextmanager
async def singing(run: Callable[[], Awaitable[object]]) -> AsyncIterator[Canary]:
    """A canary that sings until the end of the block, and is then waited for."""
    canary = Canary(run)
    task = asyncio.create_task(canary.sing())
    try:
        yield canary
    finally:
        task.cancel()
        await canary.finish()
