"""A channel by TLS that goes on with new certificates when their files change, without an end of any call.

files change ──▶ a second channel connects ──ready, or the first is lost──▶ new calls use it ──▶ the first is closed
                                                                           after its last call
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import grpc

from dalsegno.rpc.credentials import ClientTls
from dalsegno.rpc.stub_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary

_LOOK_S = 0.05
_LOOK_LONGEST_S = 1.0

Open = Callable[[grpc.ChannelCredentials], grpc.aio.Channel]


class _Line:
    """One channel, with the number of its open calls."""

    def __init__(self, credentials: grpc.ChannelCredentials, channel: grpc.aio.Channel) -> None:
        self.credentials = credentials
        self.channel = channel
        self.calls = 0
        self.unused = asyncio.Event()
        """Set while it has no calls."""
        self.unused.set()

    @property
    def is_ready(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    def begin(self, call: Any) -> None:
        """Count a call until it is done."""
        self.calls += 1
        self.unused.clear()
        call.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.calls -= 1
        if not self.calls:
            self.unused.set()


class RenewedChannel(grpc.aio.Channel):
    """Acts as one channel. Use it within one event loop."""

    def __init__(self, tls: ClientTls, open_one: Open) -> None:
        """`open_one` returns a channel with these credentials."""
        self._tls = tls
        self._open = open_one
        self._now = self._connect(tls.credentials())
        self._coming: tuple[_Line, asyncio.Task[None]] | None = None
        """The line that is to follow, and who waits for it."""
        self._parting: dict[asyncio.Task[None], _Line] = {}
        self._is_closed = False

    async def __aenter__(self) -> RenewedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close it; calls have `grace` seconds to end."""
        self._is_closed = True
        lines = [self._now, *self._parting.values()]
        tasks = list(self._parting)
        if self._coming is not None:
            lines.append(self._coming[0])
            tasks.append(self._coming[1])
            self._coming = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.channel.close(grace) for each in lines))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel that new calls use."""
        return self.line().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the channel that new calls use has another state than this one."""
        await self.line().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait for a connection."""
        await self.line().channel.channel_ready()

    def unary_unary(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return UnaryUnary(_OnLine(self, lambda channel: channel.unary_unary(method, *coders, **more)))

    def unary_stream(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return UnaryStream(_OnLine(self, lambda channel: channel.unary_stream(method, *coders, **more)))

    def stream_unary(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return StreamUnary(_OnLine(self, lambda channel: channel.stream_unary(method, *coders, **more)))

    def stream_stream(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return StreamStream(_OnLine(self, lambda channel: channel.stream_stream(method, *coders, **more)))

    def _connect(self, credentials: grpc.ChannelCredentials) -> _Line:
        return _Line(credentials, self._open(credentials))

    def line(self) -> _Line:
        """Return the line of new calls, after a look at the files."""
        credentials = self._tls.credentials()
        if self._is_closed or credentials is self._now.credentials:
            return self._now
        if self._coming is not None and self._coming[0].credentials is not credentials:
            line, task = self._coming
            task.cancel()
            self._coming = None
            self._part(line)
        if self._coming is None:
            line = self._connect(credentials)
            self._coming = line, asyncio.create_task(self._follow(line))
        if not self._now.is_ready:
            self._turn()
        return self._now

    async def _follow(self, line: _Line) -> None:
        """Turn to this line when it is connected, or the one before it is not any more."""
        look_s = _LOOK_S
        line.channel.get_state(try_to_connect=True)
        while self._now.is_ready and not line.is_ready:
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, _LOOK_LONGEST_S)
        if self._coming is not None and self._coming[0] is line:
            self._turn()

    def _turn(self) -> None:
        assert self._coming is not None
        before, (self._now, _) = self._now, self._coming
        self._coming = None
        self._part(before)

    def _part(self, line: _Line) -> None:
        """Close a line after its last call."""

        async def close() -> None:
            await line.unused.wait()
            with contextlib.suppress(asyncio.CancelledError):
                await line.channel.close()

        task = asyncio.create_task(close())
        self._parting[task] = line
        task.add_done_callback(lambda ended: self._parting.pop(ended, None))


class _OnLine:
    """Begins the calls of one method, each on the line of that moment."""

    def __init__(self, channel: RenewedChannel, of: Callable[[grpc.aio.Channel], Any]) -> None:
        """`of` returns the method of one channel."""
        self._renewed = channel
        self._of = of
        self._made: WeakKeyDictionary[_Line, Any] = WeakKeyDictionary()

    def __call__(self, *given: Any, **how: Any) -> Any:
        """Begin a call."""
        line = self._renewed.line()
        method = self._made.get(line)
        if method is None:
            method = self._made[line] = self._of(line.channel)
        call = method(*given, **how)
        line.begin(call)
        return call
