"""Calls of the api that the gateway makes for its callers: counted, logged, ended with the caller or the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.rpc.status_pb2 import Status

from dalsegno.gateway.metadata import MetadataList
from dalsegno.rpc import errors
from dalsegno.rpc.errors import refusals
from dalsegno.rpc.interceptors import ServedCall, finish, open_call

STOPPING = "the gateway is stopping"


class CallFailed(Exception):
    """A call that has failed and is logged."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Calls:
    """All calls that are open. Use it within one event loop."""

    def __init__(self) -> None:
        self._open: dict[Any, bool] = {}
        """The calls of the api, and whether each is a stream."""
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False

    @contextmanager
    def served(
        self, method: str, request_id: str | None, left_s: float | None = None, *, short: bool = False
    ) -> Iterator[ServedCall]:
        """Count and log a call of a caller, and raise CallFailed when it fails.

        `left_s`: the time that it has; None: no limit. `short`: whether its caller accepts short details only.
        """
        ends_s = math.inf if left_s is None else time.monotonic() + left_s
        call = open_call(method, request_id, own_client=not short)
        try:
            if self.stopping:
                raise refusals.Unavailable(STOPPING)
            yield call
        except GeneratorExit:
            finish(call, "CANCELLED")
            raise
        except asyncio.CancelledError:
            if self.stopping:
                raise _failed(call, refusals.Unavailable(STOPPING)) from None
            finish(call, "CANCELLED" if time.monotonic() < ends_s else "DEADLINE_EXCEEDED")
            raise
        except Exception as error:
            raise _failed(call, error) from None
        else:
            finish(call, "OK")

    @contextmanager
    def opened(
        self, rpc: Any, message: Any, metadata: MetadataList, left_s: float | None = None, *, is_stream: bool = False
    ) -> Iterator[Any]:
        """Call the api; the call ends with the block at the latest. `left_s`: the time that it has; None: no limit."""
        upstream = rpc(message, metadata=metadata, timeout=None if left_s is None else max(0.0, left_s))
        self._open[upstream] = is_stream
        self._idle.clear()
        try:
            yield upstream
        finally:
            upstream.cancel()
            del self._open[upstream]
            if not self._open:
                self._idle.set()

    async def stop(self, grace_s: float) -> None:
        """End streams with UNAVAILABLE, let other calls end within the grace, and end the rest likewise."""
        self.stopping = True
        for upstream in [each for each, is_stream in self._open.items() if is_stream]:
            upstream.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        for upstream in list(self._open):
            upstream.cancel()


def _failed(call: ServedCall, error: Exception) -> CallFailed:
    size = errors.OWN_DETAILS_BYTES if call.own_client else errors.DETAILS_BYTES
    status = errors.status_of(error, call.request_id, size)
    finish(call, errors.code_of(error).name, error, status.message)
    return CallFailed(status)
