"""The application: what each request over HTTP gets, by its path."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication

from dalsegno.access.bearer import KEY as TOKEN_KEY
from dalsegno.gateway.access import Access
from dalsegno.gateway.calls import Calls
from dalsegno.gateway.connections import FIELD_BYTES, HEADER_BYTES, REFUSED
from dalsegno.gateway.contract import PUBLIC
from dalsegno.gateway.draining import Bodies, Receive
from dalsegno.gateway.forwarding import Forwarder
from dalsegno.gateway.hooks import Hooks
from dalsegno.gateway.login import PATHS, Login, cookies_of
from dalsegno.gateway.messages import CODECS, READ_BYTES, Gzip
from dalsegno.gateway.oidc import Oidc
from dalsegno.gateway.openapi import document
from dalsegno.gateway.responses import Headers, Response, Send, json_response, refusal, sized
from dalsegno.gateway.sessions import Sessions, foreign, unprotected
from dalsegno.rpc.peers import Balanced, Peers

_UNARY = frozenset({"application/json", "application/proto"})
_STREAM = frozenset({"application/connect+json", "application/connect+proto"})
_WEB = frozenset({"application/grpc-web", "application/grpc-web+json", "application/grpc-web+proto"})
_GRPC = frozenset({"application/grpc", "application/grpc+json", "application/grpc+proto"})

_BASE64 = re.compile("[A-Za-z0-9_-]*={0,2}")

_log = logging.getLogger("dalsegno.gateway")


class Rpc(ConnectASGIApplication[Forwarder]):
    """The library's application over all methods."""

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__(
            service=forwarder,
            endpoints=lambda service: service.endpoints,
            read_max_bytes=READ_BYTES,
            compressions=[Gzip()],
            codecs=CODECS,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request. The library raises what it cannot tell: that its caller left, or that the time was over,
        while the answer was written. That is no fault."""
        try:
            await super().__call__(scope, receive, send)
        except ConnectError as error:
            if error.code not in (Code.CANCELED, Code.DEADLINE_EXCEEDED):
                raise

    @property
    def path(self) -> str:
        """Return where it is mounted."""
        return "/"


class Application:
    """Answers each request: a call, a webhook, a question about the gateway itself, or why not."""

    def __init__(
        self, apis: Peers, calls: Calls, access: Access, sessions: Sessions | None = None, oidc: Oidc | None = None
    ) -> None:
        """`sessions`: of browsers that log in with a token, or at `oidc`; None: nobody logs in."""
        self._apis = apis
        self._calls = calls
        self._access = access
        self._bodies = Bodies()
        channel = Balanced(apis)
        forwarder = Forwarder(apis, channel, calls)
        self._methods = forwarder.methods
        self._rpc = Rpc(forwarder)
        self._hooks = Hooks(channel, calls)
        self._sessions = sessions
        self._login = Login(sessions, channel, calls, oidc) if sessions is not None else None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request; ASGI calls this."""
        if scope["type"] == "http":
            await self._bodies.serve(self._serve, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._rpc(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path, method = scope["path"], scope["method"]
        if wrong_headers := _refuse_headers(scope, headers):
            await wrong_headers.send(send)
            return
        if told := (scope.get("state") or {}).get(REFUSED):
            await refusal(403, Code.PERMISSION_DENIED, told).send(send)
            return
        if path == "/healthz":
            await self._health().send(send)
            return
        refused = self._access.refuse(scope["scheme"], headers)
        if refused is not None:
            _log.info("refused", extra={"host": headers.get("host", ""), "origin": headers.get("origin", "")})
            await refused.send(send)
            return
        more = self._access.headers(headers)
        send = _with_headers(send, more) if more else send
        if method == "OPTIONS":
            await self._access.preflight(headers).send(send)
            return
        if path == "/openapi.json" and method in ("GET", "HEAD"):
            await _openapi().send(send)
            return
        if path.startswith("/hooks/"):
            await (await self._hooks.answer(scope, headers, receive)).send(send)
            return
        if path in PATHS:
            await (await self._log_in(scope, headers, receive)).send(send)
            return
        info = self._methods.get(path)
        if info is None:
            await _not_found().send(send)
            return
        misused = _unreadable(scope) or _misused(info, scope, headers.get("content-type", ""))
        if misused is not None:
            await misused.send(send)
            return
        if self._sessions is not None and TOKEN_KEY not in headers:
            given = _given_by_session(self._sessions, scope, headers)
            if isinstance(given, Response):
                await given.send(send)
                return
            scope, more = given
            send = _with_headers(send, more) if more else send
        await self._rpc(scope, receive, sized(send))

    async def _log_in(self, scope: Any, headers: Mapping[str, str], receive: Receive) -> Response:
        if self._login is None or self._sessions is None:
            told = "there is nothing to log in to: the apis ask for no tokens (--auth tokens)"
            return refusal(404, Code.NOT_FOUND, told)
        asked = self._sessions.asked(scope, headers, cookies_of(scope))
        return await self._login.answer(scope, headers, asked, receive)

    def _health(self) -> Response:
        """Return whether calls are served: the gateway is not stopping, and an api is ready."""
        is_ready = self._apis.is_ready and not self._calls.stopping
        status = "SERVING" if is_ready else "NOT_SERVING"
        return json_response(200 if is_ready else 503, {"status": status}, ("cache-control", "no-store"))


def _given_by_session(sessions: Sessions, scope: Any, headers: Mapping[str, str]) -> tuple[Any, Headers] | Response:
    """Return a request with the token of its session, if it has one, and the headers that its answer needs for that; or
    why it may not use its session."""
    asked = sessions.asked(scope, headers, cookies_of(scope))
    session = sessions.find(asked)
    if session is None:
        return scope, ()
    if told := unprotected(asked) or foreign(asked, needs_origin=asked.is_write):
        return refusal(403, Code.PERMISSION_DENIED, told)
    shown = (TOKEN_KEY.encode(), f"Bearer {session.token}".encode())
    return {**scope, "headers": [*scope["headers"], shown]}, sessions.renewed(session, asked)


def _with_headers(send: Send, more: tuple[tuple[str, str], ...]) -> Send:
    encoded = [(name.encode(), value.encode()) for name, value in more]

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *encoded]}
        await send(message)

    return sent


def _openapi() -> Response:
    written = document(tuple(service.full_name for service in PUBLIC))
    return Response(200, written, (("content-type", "application/json"),))


def _not_found() -> Response:
    told = "there is nothing here: methods are /dalsegno.v1.SERVICE/METHOD, and /openapi.json lists them"
    return refusal(404, Code.UNIMPLEMENTED, told)


def _refuse_headers(scope: Any, headers: Mapping[str, str]) -> Response | None:
    """Refuse headers that are too large together, and those that a proxy may understand in another way. A connection of
    HTTP/1.1 ends then: where its next request begins is not certain."""
    close = (("connection", "close"),) if scope["http_version"].startswith("1") else ()
    size = sum(len(name) + len(value) + FIELD_BYTES for name, value in scope["headers"]) + len(scope["raw_path"])
    if size + len(scope["query_string"]) > HEADER_BYTES:
        told = f"the path and the headers have more than {HEADER_BYTES:,} bytes"
        return refusal(431, Code.RESOURCE_EXHAUSTED, told, *close)
    if "content-length" in headers and "transfer-encoding" in headers:
        told = "a request has either content-length or transfer-encoding"
        return refusal(400, Code.INVALID_ARGUMENT, told, *close)
    return None


def _unreadable(scope: Any) -> Response | None:
    """Refuse what the library cannot decode."""
    try:
        b"\n".join([*(value for _, value in scope["headers"]), scope["query_string"]]).decode()
    except UnicodeDecodeError:
        return refusal(400, Code.INVALID_ARGUMENT, "the headers or the query are not UTF-8")
    return None


def _misused(info: MethodInfo[Any, Any], scope: Any, content_type: str) -> Response | None:
    """Return why a method is not called in this way, or None. (The library would answer without a word.)"""
    method = scope["method"]
    is_stream = info.stream_type is StreamType.SERVER_STREAM
    is_read = info.idempotency_level is IdempotencyLevel.NO_SIDE_EFFECTS and not is_stream
    given = content_type.partition(";")[0].strip().lower()
    if method == "GET" and is_read and given not in _WEB | _GRPC:
        return _misread(info, parse_qs(scope["query_string"].decode()))
    if method != "POST":  # gRPC-Web has no GET either
        allowed = "GET, POST" if is_read else "POST"
        told = f"{info.name} is called by {allowed.replace(',', ' or')}"
        return refusal(405, Code.UNIMPLEMENTED, told, ("allow", allowed))
    if given in _GRPC and scope["http_version"].startswith("1"):
        return refusal(415, Code.UNIMPLEMENTED, "gRPC needs HTTP/2; over HTTP/1.1 there are gRPC-Web and Connect")
    wanted = _STREAM if is_stream else _UNARY
    if given in wanted | _WEB | _GRPC:
        return None
    told = f"{info.name} takes {' or '.join(sorted(wanted))}, not {given or 'a body without a content type'}"
    hint = "; it answers with a stream: the page of the gateway shows how to read one" if is_stream else ""
    return refusal(415, Code.INVALID_ARGUMENT, told + hint, ("accept-post", ", ".join(sorted(wanted))))


def _misread(info: MethodInfo[Any, Any], query: Mapping[str, Sequence[str]]) -> Response | None:
    """Return why a read is not called by this GET, or None."""
    if query.get("encoding", [""])[0] not in ("json", "proto"):
        told = f"{info.name} by GET takes ?encoding=json&message=... with the JSON, or encoding=proto"
        return refusal(415, Code.INVALID_ARGUMENT, told)
    if query.get("base64", [""])[0] == "1" and not _BASE64.fullmatch(query.get("message", [""])[0]):
        return refusal(400, Code.INVALID_ARGUMENT, "the message is not base64 for URLs")
    return None
