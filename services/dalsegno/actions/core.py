"""The core family: actions of StackStorm's workflows, with StackStorm's parameters and results.

core.local is in local.py.
"""

from __future__ import annotations

import asyncio
import random as chance
import socket
from base64 import b64decode
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dalsegno.actions import http, mail
from dalsegno.actions.action import ActionFailed, AnyAction, Delegated, action
from dalsegno.outgoing.reach import Reach
from dalsegno.workflow.value import UnfitValue, decode, encode

if TYPE_CHECKING:
    import aiohttp

DEFAULT_SCHEMA: dict[str, object] = {
    "title": "response_data",
    "type": "object",
    "properties": {
        "continue": {
            "type": "boolean",
            "description": "Would you like to continue the workflow?",
            "required": True,
        }
    },
}
"""The default question of an inquiry."""

TTL_MAX = 10 * 366 * 24 * 60
"""Ten years, in minutes."""

_SUCCESSES = range(200, 207)
"""The status codes that are a success in StackStorm."""


@action("core.noop", safe_to_rerun=True, blocking=False)
def noop() -> dict[str, object]:
    """Do nothing; return failed, succeeded, return_code."""
    return {"failed": False, "succeeded": True, "return_code": 0}


@action("core.echo", safe_to_rerun=True, blocking=False)
def echo(message: object) -> dict[str, object]:
    """Return `message` as text in stdout, with stderr, failed, succeeded, return_code. It starts no shell."""
    return {**noop(), "stdout": _text(message), "stderr": ""}


@action("core.pause", safe_to_rerun=True, typed=False)
async def pause(max_pause: float, random: bool = False) -> dict[str, object]:
    """Wait `max_pause` seconds, or with `random` a whole number of seconds from 1 to that; return the number."""
    delay: float = chance.randint(1, max(1, int(max_pause))) if random else max_pause
    await asyncio.sleep(float(delay))
    return {"stdout": "", "stderr": "", "exit_code": 0, "result": delay}


@action("core.ask", safe_to_rerun=True, answer_schema="schema", answer_key="response", typed=False)
def ask(
    schema: Mapping[str, object] = DEFAULT_SCHEMA,
    roles: object = (),
    users: object = (),
    route: str = "",
    ttl: float = 1440,
    tag: str | None = None,
) -> Delegated:
    """Ask a person, who answers by completing the action; return the answer as response, with the question.

    The answer must fit `schema`, a JSON schema in which a property may have `required: true`. `roles`, `users`,
    `route` and `tag` are for the program that shows the question. It fails without an answer within `ttl` minutes;
    0: it waits without a limit.
    """
    from dalsegno.expressions.answers import UnfitSchema, check_schema

    try:
        check_schema(schema)
    except UnfitSchema as error:
        raise ActionFailed(f"nobody can answer this, for the schema is unfit: {error}") from None
    minutes = float(ttl)
    if not 0 <= minutes <= TTL_MAX:
        raise ActionFailed(f"ttl is a number of minutes, at most {TTL_MAX:,}")
    return Delegated(completion_timeout_s=minutes * 60 if minutes else None)


