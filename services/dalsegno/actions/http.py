"""The HTTP family, as in Mistral: std.http, and std.mistral_http, whose answer comes later."""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit, urlunsplit
from weakref import WeakKeyDictionary

from dalsegno.actions.action import DELEGATED, ActionContext, ActionFailed, AnyAction, Delegated, action
from dalsegno.outgoing.connecting import http_session, http_timeout
from dalsegno.outgoing.reach import Reach
from dalsegno.workflow.value import VALUE_BYTES_MAX, UnfitValue, decode, encode

if TYPE_CHECKING:  # its import takes longer than all others together, and descriptions do not need it
    import aiohttp

_SUCCESSES = range(200, 307)
"""The status codes that are a success in Mistral; redirects are, because they are not followed by default."""

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Reach, aiohttp.ClientSession]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of a server."""

    status: int
    reason: str
    text: str
    encoding: str
    """The encoding of the text."""
    headers: dict[str, str]
    cookies: dict[str, str]
    url: str
    history: list[str]
    elapsed_s: float


class Http:
    """Requests that only reach what they may."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def request(
        self,
        url: str,
        method: str = "GET",
        params: object = None,
        body: object = None,
        json: object = None,
        headers: Mapping[str, object] | None = None,
        cookies: Mapping[str, str] | None = None,
        auth: object = None,
        timeout: float | None = None,  # noqa: ASYNC109 (so Mistral calls it)
        allow_redirects: bool | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
    ) -> dict[str, object]:
        """Send an HTTP request; return content (parsed if it is JSON), status, reason, headers, cookies, url, elapsed.

        A `body` that is a dict or list is sent as JSON text; `auth` is "user:password"; `timeout` is in seconds, none
        beside the deadline of the action when absent; `verify` false accepts any certificate, a path names trusted
        ones. Not safe to rerun by default: a task whose method is GET says `safe-rerun: true`.
        """
        if body is not None and json is not None:
            raise ActionFailed("Only one of the parameters 'json' and 'body' can be passed.")
        sent_headers = {name: str(value) for name, value in (headers or {}).items() if value is not None}
        response = await self.exchange(
            method,
            url,
            lambda: _write_body(body if json is None else json, json is not None, sent_headers),
            headers=sent_headers,
            params=params,
            cookies=cookies,
            auth=auth,
            timeout_s=timeout,
            follows_redirects=bool(allow_redirects),
            proxies=proxies,
            verify=verify,
        )
        result = _result_of(response)
        if response.status not in _SUCCESSES:
            raise ActionFailed(f"HTTP {response.status} {response.reason}: {method.upper()} {url}", result)
        return result

    async def request_and_delegate(
        self,
        context: ActionContext,
        url: str,
        method: str = "GET",
        params: object = None,
        body: object = None,
        json: object = None,
        headers: Mapping[str, object] | None = None,
        cookies: Mapping[str, str] | None = None,
        auth: object = None,
        timeout: float | None = None,  # noqa: ASYNC109 (so Mistral calls it)
        allow_redirects: bool | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
    ) -> Delegated:
        """Send an HTTP request with headers that identify the action; its receiver completes the action later."""
        told: dict[str, object] = {
            **(headers or {}),
            "Mistral-Workflow-Name": context.workflow,
            "Mistral-Workflow-Execution-Id": context.execution_id,
            "Mistral-Task-Id": f"{context.execution_id}.{context.task_number}" if context.execution_id else "",
            "Mistral-Action-Execution-Id": context.action_execution_id,
            "Dalsegno-Task-Token": context.task_token,
        }
        if context.callback_url:
            told["Dalsegno-Callback-Url"] = context.callback_url
        await self.request(
            url, method, params, body, json, told, cookies, auth, timeout, allow_redirects, proxies, verify
        )
        return DELEGATED

    async def exchange(
        self,
        method: str,
        url: str,
        write: Callable[[], bytes | aiohttp.FormData | None],
        *,
        headers: dict[str, str],
        params: object = None,
        cookies: Mapping[str, str] | None = None,
        auth: object = None,
        timeout_s: float | None = None,
        follows_redirects: bool = False,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
    ) -> Response:
        """Send a request whose body `write` gives, which may add headers, and return the answer with any status.

        Raises ActionFailed if there is none.
        """
        import aiohttp

        try:
            data = write()
            if auth:
                headers["Authorization"] = _write_credentials(auth)
            start_s = time.monotonic()
            async with _session(self._reach).request(
                method.upper(),
                _write_query(url, params),
                data=data,
                headers=headers,
                cookies=cookies,
                timeout=http_timeout(None if timeout_s is None else float(timeout_s)),
                allow_redirects=follows_redirects,
                proxy=(proxies or {}).get(urlsplit(url).scheme),
                ssl=_trust(verify),
                skip_auto_headers=() if isinstance(data, aiohttp.FormData) else ("Content-Type",),
            ) as response:
                elapsed_s = time.monotonic() - start_s
                text, encoding = _read_text(await _read_bounded(response), response.charset)
                return Response(
                    status=response.status,
                    reason=response.reason or "",
                    text=text,
                    encoding=encoding,
                    headers={name: ", ".join(response.headers.getall(name)) for name in response.headers},
                    cookies={name: morsel.value for name, morsel in response.cookies.items()},
                    url=str(response.url),
                    history=[str(each.url) for each in response.history],
                    elapsed_s=elapsed_s,
                )
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise ActionFailed(f"Failed to send HTTP request: {str(error) or type(error).__name__}") from error


