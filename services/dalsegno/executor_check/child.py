"""The executor under test as a child process, if the check is given its command."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence


class Child:
    """A program that is started when it does not run."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_given(self) -> bool:
        """Return whether there is a command; else somebody else starts the executor."""
        return bool(self._command)

    @property
    def is_running(self) -> bool:
        """Return whether the process is there."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, unless it runs or has no command. Raises OSError."""
        if self.is_given and not self.is_running:
            # Standard output is the report's; an executor may write what it likes to standard error.
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.DEVNULL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def wait(self, within_s: float) -> int | None:
        """Return its exit code; None if it still runs after the time."""
        if self._process is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                return await self._process.wait()
        return None

    async def close(self, within_s: float = 3.0) -> None:
        """Make sure that it is gone."""
        self.terminate()
        if self._process is not None and await self.wait(within_s) is None:
            self._process.kill()
            await self._process.wait()
