"""A channel whose calls show the token of their program, as it is in its file at that moment."""

from __future__ import annotations

from typing import Any

import grpc

from dalsegno.access.bearer import TokenFile


class AuthorizedChannel(grpc.aio.Channel):
    """Acts as another channel, which it owns."""

    def __init__(self, channel: grpc.aio.Channel, token: TokenFile) -> None:
        self._channel = channel
        self._token = token

    async def __aenter__(self) -> AuthorizedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close it; calls have `grace` seconds to end."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the channel has another state than this one."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait for a connection."""
        await self._channel.channel_ready()

    def unary_unary(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return _UnaryUnary(self._channel.unary_unary(method, *coders, **more), self._token)

    def unary_stream(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return _UnaryStream(self._channel.unary_stream(method, *coders, **more), self._token)

    def stream_unary(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return _StreamUnary(self._channel.stream_unary(method, *coders, **more), self._token)

    def stream_stream(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return _StreamStream(self._channel.stream_stream(method, *coders, **more), self._token)


class _Method:
    """One method: each call has the token of that moment."""

    def __init__(self, method: Any, token: TokenFile) -> None:
        self._method = method
        self._token = token

    def __call__(self, *given: Any, metadata: Any = (), **how: Any) -> Any:
        """Begin a call."""
        return self._method(*given, metadata=(*(metadata or ()), *self._token.metadata), **how)


class _UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    pass


class _UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    pass


class _StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    pass


class _StreamStream(_Method, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    pass
