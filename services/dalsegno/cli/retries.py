"""Retry while the server is unavailable, and print messages meanwhile.

no answer ──▶ 1 s: a message ──▶ every 5 s: how long it retries ──▶ 20 s: it stops, and prints what continues and how to
follow it again. Ctrl-C has the same effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import grpc

from dalsegno.cli.exits import UNREACHABLE, CommandError
from dalsegno.cli.output import print_note
from dalsegno.rpc.channel import has_no_answer, was_never_sent
from dalsegno.rpc.handshake import Explainer

RETRY_S = 20.0
"""The time for retries of a call: long enough for a supervisor to start a dead service again."""
FIRST_MESSAGE_S = 1.0
NEXT_MESSAGE_S = 5.0
_LOOK_S = 0.2
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 1.0


def is_cut(error: grpc.aio.AioRpcError) -> bool:
    """Return whether to ask again: there is no answer, or the server says that it lacks something at present."""
    return error.code() is grpc.StatusCode.UNAVAILABLE or has_no_answer(error)


@dataclass(slots=True)
class CommandState:
    """The state of the command; one command runs in one process, so there is one instance."""

    address: str = ""
    """The server that it calls."""
    is_connected: Callable[[], bool] = lambda: True
    """Whether there is a connection to it now."""
    explainer: Explainer | None = None
    """Says why there is none, as far as TLS is the cause."""
    tls: dict[str, str] = field(default_factory=dict)
    """The values of its options `--tls-...`, by their names without that."""
    token_file: str = ""
    """The file of the token that it shows."""
    namespace: str = ""
    """The namespace from the environment variable or the context; "" for all."""
    reason: str = ""
    """What the server lacks, as its health says; "" if that was not asked, or it lacks nothing."""
    exit_hint: str = ""
    """What to print when it stops early: what continues without it, and how to follow it again."""

    def reset(self) -> None:
        """Reset all fields."""
        self.address = self.token_file = self.namespace = self.exit_hint = self.reason = ""
        self.is_connected, self.explainer, self.tls = lambda: True, None, {}


COMMAND = CommandState()


class Retries:
    """Retries while there is no answer, and prints messages meanwhile. Used with `async with`."""

    def __init__(self, within_s: float = RETRY_S, *, is_silent: bool = False) -> None:
        self._within_s = within_s
        self._is_silent = is_silent
        self._is_failing = False
        self._refusal = ""
        """What the server says of the last call; empty if it does not answer."""
        self._wait_s = _FIRST_WAIT_S
        self._unavailable_since_s: float | None = None
        self._has_printed = False
        self._reporting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reporting = asyncio.create_task(self._report())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reporting is not None
        self._reporting.cancel()

    def answered(self) -> None:
        """Record an answer: the time for retries begins again."""
        if self._has_printed:
            print_note("the server is back")
        self._is_failing, self._unavailable_since_s, self._has_printed, self._wait_s = False, None, False, _FIRST_WAIT_S

    async def wait(self, error: grpc.aio.AioRpcError) -> None:
        """Wait until the next retry. Raises the error when the time for retries is over, and CommandError if both sides
        cannot speak with each other, which no time changes."""
        if COMMAND.explainer is not None and was_never_sent(error) and (told := await COMMAND.explainer.why()):
            raise CommandError(f"the server at {COMMAND.address}: {told}", exit_code=UNREACHABLE)
        self._is_failing, self._refusal = True, "" if has_no_answer(error) else error.details() or ""
        if self._left_s() <= self._wait_s:
            raise error
        await asyncio.sleep(self._wait_s)
        self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s)

    def _left_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        if self._unavailable_since_s is None:
            self._unavailable_since_s = now_s
        return self._unavailable_since_s + self._within_s - now_s

    async def _report(self) -> None:
        """Print after a second that there is no answer or no connection; then how long the retries continue."""
        print_after_s = FIRST_MESSAGE_S
        while not self._is_silent:
            await asyncio.sleep(_LOOK_S)
            if not self._is_failing and COMMAND.is_connected():
                self._unavailable_since_s = None
                print_after_s = FIRST_MESSAGE_S
                continue
            left_s = max(0.0, self._left_s())
            since_s = self._within_s - left_s
            if since_s >= print_after_s:
                self._print_wait(since_s, left_s)
                print_after_s = since_s + NEXT_MESSAGE_S

    def _print_wait(self, since_s: float, left_s: float) -> None:
        goes_on = f"trying for another {left_s:.0f} s"
        if self._has_printed:
            print_note(f"still so after {since_s:.0f} s; {goes_on}")
        else:
            told = self._refusal or f"{COMMAND.address or 'the server'} does not answer"
            print_note(f"{told}; {goes_on} (Ctrl-C stops)")
        self._has_printed = True
