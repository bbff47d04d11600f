"""/login and /logout: a browser gives a token, or comes back from an issuer, and gets the cookie of a session.

    POST /login             a form, or JSON {"token": ...}        GET /login/oidc       to the issuer
    POST /logout            takes the cookie away                 GET /login/callback   back from it
    GET  /login             a form for people

Nothing is decided here about what a caller may do: the api is asked whether the token counts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl

import grpc
from connectrpc.code import Code

from dalsegno.access.bearer import JWT_LENGTH_MAX, hash_of, id_of, is_jwt, is_token
from dalsegno.access.bearer import KEY as TOKEN_KEY
from dalsegno.gateway.bodies import BodyKind, BodyType, kind_of, read_body
from dalsegno.gateway.calls import CallFailed, Calls
from dalsegno.gateway.draining import Receive
from dalsegno.gateway.failures import code_of
from dalsegno.gateway.metadata import MetadataList
from dalsegno.gateway.oidc import CALLBACK, LoginFailed, Oidc
from dalsegno.gateway.pages import HEADERS, forward_page, login_page, session_page
from dalsegno.gateway.responses import Response, json_response, refusal
from dalsegno.gateway.sessions import Asked, Sessions, TooLong, foreign, unprotected
from dalsegno.rpc.channel import REQUEST_ID_KEY
from dalsegno.rpc.errors import refusals
from dalsegno.rpc.peers import Balanced
from dalsegno.v1.system_service_pb2 import GetServerInfoRequest
from dalsegno.v1.system_service_pb2_grpc import SystemServiceStub

LOGIN, LOGOUT, BEGIN = "/login", "/logout", "/login/oidc"
PATHS = {LOGIN: ("GET", "HEAD", "POST"), LOGOUT: ("POST",), BEGIN: ("GET",), CALLBACK: ("GET",)}
"""By path: the methods that it takes."""

CHECK_S = 10.0
"""How long the api has to say whether a token counts."""

_PATH = re.compile(r"/(?!/)[!-\[\]-~]*")
"""A path of ours with its query: printable ASCII without a backslash, which browsers take for a slash."""
_STATUS = {Code.UNAUTHENTICATED: 401, Code.UNAVAILABLE: 503, Code.DEADLINE_EXCEEDED: 504, Code.RESOURCE_EXHAUSTED: 429}

_audit = logging.getLogger("dalsegno.audit")


class Login:
    """Answers requests of browsers that log in and out."""

    def __init__(self, sessions: Sessions, channel: Balanced, calls: Calls, oidc: Oidc | None) -> None:
        """`oidc`: where people log in beside tokens; None: nowhere."""
        self._sessions = sessions
        self._system = SystemServiceStub(cast(Any, channel))
        self._calls = calls
        self._oidc = oidc

    async def answer(self, scope: Any, headers: Mapping[str, str], asked: Asked, receive: Receive) -> Response:
        """Return the response to a request for one of the paths. `headers`: by lower-case name."""
        path, method = scope["path"], scope["method"]
        if method not in PATHS[path]:
            allowed = ", ".join(PATHS[path])
            return refusal(405, Code.UNIMPLEMENTED, f"{path} is asked by {allowed}", ("allow", allowed))
        if told := unprotected(asked):
            return refusal(403, Code.PERMISSION_DENIED, told, *HEADERS)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if path in (BEGIN, CALLBACK):
            if self._oidc is None:
                return refusal(404, Code.NOT_FOUND, "people log in at no issuer here: --oidc-issuer names one")
            if path == BEGIN:
                return await self._go_to_issuer(self._oidc, query, asked)
            return await self._come_back(self._oidc, query, asked, headers)
        if method != "POST":
            return self._show(query, asked)
        kind = kind_of(headers)
        if isinstance(kind, Response):
            return kind
        # No page of another origin can send JSON without asking first, so a program may send it without an origin.
        is_form = kind.type is not BodyType.JSON_TEXT
        if told := foreign(asked, needs_origin=is_form):
            return refusal(403, Code.PERMISSION_DENIED, told, *HEADERS)
        if path == LOGOUT:
            return self._log_out(asked, is_form)
        return await self._take_token(kind, asked, headers, receive)

    def _show(self, query: Mapping[str, str], asked: Asked) -> Response:
        session = self._sessions.find(asked)
        if session is not None:
            return session_page(f"{datetime.fromtimestamp(session.ends_s, UTC):%Y-%m-%d %H:%M} UTC")
        return login_page(path_of(query.get("next", "")), self._issuer_name)

    async def _take_token(self, kind: BodyKind, asked: Asked, headers: Mapping[str, str], receive: Receive) -> Response:
        is_form = kind.type is not BodyType.JSON_TEXT
        next_path = ""
        try:
            with self._calls.served("/dalsegno.v1.Sessions/Login", headers.get(REQUEST_ID_KEY)) as call:
                body = await read_body(receive, kind)
                given = body.value if isinstance(body.value, dict) else {}
                token, next_path = _text(given, "token").strip(), path_of(_text(given, "next"))
                await self._check(token, call.request_id)
                told, ends = self._begin(token, asked)
        except CallFailed as failed:
            code = code_of(failed.status)
            _note("Login", code.name, error=failed.status.message)
            status = _STATUS.get(code, 400)
            if is_form:
                return login_page(next_path, self._issuer_name, failed.status.message, status)
            return refusal(status, code, failed.status.message, *HEADERS)
        _note("Login", "OK", token)
        if is_form:
            return Response(303, headers=(("location", next_path or LOGIN), told, *HEADERS))
        return json_response(200, {"endsAt": ends}, told, *HEADERS)

    async def _go_to_issuer(self, oidc: Oidc, query: Mapping[str, str], asked: Asked) -> Response:
        try:
            address, flow = await oidc.begin(path_of(query.get("next", "")), asked.own)
        except LoginFailed as failed:
            return login_page("", oidc.name, str(failed), 503)
        return Response(303, headers=(("location", address), self._sessions.begin_login(flow, asked), *HEADERS))

    async def _come_back(
        self, oidc: Oidc, query: Mapping[str, str], asked: Asked, headers: Mapping[str, str]
    ) -> Response:
        flow, forget = self._sessions.find_login(asked), self._sessions.forget_login(asked)
        try:
            if flow is None:
                raise LoginFailed("this browser has begun no login, or too long ago: begin again")
            token, ends_s = await oidc.finish(flow, query, asked.own)
            with self._calls.served("/dalsegno.v1.Sessions/Login", headers.get(REQUEST_ID_KEY)) as call:
                await self._check(token, call.request_id)
                told, _ = self._begin(token, asked, ends_s)
        except (LoginFailed, CallFailed) as failed:
            _note("Login", "UNAUTHENTICATED", error=str(failed))
            return login_page("", oidc.name, str(failed), 403, forget)
        _note("Login", "OK", token)
        return forward_page(flow.next or LOGIN, told, forget)

    def _log_out(self, asked: Asked, is_form: bool) -> Response:
        session = self._sessions.find(asked)
        if session is not None:
            self._sessions.end(session)
            _note("Logout", "OK", session.token)
        forget = self._sessions.forget(asked)
        if is_form:
            return Response(303, headers=(("location", LOGIN), forget, *HEADERS))
        return json_response(200, {}, forget, *HEADERS)

    def _begin(self, token: str, asked: Asked, ends_s: float | None = None) -> tuple[tuple[str, str], str]:
        """Return the header with the cookie, and when the session ends. Raises InvalidRequest."""
        try:
            session, told = self._sessions.begin(token, asked, ends_s)
        except TooLong as error:
            raise refusals.InvalidRequest.of("token", str(error)) from None
        return told, f"{datetime.fromtimestamp(session.ends_s, UTC):%Y-%m-%dT%H:%M:%SZ}"

    async def _check(self, token: str, request_id: str) -> None:
        """Ask the api whether a token counts. Raises Unauthenticated, and what the api answers."""
        if not (is_token(token) or (is_jwt(token) and len(token) <= JWT_LENGTH_MAX)):
            raise refusals.Unauthenticated(
                "what was sent has not the form of a token; `dalsegno token create` makes one"
            )
        metadata: MetadataList = [(REQUEST_ID_KEY, request_id), (TOKEN_KEY, f"Bearer {token}")]
        ask: Any = self._system.GetServerInfo
        with self._calls.opened(ask, GetServerInfoRequest(), metadata, CHECK_S) as upstream:
            try:
                await upstream
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.PERMISSION_DENIED:  # it counts, and may do something else
                    raise

    @property
    def _issuer_name(self) -> str:
        return self._oidc.name if self._oidc is not None else ""


def cookies_of(scope: Any) -> Iterable[str]:
    """Return the cookies of a request: over HTTP/2 they may come in several headers."""
    return (value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")


def _text(given: Mapping[str, object], name: str) -> str:
    found = given.get(name, "")
    return found if isinstance(found, str) else ""


def path_of(text: str) -> str:
    """Return a path of this gateway; empty for anything else, above all for other places.

    >>> [path_of(each) for each in ("/openapi.json?a=b", "//evil.example.com", "/\\\\evil.example.com", "https:/x")]
    ['/openapi.json?a=b', '', '', '']
    """
    return text if _PATH.fullmatch(text) else ""


def _note(what: str, code: str, token: str = "", error: str = "") -> None:
    """Write a line of the audit log, which has the id of a token, as that of the api has."""
    token_id = id_of(hash_of(token)) if token else ""
    _audit.info(f"Sessions/{what}", extra={"token": token_id, "code": code, "error": error})