class Sending:
    """The actions that send something, to servers that they may reach."""

    def __init__(self, reach: Reach) -> None:
        self._http = http.Http(reach)
        self._mailer = mail.Mailer(reach)

    async def request(
        self,
        url: str,
        method: str | None = None,
        headers: Mapping[str, object] | None = None,
        params: object = None,
        body: object = None,
        cookies: Mapping[str, str] | None = None,
        auth: object = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float = 60,  # noqa: ASYNC109 (so StackStorm calls it)
        allow_redirects: bool = False,
        http_proxy: str | None = None,
        https_proxy: str | None = None,
        verify_ssl_cert: bool = True,
        url_hosts_blacklist: list[str] | None = None,
        url_hosts_whitelist: list[str] | None = None,
        file_name: str | None = None,
        file_content: str | None = None,
        file_content_type: str | None = None,
    ) -> dict[str, object]:
        """Send an HTTP request; return status_code, body (parsed if the answer is JSON), parsed, headers.

        It fails, with the same values, unless the status is 200 to 206. `method` is POST if there is a body, else GET.
        Not safe to rerun by default: a task whose method is GET says `safe-rerun: true`.
        """
        _check_host(url, url_hosts_blacklist, url_hosts_whitelist)
        sent = {name: str(value) for name, value in (headers or {}).items() if value is not None}
        has_file = bool(file_name and file_content)

        def write() -> bytes | aiohttp.FormData | None:
            if file_name and file_content:
                return _form(file_name, file_content, file_content_type)
            return _body(body, sent)

        chosen = (method or ("POST" if body or has_file else "GET")).upper()
        response = await self._http.exchange(
            chosen,
            url,
            write,
            headers=sent,
            params=params,
            cookies=cookies,
            auth=[username or "", password or ""] if username or password else auth,
            timeout_s=timeout,
            follows_redirects=bool(allow_redirects),
            proxies={scheme: proxy for scheme, proxy in (("http", http_proxy), ("https", https_proxy)) if proxy},
            verify=verify_ssl_cert,
        )
        content, parsed = _parsed(response)
        result = {"status_code": response.status, "body": content, "parsed": parsed, "headers": response.headers}
        if response.status not in _SUCCESSES:
            raise ActionFailed(f"HTTP {response.status} {response.reason}: {chosen} {url}", result)
        return result

    async def send_mail(
        self,
        to: object,
        subject: str,
        body: str,
        from_: str = "dalsegno",
        content_type: str = "text/html",
        send_empty_body: bool = True,
        attachments: list[Mapping[str, str]] | None = None,
        smtp_server: str = "localhost",
        smtp_password: str | None = None,
    ) -> dict[str, object]:
        """Send an email; return stdout, stderr, failed, succeeded, return_code.

        `to` is a list, or one text with commas. A `from` without a host gets this executor's. `attachments` are
        objects of `name` and `content` (or `base64`); files of the executor's machine are not read. It is sent through
        `smtp_server`, "host" or "host:port", and with `smtp_password` over TLS.
        """
        recipients = mail.read_addresses(to)
        sender = from_ if "@" in from_ else f"{from_}@{socket.gethostname()}"
        if str(body).strip() or send_empty_body:
            try:
                message = _compose(sender, recipients, subject, str(body), content_type, attachments)
            except ValueError as error:
                raise ActionFailed(f"Failed to send mail to {', '.join(recipients)}: {error}") from error
            await self._mailer.deliver(message, sender, recipients, smtp_server, smtp_password)
        return {**noop(), "stdout": f"Successfully sent mail to {', '.join(recipients)}", "stderr": ""}


def sending_actions(reach: Reach) -> Iterator[AnyAction]:
    """Yield the actions that send something, which reach what they may."""
    sending = Sending(reach)
    yield action("core.http", typed=False)(sending.request)
    yield action("core.sendmail", typed=False)(sending.send_mail)


def _text(message: object) -> str:
    """Return the value for a shell: a text unchanged, lists and objects as JSON."""
    if isinstance(message, dict | list):
        return encode(message)
    return "" if message is None else str(message)


def _check_host(url: str, refused: list[str] | None, allowed: list[str] | None) -> None:
    if refused and allowed:
        raise ActionFailed("only one of url_hosts_blacklist and url_hosts_whitelist can be passed")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError as error:
        raise ActionFailed(f"the URL cannot be read: {error}") from None
    if (refused and host in refused) or (allowed and host not in allowed):
        raise ActionFailed(f"requests to {host} are not allowed here")


def _body(body: object, headers: dict[str, str]) -> bytes | None:
    if isinstance(body, dict | list):
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
        return encode(body).encode()
    return None if body is None else str(body).encode()


def _form(name: str, content: str, content_type: str | None) -> aiohttp.FormData:
    import aiohttp

    form = aiohttp.FormData()
    form.add_field(name, content.encode(), filename=name, content_type=content_type)
    return form


def _parsed(response: http.Response) -> tuple[object, bool]:
    """Return the body, and whether it is parsed: only a body with the content type of JSON is."""
    declared = next((value for name, value in response.headers.items() if name.lower() == "content-type"), "")
    if declared.partition(";")[0].strip() == "application/json":
        try:
            return decode(response.text), True
        except UnfitValue:
            pass
    return response.text, False


def _compose(
    sender: str,
    recipients: list[str],
    subject: str,
    body: str,
    content_type: str,
    attachments: list[Mapping[str, str]] | None,
) -> EmailMessage:
    """Return the message. Raises ValueError for a header with a line break, and for an invalid attachment."""
    kind, _, subtype = content_type.partition("/")
    if kind != "text" or not subtype:
        raise ValueError(f"content_type is text/plain or text/html, not {content_type!r}")
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message.set_content(body, subtype=subtype)
    for each in attachments or ():
        if not isinstance(each, Mapping) or "name" not in each or ("content" in each) == ("base64" in each):
            raise ValueError("an attachment is an object of name and content, or name and base64")
        data = b64decode(each["base64"], validate=True) if "base64" in each else each["content"].encode()
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=each["name"])
    return message
