"""The one interceptor of every server: request id, limits, deadline, log line, metrics, errors, the end of streams.

    call ──▶ too large? ──▶ request id ──▶ who? ──▶ fields? ──▶ may it? ──▶ deadline ──▶ servicer
                                             │ raises                                      │ raises
    status with details ◀── errors.status_of ┴─────────────────────────────────────────────┘   one log line and count

Servicers are `async def` or async generators, read a request stream with `async for`, and raise refusals; they never
need `context.abort`. rpc/field_checks.py checks single requests; the servicer of a stream checks what it receives.
Calls of other packages than ours (health, reflection) are served without checks, log and metrics.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter, Gauge, Histogram

from dalsegno.access.callers import ANYBODY, Caller, current
from dalsegno.access.permissions import is_audited
from dalsegno.rpc import errors, field_checks, logs
from dalsegno.rpc.channel import MESSAGE_BYTES, REQUEST_ID_KEY, USER_AGENT
from dalsegno.rpc.hiding import without_secrets
from dalsegno.rpc.metrics import CALL_SECONDS, CALLS, CALLS_OPEN
from dalsegno.workflow.refusals import InvalidRequest, NoSuchMethod, PermissionDenied, Refusal, TooLarge, Unavailable

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ServerTls
    from dalsegno.rpc.guard import Guard

UNARY_DEADLINE_S = 30.0
"""The deadline of a unary call whose caller sets none."""

Context = grpc.aio.ServicerContext[Any, Any]
_logger = logging.getLogger("dalsegno.rpc")
_audit = logging.getLogger("dalsegno.audit")
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED.name, grpc.StatusCode.PERMISSION_DENIED.name)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Represents a request that is not a valid message, with the reason."""

    refusal: Refusal


@dataclass(slots=True)
class ServedCall:
    """The state of one call while it is served."""

    method: str
    request_id: str
    own_client: bool
    ours: bool
    began_s: float
    execution: str = ""
    is_guarded: bool = False
    """Whether the server asks who calls."""
    caller: Caller = ANYBODY

    def note(self, request: Any) -> None:
        """Store what the log line names of the request. Raises TooLarge and InvalidRequest for an invalid one."""
        if isinstance(request, Unreadable):
            raise request.refusal
        self.execution = getattr(request, "execution_id", "")
        if self.ours and isinstance(request, Message) and (wrong := field_checks.wrong_fields(request)):
            raise InvalidRequest(wrong)


