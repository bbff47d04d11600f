"""The mail family: std.email, with the parameters of Mistral."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from email.message import EmailMessage

from dalsegno.actions.action import ActionFailed, AnyAction, action
from dalsegno.outgoing.connecting import open_socket
from dalsegno.outgoing.reach import Reach

PORT = 25
PORT_OF_TLS = 465
"""The port of servers that use TLS from the first byte."""

TIMEOUT_S = 60.0
"""The time for each answer of the server."""


class Mailer:
    """Sends emails through servers that it may reach."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def send(
        self,
        from_addr: str,
        to_addrs: object,
        smtp_server: str,
        reply_to: object = None,
        cc_addrs: object = None,
        bcc_addrs: object = None,
        smtp_password: str | None = None,
        subject: str | None = None,
        body: str | None = None,
        html_body: str | None = None,
        verify: bool | str = True,
    ) -> None:
        """Send an email through the server `smtp_server`, "host" or "host:port".

        Addresses are a list, or one text with commas. With `smtp_password` the connection is encrypted first, and
        `from_addr` logs in; `verify` false then accepts any certificate of the server, a path names trusted ones.
        """
        try:
            message = _compose(from_addr, to_addrs, cc_addrs, reply_to, subject, body, html_body)
        except ValueError as error:
            raise ActionFailed(f"Failed to send an email message: {error}") from error
        recipients = [*read_addresses(to_addrs), *read_addresses(cc_addrs), *read_addresses(bcc_addrs)]
        await self.deliver(message, from_addr, recipients, smtp_server, smtp_password, verify)

    async def deliver(
        self,
        message: EmailMessage,
        sender: str,
        recipients: list[str],
        server: str,
        password: str | None = None,
        verify: bool | str = True,
    ) -> None:
        """Send a message to a server, "host" or "host:port". Raises ActionFailed."""
        import aiosmtplib

        host, port = _read_server(server)
        try:
            connection = await open_socket(self._reach, host, port, TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise ActionFailed(f"Failed to send an email message: {str(error) or type(error).__name__}") from error
        try:
            await aiosmtplib.send(
                message,
                sender=sender,
                recipients=recipients,
                hostname=host,
                sock=connection,
                username=sender if password is not None else None,
                password=password,
                use_tls=port == PORT_OF_TLS,
                # A password is never sent in the clear. Without one, mail goes as the server takes it.
                start_tls=password is not None if port != PORT_OF_TLS else False,
                tls_context=_trust(verify),
                timeout=TIMEOUT_S,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise ActionFailed(f"Failed to send an email message: {str(error) or type(error).__name__}") from error


def mail_actions(reach: Reach) -> Iterator[AnyAction]:
    """Yield the action of the family, which reaches what it may."""
    yield action("std.email", typed=False)(Mailer(reach).send)


def _compose(
    from_addr: str,
    to_addrs: object,
    cc_addrs: object,
    reply_to: object,
    subject: str | None,
    body: str | None,
    html_body: str | None,
) -> EmailMessage:
    """Return the message. Raises ValueError for a header with a line break."""
    message = EmailMessage()
    message["Subject"] = subject or "<No subject>"
    message["From"] = from_addr
    for header, addresses in (("Reply-To", reply_to), ("To", to_addrs), ("Cc", cc_addrs)):
        if addresses:
            message[header] = ", ".join(read_addresses(addresses))
    message.set_content(body or "<No body>")
    if html_body:
        message.add_alternative(html_body, subtype="html")
    return message


def read_addresses(given: object) -> list[str]:
    """Return the addresses of a list, or of one text with commas. Raises ActionFailed for other values."""
    texts = given.split(",") if isinstance(given, str) else given or ()
    if not isinstance(texts, list | tuple):
        raise ActionFailed(f"addresses are a list or a text, not {given!r}")
    return [str(each).strip() for each in texts if str(each).strip()]


def _read_server(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):  # "host", or an IPv6 address without a port
        return text.strip("[]"), PORT
    if not port.isdecimal():
        raise ActionFailed(f"smtp_server is not of the form host:port: {text}")
    return host.strip("[]"), int(port)


def _trust(verify: bool | str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
