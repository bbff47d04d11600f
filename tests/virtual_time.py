"""An event loop with virtual time: a test of delays takes no time and gives the same figures on every machine.

    def test_a_delay() -> None:
        async def course() -> None:
            await asyncio.sleep(60)
        run_in_virtual_time(course())

Only for code that asks the loop for the time and does no I/O.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: adds the time that it is asked to wait to `now_s`."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time begins at 0 and jumps to the next timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now_s


def run_in_virtual_time(course: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(course)
