"""Sends inputs over the wire, and judges what comes back."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import grpc
from google.protobuf.descriptor import MethodDescriptor
from tests.fuzz.documents import PASSWORD
from tests.fuzz.inputs import Input, Kind, methods
from tests.fuzz.stand import Stand

WITHIN_S = 5.0
"""No call takes longer, but those that wait for something by their nature."""
WATCHED_S = 0.2
"""So long a call that waits is left open."""
MESSAGES_MAX = 20
"""So many messages of a stream are read."""
FAULTS = ("INTERNAL", "UNKNOWN", "DATA_LOSS")
_SILENT = frozenset(("WaitExecution", "WaitAction", "WatchExecution", "Follow"))
_CUT = "Internal error from Core"
"""What the library says at the client when a server ends a stream to which the client just writes. A fault of the
server has a line in its log, which is looked at, too."""
_TRACEBACK = re.compile(rb'Traceback \(most recent call last\)|File "[^"]*\.py", line')
_HTTP_FAULTS = re.compile(rb'"code": ?"(internal|unknown|data_loss)"|grpc-status: ?(2|13|15)\b')


_TOLD = "a client is told a secret"
NO_ANSWER = f"no answer within {WITHIN_S:g} s"


class TooSlow(Exception):
    """A call has taken too long."""


class Sender:
    """Sends inputs to a stand, several at a time."""

    def __init__(self, stand: Stand, client: aiohttp.ClientSession) -> None:
        self._stand = stand
        self._client = client
        self._url = f"http://{stand.gateway.address}"
        self.answers: Counter[str] = Counter()
        """How often each code was answered, by kind."""
        self.slowest_s = 0.0

    async def send(self, sent: Input, name: str) -> str:
        """Send one; return what is wrong with what came of it, empty if nothing is. `name`: what logs call it.

        Raises TooSlow.
        """
        began_s = time.monotonic()
        answer = await _SENT[sent.kind](self, sent, name)
        took_s = time.monotonic() - began_s
        self.slowest_s = max(self.slowest_s, took_s)
        self.answers[f"{sent.kind} {answer[0]}"] += 1
        if took_s > WITHIN_S:
            raise TooSlow(f"it took {took_s:.1f} s")
        return answer[1]

    async def rpc(self, sent: Input, name: str) -> tuple[str, str]:
        """Call a method of an api or an engine. Return the code, and what is wrong."""
        method = methods()[sent.target]
        is_engine = sent.kind is Kind.ENGINE
        channel: Any = self._stand.engine if is_engine else self._stand.api  # its stubs would take messages, not bytes
        metadata = _metadata(sent.headers) or self._stand.metadata("service" if is_engine else "admin")
        if not any(key == "x-request-id" for key, _ in metadata):
            metadata = (*metadata, ("x-request-id", name))
        if method.server_streaming:
            call = channel.unary_stream(sent.target)(sent.parts[0], metadata=metadata)
            return await _judge(_read_some(call), method, is_public=not is_engine)
        within_s = WATCHED_S if method.name in _SILENT else WITHIN_S
        return await _judge(
            channel.unary_unary(sent.target)(sent.parts[0], metadata=metadata, timeout=within_s), method
        )

    async def stream(self, sent: Input, name: str) -> tuple[str, str]:
        """Send the messages of an executor."""
        metadata = (*self._stand.metadata("executor"), ("x-request-id", name))
        channel: Any = self._stand.engine
        call = channel.stream_stream(sent.target)(_each(sent.parts), metadata=metadata)
        return await _judge(_read_all(call), None)

    async def http(self, sent: Input, name: str) -> tuple[str, str]:
        """Send a request of HTTP."""
        verb, target = ("GET", sent.target[4:]) if sent.target.startswith("GET ") else ("POST", sent.target)
        headers = [(key, value) for key, value in sent.headers if value]
        if not target.startswith("/hooks/"):
            headers.append(("authorization", f"Bearer {self._stand.admin}"))
        if not any(key == "x-request-id" for key, _ in headers):
            headers.append(("x-request-id", name))
        waits = any(each in target for each in _SILENT) or _is_stream(target)
        try:
            async with asyncio.timeout(WATCHED_S if waits else WITHIN_S):
                async with self._client.request(
                    verb, self._url + target, data=sent.parts[0] or None, headers=headers
                ) as reply:
                    body = await reply.read()
        except TimeoutError:
            if not waits:
                raise TooSlow(NO_ANSWER) from None
            return "cancelled", ""
        return str(reply.status), _wrong_http(reply.status, body)


def _is_stream(target: str) -> bool:
    method = methods().get(target)
    return method is not None and method.server_streaming


def _metadata(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value.encode() if key.endswith("-bin") else value) for key, value in headers)


async def _each(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _read_some(call: Any) -> bytes:
    """Read the first messages of a stream, for a short while."""
    read = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(WATCHED_S):
            for _ in range(MESSAGES_MAX):
                if (message := await call.read()) is grpc.aio.EOF:
                    return read
                read += message
    call.cancel()
    return read


async def _read_all(call: Any) -> None:
    """Read a stream to its end, which comes soon after that of what is sent."""
    try:
        async with asyncio.timeout(WITHIN_S):
            async for message in call:
                if b"the engine could not handle it" in message:
                    raise AssertionError(f"an outcome was refused for a fault: {message!r}")
    except TimeoutError:
        call.cancel()
        raise TooSlow("the stream has not ended") from None


async def _judge(call: Awaitable[Any], method: MethodDescriptor | None, *, is_public: bool = False) -> tuple[str, str]:
    """Return the code of a call, and what is wrong with it. `is_public`: no answer of it may have a secret."""
    try:
        answer = await call
    except AssertionError as error:
        return "wrong", str(error)
    except grpc.aio.AioRpcError as error:
        code, told = error.code().name, f"{error.code().name}: {error.details()}"
        shown = f"{told} {list(error.trailing_metadata() or ())!r}".encode()
        if error.details() == _CUT:
            return "ENDED WHILE SENDING", ""
        if code in FAULTS or _TRACEBACK.search(shown):
            return code, f"a client is told of a fault: {shown.decode()[:2_000]}"
        if code == "DEADLINE_EXCEEDED" and (method is None or method.name not in _SILENT):
            raise TooSlow(NO_ANSWER) from None
        if code == "UNIMPLEMENTED":
            return code, told
        return code, _TOLD if PASSWORD.encode() in shown else ""
    return "OK", _TOLD if is_public and PASSWORD.encode() in answer else ""


def _wrong_http(status: int, body: bytes) -> str:
    is_fault = (status >= 500 and status not in (501, 503, 504)) or _HTTP_FAULTS.search(body[:4_000])
    if PASSWORD.encode() in body:
        return _TOLD
    if is_fault or _TRACEBACK.search(body):
        return f"a client is told of a fault: {status} {body[:2_000]!r}"
    return ""


_SENT: dict[Kind, Callable[[Sender, Input, str], Awaitable[tuple[str, str]]]] = {
    Kind.API: Sender.rpc,
    Kind.ENGINE: Sender.rpc,
    Kind.TOKEN: Sender.rpc,
    Kind.STREAM: Sender.stream,
    Kind.GATEWAY: Sender.http,
}
