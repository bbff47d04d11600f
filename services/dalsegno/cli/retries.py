"""While the server is unavailable: what a command prints while it retries, and when it gives up.

no answer ──▶ 1 s: a message ──▶ every 5 s: how long it retries ──▶ 20 s: it gives up, and prints what continues and how
to follow it again. Ctrl-C has the same effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import grpc

from dalsegno.cli.output import print_note

RETRY_S = 20.0
"""How long a call is repeated while nobody answers: long enough for a supervisor to start a dead service again."""
FIRST_WORD_S = 1.0
NEXT_WORD_S = 5.0
_LOOK_S = 0.2
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 1.0


@dataclass(slots=True)
class CommandState:
    """What the command is about; one command runs in one process, so there is one of these."""

    address: str = ""
    """The server that it talks to."""
    is_connected: Callable[[], bool] = lambda: True
    """Whether there is a connection to it now."""
    namespace: str = ""
    """The namespace to work in, as the environment or the context says; "" for all."""
    exit_hint: str = ""
    """What is said when it ends before its time: what goes on without it, and how to come back."""

    def reset(self) -> None:
        """Forget it."""
        self.address = self.namespace = self.exit_hint = ""
        self.is_connected = lambda: True


COMMAND = CommandState()


class Retries:
    """Retries while there is no answer, and prints messages meanwhile. Used with `async with`."""

    def __init__(self, within_s: float = RETRY_S, *, is_silent: bool = False) -> None:
        self._within_s = within_s
        self._is_silent = is_silent
        self._is_failing = False
        self._wait_s = _FIRST_WAIT_S
        self._away_since_s: float | None = None
        self._has_spoken = False
        self._talking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._talking = asyncio.create_task(self._talk())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._talking is not None
        self._talking.cancel()

    def answered(self) -> None:
        """Note an answer: the time for retries begins again."""
        if self._has_spoken:
            print_note("the server answers again")
        self._is_failing, self._away_since_s, self._has_spoken, self._wait_s = False, None, False, _FIRST_WAIT_S

    async def wait(self, error: grpc.aio.AioRpcError) -> None:
        """Wait until the next retry. Raises the error when the time for retries is over."""
        self._is_failing = True
        if self._left_s() <= self._wait_s:
            raise error
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s)

    def _left_s(self) -> float:
        now_s = time.monotonic()
        if self._away_since_s is None:
            self._away_since_s = now_s
        return self._away_since_s + self._within_s - now_s

    async def _talk(self) -> None:
        """Print after a second that there is no answer, or no connection yet; then how long the retries go on."""
        word_after_s = FIRST_WORD_S
        while not self._is_silent:
            await asyncio.sleep(_LOOK_S)
            if not self._is_failing and COMMAND.is_connected():
                self._away_since_s = None
                word_after_s = FIRST_WORD_S
                continue
            left_s = max(0.0, self._left_s())
            since_s = self._within_s - left_s
            if since_s >= word_after_s:
                self._speak(since_s, left_s)
                word_after_s = since_s + NEXT_WORD_S

    def _speak(self, since_s: float, left_s: float) -> None:
        if not self._has_spoken:
            place = f" at {COMMAND.address}" if COMMAND.address else ""
            print_note(f"the server{place} does not answer; retrying for another {left_s:.0f} s (Ctrl-C stops)")
        else:
            print_note(f"no answer for {since_s:.0f} s; retrying for another {left_s:.0f} s")
        self._has_spoken = True
