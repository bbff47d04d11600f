"""Tell which action blocks the event loop: while it does, no heartbeat, deadline or cancel gets through."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback

TICK_S = 0.25
BLOCKED_S = 2.0
"""A loop that has not turned for this time is blocked."""

FRAMES = 5
"""How many of the innermost calls are shown."""

_log = logging.getLogger(__name__)


class LoopWatch:
    """Watches the running event loop from a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._turned_s = time.monotonic()
        self._ended = threading.Event()
        self._tick()
        threading.Thread(target=self._watch, name="loop watch", daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()
        self._timer.cancel()

    def _tick(self) -> None:
        self._turned_s = time.monotonic()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _watch(self) -> None:
        was_blocked = False
        while not self._ended.wait(TICK_S):
            blocked_s = time.monotonic() - self._turned_s
            if blocked_s >= BLOCKED_S and not was_blocked:
                _log.warning(
                    "the event loop is blocked: an action that blocks must be a `def` without blocking=False",
                    extra={"blocked_s": round(blocked_s, 1), "calls": self._calls()},
                )
            was_blocked = blocked_s >= BLOCKED_S

    def _calls(self) -> str:
        """Return where the loop is: its innermost calls, the innermost last."""
        stack = traceback.extract_stack(sys._current_frames().get(self._watched), limit=None)
        return " > ".join(f"{each.name} ({each.filename}:{each.lineno})" for each in stack[-FRAMES:])
