"""A channel whose calls show the token of their program, as it is in its file at that moment."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc

from dalsegno.access.bearer import TokenFile
from dalsegno.rpc.stub_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary


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
        return UnaryUnary(partial(self._begin, self._channel.unary_unary(method, *coders, **more)))

    def unary_stream(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return UnaryStream(partial(self._begin, self._channel.unary_stream(method, *coders, **more)))

    def stream_unary(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return StreamUnary(partial(self._begin, self._channel.stream_unary(method, *coders, **more)))

    def stream_stream(self, method: str, *coders: Any, **more: Any) -> Any:
        """Return the method for stubs."""
        return StreamStream(partial(self._begin, self._channel.stream_stream(method, *coders, **more)))

    def _begin(self, method: Any, *given: Any, metadata: Any = (), **how: Any) -> Any:
        return method(*given, metadata=(*(metadata or ()), *self._token.metadata), **how)