def http_actions(reach: Reach) -> Iterator[AnyAction]:
    """Yield the actions of the family, whose requests reach what they may."""
    http = Http(reach)
    yield action("std.http", typed=False)(http.request)
    yield action("std.mistral_http", typed=False)(http.request_and_delegate)


async def close() -> None:
    """Close the connections kept open by this event loop."""
    for session in _sessions.pop(asyncio.get_running_loop(), {}).values():
        await session.close()


def _result_of(response: Response) -> dict[str, object]:
    try:
        content = decode(response.text)
    except UnfitValue:
        content = response.text
    return {
        "content": content,
        "status": response.status,
        "reason": response.reason,
        "encoding": response.encoding,
        "headers": response.headers,
        "cookies": response.cookies,
        "url": response.url,
        "history": response.history,
        "elapsed": round(response.elapsed_s, 6),
    }


def _session(reach: Reach) -> aiohttp.ClientSession:
    sessions = _sessions.setdefault(asyncio.get_running_loop(), {})
    session = sessions.get(reach)
    if session is None or session.closed:
        session = sessions[reach] = http_session(reach)  # no limit, because the executor limits the actions
    return session


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > VALUE_BYTES_MAX:
            raise ActionFailed(f"result too large: the response has more than {VALUE_BYTES_MAX:,} bytes")
    return bytes(body)


def _read_text(body: bytes, charset: str | None) -> tuple[str, str]:
    """Return the text and its encoding."""
    for encoding in (charset or "utf-8", "utf-8"):
        try:
            return body.decode(encoding), encoding
        except (LookupError, UnicodeDecodeError):
            continue
    return body.decode("iso-8859-1"), "iso-8859-1"


def _write_query(url: str, params: object) -> str:
    """Return the URL with these parameters added; a text is added unchanged."""
    if isinstance(params, Mapping):
        params = urlencode({name: value for name, value in params.items() if value is not None}, doseq=True)
    if not params:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{params}" if parts.query else str(params)))


def _write_body(body: object, is_json: bool, headers: dict[str, str]) -> bytes | None:
    """Return the body. Sets the content type of JSON unless there is one."""
    if is_json and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    if is_json or isinstance(body, dict | list):
        return encode(body).encode()
    return None if body is None else str(body).encode()


def _write_credentials(auth: object) -> str:
    parts = auth.split(":", 1) if isinstance(auth, str) else auth
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise ValueError("auth is not of the form user:password")
    return "Basic " + b64encode(f"{parts[0]}:{parts[1]}".encode()).decode()


def _trust(verify: bool | str | None) -> bool | ssl.SSLContext:
    """Return aiohttp's `ssl`: True checks certificates with those of the system, False does not check them."""
    if isinstance(verify, str):
        return ssl.create_default_context(cafile=verify)
    return verify is not False
