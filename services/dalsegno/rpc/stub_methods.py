"""The methods of a channel that acts as another one: grpc's stubs take only instances of these four classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

Begin = Callable[..., Any]
"""Begins a call: it takes what a method of a stub takes, and returns the call."""


class _Method:
    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def __call__(self, *given: Any, **how: Any) -> Any:
        """Begin a call."""
        return self._begin(*given, **how)


class UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """A method with one request and one answer."""


class UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """A method with one request and a stream of answers."""


class StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A method with a stream of requests and one answer."""


class StreamStream(_Method, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """A method with streams of requests and answers."""
