"""Keep a stream open to one engine: reconnect with growing delays when it breaks, and close it in order."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import grpc

from dalsegno.rpc.handshake import Explainer
from dalsegno.worker.session import Session
from dalsegno.worker.stream import Ended, Stream

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 1.0
ACKNOWLEDGED_WITHIN_S = 1.0
"""The time in which the last outcomes must be acknowledged."""

_log = logging.getLogger(__name__)


class Connection:
    """The part of a session for one engine."""

    def __init__(self, session: Session, engine: str, channel: grpc.aio.Channel, tls: ClientTls | None = None) -> None:
        self._session = session
        self._engine = engine
        self._channel = channel
        self._explainer = Explainer(engine, tls)
        self._stream: Stream | None = None
        self._retry_s = RETRY_FIRST_S
        self._released = False
        self._reason = ""
        self._rival_of = ""
        """The engine that uses the stream of another of its addresses; empty for none."""

    @property
    def is_connected(self) -> bool:
        """Return whether the engine can send work."""
        return self._stream is not None and self._stream.welcomed

    @property
    def reason(self) -> str:
        """Return why the last stream was not welcomed; empty if the one that is open is."""
        return f"the engine at {self._engine}: {self._reason}" if self._reason and not self.is_connected else ""

    async def run(self) -> None:
        """Serve the engine until the session stops or is superseded."""
        try:
            await self._keep_connected()
        finally:
            self._explainer.close()

    async def _keep_connected(self) -> None:
        while not self._session.superseded.is_set():
            if self._is_served_elsewhere():
                await asyncio.sleep(RETRY_MAX_S)
                continue
            stream = self._stream = Stream(self._session, self._engine, self._channel)
            if self._released:
                self.release()
            try:
                ended = await stream.run()
            except Exception:  # a fault in one message must not end the connection to the engine for ever
                _log.exception("stream to %s failed", self._engine)
                ended = Ended.BROKEN
            self._stream = None
            if stream.welcomed:
                self._retry_s = RETRY_FIRST_S
            self._explain(stream)
            if ended is Ended.SUPERSEDED:
                _log.error("another process is executor %s now: this one ends", self._session.executor_id)
                self._session.superseded.set()
            elif ended is Ended.REPLACED:
                _log.warning("the engine at %s has another address, too: one of them is used", self._engine)
                self._rival_of = stream.engine_id
                await self._pause()
            elif self._released and (stream.releases or not stream.welcomed):
                return
            elif not (self._session.leaving and ended is Ended.CLOSED):
                await self._pause()

    def _explain(self, stream: Stream) -> None:
        """Log why the engine cannot be reached, or does not take this executor; the same reason once."""
        reason = "" if stream.welcomed or self._session.leaving else stream.reason
        if reason and stream.is_unreached:
            reason = self._explainer.known() or reason
        if reason and reason != self._reason:
            _log.warning("no work from the engine at %s, which is tried again: %s", self._engine, reason)
        self._reason = reason

    def stop_taking(self) -> None:
        """End the stream without giving back what runs, and open one without credit.

        What the engine sent meanwhile is not in the new Hello, so that it gives these actions to other executors. It is
        not enough to send no more credit: the engine may still have some, and the actions that it then sends could
        only be given back as lost, which is a failure unless they are safe to run again.
        """
        if self._stream is not None:
            self._stream.say_goodbye("the executor is stopping", release=False, within_s=0)

    def release(self) -> None:
        """Give back what has not ended, and end the stream."""
        self._released = True
        if self._stream is not None:
            self._stream.say_goodbye("the executor has stopped", release=True, within_s=ACKNOWLEDGED_WITHIN_S)

    def _is_served_elsewhere(self) -> bool:
        """Return whether the engine, which ended this stream in favour of another address, still has that stream."""
        is_open = self._rival_of in self._session.engines_met.values()
        return bool(self._rival_of) and is_open and not self._released

    async def _pause(self) -> None:
        # Between half and all of the delay, so that the executors of an engine do not reconnect at the same time.
        await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))
        self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
        self._session.metrics.reconnects.inc()
