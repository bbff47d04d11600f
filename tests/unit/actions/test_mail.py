"""std.email with a mail server of the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from dalsegno.actions import mail
from dalsegno.actions.action import ActionFailed
from dalsegno.outgoing.reach import EVERYWHERE

SENDER = "score@example.com"

mailer = mail.Mailer(EVERYWHERE)


@dataclass(eq=False)
class Mailbox:
    """The accepted mails and the logins."""

    address: str = ""
    authority: str = ""
    """The file of the certificate that signed the server's."""
    envelopes: list[Envelope] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep a mail."""
        if "nobody@example.com" in envelope.rcpt_tos:
            return "554 no such reader"
        self.envelopes.append(envelope)
        return "250 OK"

    def authenticate(self, server: object, session: object, envelope: object, mechanism: str, given: object) -> object:
        """Decide whether a user may log in."""
        assert isinstance(given, LoginPassword)
        self.logins.append((given.login, given.password))
        return AuthResult(success=given.password == b"open sesame", handled=False)


def message_in(box: Mailbox) -> EmailMessage:
    """Return the only mail."""
    (envelope,) = box.envelopes
    assert isinstance(envelope.content, bytes)
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    """Provide a server that accepts mail from every sender."""
    async with _serving(Mailbox()) as box:
        yield box


@pytest.fixture
async def locked_mailbox(tmp_path: Path) -> AsyncIterator[Mailbox]:
    """Provide a server that accepts mail only after TLS and a login."""
    authority = trustme.CA()
    box = Mailbox(authority=str(tmp_path / "authority.pem"))
    authority.cert_pem.write_to_path(box.authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    options = {"tls_context": context, "require_starttls": True, "auth_required": True}
    async with _serving(box, authenticator=box.authenticate, **options) as box:
        yield box


@asynccontextmanager
async def _serving(box: Mailbox, **options: Any) -> AsyncIterator[Mailbox]:
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, **options), "127.0.0.1", 0)
    box.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield box
    server.close()
    await server.wait_closed()


async def test_a_mail_has_what_the_parameters_say(mailbox: Mailbox) -> None:
    """The mail has subject, body, sender and recipients; those in bcc get it and are not in its headers."""
    await mailer.send(
        SENDER,
        ["flute@example.com", "oboe@example.com"],
        mailbox.address,
        reply_to=["office@example.com"],
        cc_addrs="horn@example.com, harp@example.com",
        bcc_addrs=["critic@example.com"],
        subject="Änderung: play from the sign",
        body="Bar 17.\nDa capo.",
    )

    message, (envelope,) = message_in(mailbox), mailbox.envelopes
    assert envelope.mail_from == SENDER
    assert envelope.rcpt_tos == [
        *("flute@example.com", "oboe@example.com", "horn@example.com", "harp@example.com", "critic@example.com")
    ]
    assert (message["From"], message["To"]) == (SENDER, "flute@example.com, oboe@example.com")
    assert (message["Cc"], message["Reply-To"]) == ("horn@example.com, harp@example.com", "office@example.com")
    assert message["Subject"] == "Änderung: play from the sign"
    assert message.get_content().splitlines() == ["Bar 17.", "Da capo."]
    assert "critic" not in str(message)


async def test_html_stands_beside_the_text(mailbox: Mailbox) -> None:
    """html_body is an alternative to the text; without subject and body the mail has Mistral's placeholders."""
    await mailer.send(SENDER, ["flute@example.com"], mailbox.address, html_body="<b>Bar 17</b>")

    message = message_in(mailbox)
    assert message["Subject"] == "<No subject>"
    assert message.get_content_type() == "multipart/alternative"
    contents = [part.get_content().strip() for part in message.iter_parts() if isinstance(part, EmailMessage)]
    assert contents == ["<No body>", "<b>Bar 17</b>"]


async def test_a_password_logs_in_over_tls(locked_mailbox: Mailbox) -> None:
    """The sender logs in when the connection is encrypted and the certificate is trusted."""
    await mailer.send(
        SENDER,
        ["flute@example.com"],
        locked_mailbox.address,
        smtp_password="open sesame",
        body="Bar 17",
        verify=locked_mailbox.authority,
    )

    assert locked_mailbox.logins == [(SENDER.encode(), b"open sesame")]
    assert message_in(locked_mailbox).get_content().strip() == "Bar 17"


async def test_a_password_is_not_sent_to_a_stranger(locked_mailbox: Mailbox) -> None:
    """A server without a trusted certificate gets neither the password nor the mail."""
    with pytest.raises(ActionFailed, match="Failed to send an email message"):
        await mailer.send(SENDER, ["flute@example.com"], locked_mailbox.address, smtp_password="open sesame")

    assert (locked_mailbox.logins, locked_mailbox.envelopes) == ([], [])


async def test_verify_false_believes_anybody(locked_mailbox: Mailbox) -> None:
    """With verify=false a server with a self-signed certificate gets the mail."""
    await mailer.send(SENDER, ["flute@example.com"], locked_mailbox.address, smtp_password="open sesame", verify=False)

    assert len(locked_mailbox.envelopes) == 1


@pytest.mark.parametrize(
    ("recipient", "password", "told"),
    [("nobody@example.com", None, "no such reader"), ("flute@example.com", "wrong", "Failed to send an email message")],
)
async def test_a_refusal_is_a_failure(
    mailbox: Mailbox, locked_mailbox: Mailbox, recipient: str, password: str | None, told: str
) -> None:
    """The error is the answer of the server to a mail or a login, without the password."""
    box = mailbox if password is None else locked_mailbox
    with pytest.raises(ActionFailed, match=told) as caught:
        await mailer.send(SENDER, [recipient], box.address, smtp_password=password, verify=False)
    assert "wrong" not in str(caught.value)


async def test_headers_cannot_be_smuggled(mailbox: Mailbox) -> None:
    """A line break in a subject is refused, since the text after it would be a header."""
    with pytest.raises(ActionFailed, match="email message"):
        await mailer.send(SENDER, ["flute@example.com"], mailbox.address, subject="Hello\nBcc: thief@example.com")
    assert mailbox.envelopes == []


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mail.example.com", "mail.example.com", 25),
        ("mail.example.com:587", "mail.example.com", 587),
        ("[2001:db8::1]:2525", "2001:db8::1", 2525),
        ("[2001:db8::1]", "2001:db8::1", 25),
        ("2001:db8::1", "2001:db8::1", 25),
    ],
)
def test_a_server_may_have_a_port(text: str, host: str, port: int) -> None:
    """As in Mistral, a host without a port means port 25."""
    assert mail._read_server(text) == (host, port)


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    """An unreachable server or a port that is no number is a failure."""
    with pytest.raises(ActionFailed, match="Failed to send an email message"):
        await mailer.send(SENDER, ["flute@example.com"], "127.0.0.1:1")
    with pytest.raises(ActionFailed, match="host:port"):
        await mailer.send(SENDER, ["flute@example.com"], "127.0.0.1:smtp")