class _OpenCall:
    """The state of an open stream, or of another call that may take long."""

    __slots__ = ("call", "ending", "ends_itself", "is_counted", "is_sending")

    def __init__(self, call: ServedCall, ends_itself: bool) -> None:
        self.call = call
        self.ends_itself = ends_itself
        """Whether it ends by itself when the server stops, as two-way streams do."""
        self.ending: Refusal | None = None
        """Why the server ends it before its time."""
        self.is_counted = False
        """Whether it is among the open calls of its caller."""
        self.is_sending = False
        """Whether grpc sends a message of it, so that its servicer does not run."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every call. `unhurried` names unary methods (`/package.Service/Method`) without a default deadline, `roomy`
    the methods that accept larger messages, with their maximum size; `tls` which clients may call; `guard` asks who
    calls, and whether it may."""

    def __init__(
        self,
        unhurried: frozenset[str] = frozenset(),
        roomy: Mapping[str, int] | None = None,
        tls: ServerTls | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._unhurried = unhurried
        self._roomy = roomy or {}
        self._admits = tls if tls is not None and tls.client_names else None
        self._streams: dict[asyncio.Task[Any], _OpenCall] = {}
        """The open streams."""
        self._waits: dict[asyncio.Task[Any], _OpenCall] = {}
        """The open calls without a default deadline."""
        self._stopping = False
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        """By method: the handler of grpc, and our wrapper, made once."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call; grpc calls this for each call."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(_no_such_method(method))
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = handler, self._wrap(method, handler)
        return known[1]

    def _wrap(self, method: str, handler: Any) -> Any:
        coders = {
            "request_deserializer": _reader(handler.request_deserializer, self._roomy.get(method, MESSAGE_BYTES)),
            "response_serializer": without_secrets(handler.response_serializer),
        }
        if not handler.response_streaming:
            if handler.request_streaming:
                return grpc.stream_unary_rpc_method_handler(self._answer(method, handler.stream_unary, True), **coders)
            return grpc.unary_unary_rpc_method_handler(self._answer(method, handler.unary_unary, False), **coders)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(method, handler.stream_stream, True), **coders)
        return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream, False), **coders)

    def _answer(self, method: str, inner: Any, reads_stream: bool) -> Any:
        has_deadline = method not in self._unhurried

        async def answer(request: Any, context: Context) -> Any:
            call = begin(method, context)
            waiting = None if has_deadline else self._note_wait(call)
            try:
                request = await self._admit(call, request, context, waiting, reads_stream)
                if has_deadline and context.time_remaining() is None:
                    async with asyncio.timeout(UNARY_DEADLINE_S):
                        response = await inner(request, context)
                else:
                    response = await inner(request, context)
            except BaseException as error:
                await finish_badly(call, context, (waiting and waiting.ending) or error)
                raise
            finally:
                if waiting is not None:
                    self._waits.pop(cast("asyncio.Task[Any]", asyncio.current_task()), None)
                    self._count_end(waiting)
            finish(call, "OK")
            return response

        return answer

    def _stream(self, method: str, inner: Any, reads_stream: bool) -> Any:
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            call = begin(method, context)
            task = asyncio.current_task()
            assert task is not None
            open_stream = self._streams[task] = _OpenCall(call, reads_stream)
            try:
                if self._stopping:
                    raise Unavailable("the server is stopping")
                request = await self._admit(call, request, context, open_stream, reads_stream)
                answers = inner(request, context)
                if inspect.isawaitable(answers):  # this servicer writes to the context itself
                    await answers
                else:
                    async with aclosing(answers):
                        async for response in answers:
                            open_stream.is_sending = True
                            yield response
                            open_stream.is_sending = False
                            if open_stream.ending is not None:
                                raise open_stream.ending
                            if self._stopping and not reads_stream:
                                raise Unavailable("the server is stopping")
            except GeneratorExit:  # grpc closes the generator after the client has left
                finish(call, "CANCELLED")
                raise
            except asyncio.CancelledError as error:
                told = Unavailable("the server is stopping") if self._stopping else error
                await finish_badly(call, context, open_stream.ending or told)
                raise
            except BaseException as error:
                await finish_badly(call, context, error)
                raise
            else:
                finish(call, "OK")
            finally:
                self._streams.pop(task, None)
                self._count_end(open_stream)

        return stream

    async def _admit(
        self, call: ServedCall, request: Any, context: Context, open_call: _OpenCall | None, reads_stream: bool
    ) -> Any:
        """Return the request, as the servicer gets it. Raises what is wrong with the call. `open_call`: None for a call
        that is soon over."""
        self._check_client(context)
        if self._guard is None:
            request = _readable(request) if reads_stream else request
            call.note(request)
            return request
        call.is_guarded = True
        message = request if isinstance(request, Message) and not reads_stream else None
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        names = _names_of(context) if self._guard.service_names else ()
        certificate = _certificate_of(context) if self._guard.takes_certificates else b""
        call.caller = caller = await self._guard.identify(call.method, message, metadata, names, certificate)
        self._guard.limits.take(caller)
        if open_call is not None:
            self._guard.limits.begin(caller)
            open_call.is_counted = True
        current.set(caller)
        request = _readable(request) if reads_stream else request
        call.note(request)
        await self._guard.permit(caller, call.method, message)
        self._guard.limits.start(caller, message)
        return request

    def _count_end(self, open_call: _OpenCall) -> None:
        if self._guard is not None and open_call.is_counted:
            self._guard.limits.end(open_call.call.caller)

    def _note_wait(self, call: ServedCall) -> _OpenCall:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        waiting = self._waits[task] = _OpenCall(call, ends_itself=False)
        return waiting

    def end_refused(self) -> None:
        """End the open calls whose callers are not valid any more."""
        if self._guard is None:
            return
        for task, open_call in [*self._streams.items(), *self._waits.items()]:
            try:
                self._guard.check(open_call.call.caller)
            except Refusal as refusal:
                # One that is sending ends after that, at the latest when this is called again: see end_streams.
                if open_call.ending is not None or not open_call.is_sending:
                    task.cancel()
                open_call.ending = refusal

    def _check_client(self, context: Context) -> None:
        """Raise PermissionDenied if the certificate of the client has none of the names that are let in."""
        if self._admits is not None and (told := self._admits.refusal(_names_of(context))):
            raise PermissionDenied(told)

    async def end_streams(self, grace_s: float) -> None:
        """Refuse new streams and end the open ones with UNAVAILABLE: those that only send at once; two-way streams
        after `grace_s`, if they have not ended by themselves."""
        self._stopping = True
        one_way = {task: stream for task, stream in self._streams.items() if not stream.ends_itself}
        for task, stream in one_way.items():
            # A stream that is sending ends after that: a cancel would stop grpc itself, without a status.
            if not stream.is_sending:
                task.cancel()
        if one_way:
            await asyncio.wait(one_way, timeout=1.0)
        if self._streams:
            await asyncio.wait(list(self._streams), timeout=grace_s)
        await _cancelled(list(self._streams))


def _names_of(context: Context) -> set[str]:
    """Return the names in the certificate of the client."""
    found = context.auth_context()
    keys = ("x509_common_name", "x509_subject_alternative_name")
    return {each.decode("utf-8", "replace") for key in keys for each in found.get(key, ())}


def _certificate_of(context: Context) -> bytes:
    """Return the certificate of the client, a PEM text; empty if it has shown none."""
    return b"".join(context.auth_context().get("x509_pem_cert", ()))


def _no_such_method(method: str) -> Any:
    """Answer like grpc, but with details. Unknown methods are neither logged nor counted."""

    async def refuse(requests: Any, context: Context) -> AsyncIterator[Any]:
        refusal = NoSuchMethod(f"there is no method {method[:200]}; reflection lists all methods")
        status = errors.status_of(refusal)
        await context.abort(errors.code_of(refusal), status.message, errors.trailing_metadata(status))
        yield

    return refuse


async def _cancelled(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)


def _reader(deserialize: Callable[[bytes], Any] | None, bytes_max: int) -> Callable[[bytes], Any]:
    """Return the parser of a request. It never raises, because grpc would answer INTERNAL without details."""
    owner = getattr(deserialize, "__self__", None)  # the stubs give `Kind.FromString`
    kind = owner if isinstance(owner, type) and issubclass(owner, Message) else None

    def parse(data: bytes) -> Any:
        if len(data) > bytes_max:
            return Unreadable(TooLarge("the message", len(data), bytes_max))
        if kind is None:
            return deserialize(data) if deserialize is not None else data
        try:
            return field_checks.parse(kind, data)
        except DecodeError:
            return Unreadable(InvalidRequest.of("", f"the bytes are not a {kind.DESCRIPTOR.full_name}"))

    return parse


async def _readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, Unreadable):
            raise request.refusal
        yield request


def begin(method: str, context: Context) -> ServedCall:
    """Begin a call: its log lines and its answer have its request id."""
    given: dict[str, Any] = dict(context.invocation_metadata() or ())
    own_client = str(given.get("user-agent", "")).startswith(USER_AGENT)
    call = open_call(method, given.get(REQUEST_ID_KEY, ""), own_client=own_client)
    context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
    return call


def open_call(method: str, request_id: object, *, own_client: bool = False) -> ServedCall:
    """Count a call that begins. It gets a new request id unless the given one is well formed."""
    if not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
        request_id = os.urandom(16).hex()
    call = ServedCall(method, request_id, own_client, method.startswith("/dalsegno."), time.monotonic())
    logs.request_id.set(request_id)
    if call.ours:
        _open_calls(*_labels(call.method)).inc()
    return call


def finish(call: ServedCall, code: str, error: BaseException | None = None, message: str = "") -> None:
    """Count a call that has ended, and write its log line; a fault of the server with its traceback."""
    if not call.ours:
        return
    took_s = time.monotonic() - call.began_s
    service, method = _labels(call.method)
    _open_calls(service, method).dec()
    _ended_calls(service, method, code).inc()
    _call_seconds(service, method).observe(took_s)
    fault = error if code == "INTERNAL" else None
    caller = call.caller
    if call.is_guarded and (code in _REFUSED or is_audited(call.method)):
        told = {"caller": caller.name, "token": caller.token_id, "code": code, "execution": call.execution}
        _audit.info(f"{service}/{method}", extra={**told, "request_id": call.request_id, "error": message})
    _logger.log(
        logging.ERROR if fault is not None else logging.INFO,
        f"{service}/{method}",
        exc_info=fault,
        extra={
            "code": code,
            "ms": round(took_s * 1000, 2),
            "request_id": call.request_id,
            "execution": call.execution,
            "caller": caller.name,
            "error": message,
        },
    )


# Cached: the look-up of labels takes longer than counting.


@lru_cache(maxsize=1024)
def _labels(method: str) -> tuple[str, str]:
    """Return the service and the method for metrics and log lines."""
    service, _, name = method.lstrip("/").rpartition("/")
    return service.removeprefix("dalsegno.v1."), name


@lru_cache(maxsize=1024)
def _open_calls(service: str, method: str) -> Gauge:
    return CALLS_OPEN.labels(service, method)


@lru_cache(maxsize=4096)
def _ended_calls(service: str, method: str, code: str) -> Counter:
    return CALLS.labels(service, method, code)


@lru_cache(maxsize=1024)
def _call_seconds(service: str, method: str) -> Histogram:
    return CALL_SECONDS.labels(service, method)


async def finish_badly(call: ServedCall, context: Context, error: BaseException) -> None:
    """End a call that raised with its status from the table, unless the client has left or the servicer has ended it.
    Returns only if there is no client to answer."""
    if isinstance(error, asyncio.CancelledError):
        finish(call, "CANCELLED")
        return
    if isinstance(error, grpc.aio.AbortError):
        finish(call, _code_name(context.code()))
        return
    size = errors.OWN_DETAILS_BYTES if call.own_client else errors.DETAILS_BYTES
    status = errors.status_of(error, call.request_id, size)
    code = errors.code_of(error)
    finish(call, code.name, error, status.message)
    metadata = errors.trailing_metadata(status, [(REQUEST_ID_KEY, call.request_id)])
    await context.abort(code, status.message, metadata)


def _code_name(code: Any) -> str:
    for known in grpc.StatusCode:
        if code is known or code == known.value[0]:
            return known.name
    return "UNKNOWN"
