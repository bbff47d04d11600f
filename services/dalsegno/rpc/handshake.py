"""Why no connection comes about, as far as TLS is the cause. gRPC tells less: "Socket closed" for three causes.

The same handshake is tried once more, without gRPC: OpenSSL names what is wrong, and an alert of the server what it
does not like.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import TYPE_CHECKING

from dalsegno.rpc.links import ALPN

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls

TRY_S = 2.0
"""The time for one attempt."""
ANEW_S = 2.0
"""The answer of an attempt counts for this time."""

_PLAIN = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG"}
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = (62, 64)
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_NO_CERTIFICATE = "it lets in clients with a certificate only: give one by --tls-certificate and --tls-key"
_EXPIRED_CLIENT = "this client's certificate has expired: renew the file of --tls-certificate"
_ALERTS = {
    "CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "HANDSHAKE_FAILURE": _NO_CERTIFICATE,
    "UNKNOWN_CA": "it does not know the authority of this client's certificate: give one of its --tls-client-ca",
    "CERTIFICATE_EXPIRED": _EXPIRED_CLIENT,
    "BAD_CERTIFICATE": "it does not accept this client's certificate (--tls-certificate)",
    "UNSUPPORTED_CERTIFICATE": "this client's certificate is not made for clients (extended key usage)",
    "CERTIFICATE_UNKNOWN": "it does not accept this client's certificate (--tls-certificate)",
    "DECRYPT_ERROR": "the key does not belong to this client's certificate: give both of one pair",
    "PROTOCOL_VERSION": "it speaks another version of TLS; 1.2 is the oldest that is used here",
}


class Explainer:
    """Says why there is no connection to one server. An answer is kept for a short time. Use it within one event
    loop."""

    def __init__(self, address: str, tls: ClientTls | None, name: str = "") -> None:
        """`name` is the host that the certificate must have, if it is not that of the address."""
        self._address, self._tls, self._name = address, tls, name
        self._told = ""
        self._until_s = 0.0
        self._asking: asyncio.Task[str] | None = None

    async def why(self) -> str:
        """Return what is wrong and what to do about it; empty if TLS is not the cause."""
        if time.monotonic() >= self._until_s:
            self._told = await explain(self._address, self._tls, self._name)
            self._until_s = time.monotonic() + ANEW_S
        return self._told

    def known(self) -> str:
        """Return what was found last, and look anew meanwhile: whoever tries again must not wait for it."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self.why())
        return self._told

    def close(self) -> None:
        """Look no more."""
        if self._asking is not None:
            self._asking.cancel()


async def explain(address: str, tls: ClientTls | None, name: str = "") -> str:
    """Return why a client cannot speak with the server at an address, and what to do; empty if TLS is not the cause."""
    with contextlib.suppress(OSError, TimeoutError, ValueError, EOFError):
        async with asyncio.timeout(TRY_S):
            if tls is None:
                return await _explain_plain(address)
            return await _explain_tls(address, tls, tls.server_name or name or tls.name_for(address))
    return ""


async def _explain_plain(address: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    try:
        writer = (await _open(address, context, address.rpartition(":")[0] or "localhost"))[1]
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return ""
    else:
        writer.close()
    return "it speaks TLS, and this client does not: give the authorities of its certificate by --tls-ca"


async def _explain_tls(address: str, tls: ClientTls, name: str) -> str:
    context = tls.context()
    try:
        reader, writer = await _open(address, context, name)
        try:  # with TLS 1.3 a server looks at the client's certificate after the handshake, as the client sees it
            return "" if await reader.read(1) else _about_end(tls)
        finally:
            writer.close()
    except ssl.SSLCertVerificationError as error:
        return _about_certificate(error, tls, name)
    except ssl.SSLError as error:
        return _about_alert(error)
    except ConnectionResetError:
        return _about_end(tls)


async def _open(address: str, context: ssl.SSLContext, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        return await asyncio.open_unix_connection(path, ssl=context, server_hostname=name)
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)


def _about_certificate(error: ssl.SSLCertVerificationError, tls: ClientTls, name: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate, or one above it, has expired: renew it there"
    if code == _NOT_YET:
        return "its certificate is not valid yet: is the clock right, here and there?"
    if code in _OTHER_NAME:
        return (
            f"its certificate does not have the name {name}: call it by a name that it has, or say which by"
            " --tls-server-name"
        )
    if code in _UNKNOWN_AUTHORITY:
        return f"its certificate is of another authority than those in {tls.ca} (--tls-ca): give the one that signed it"
    return f"its certificate is not accepted: {error.verify_message}"


def _about_end(tls: ClientTls) -> str:
    """Return why a server ends the connection and says nothing, as servers of gRPC do."""
    if not tls.shows_certificate:
        return _NO_CERTIFICATE
    if tls.has_expired:
        return _EXPIRED_CLIENT
    return (
        "it does not accept this client's certificate: give one of an authority in its --tls-client-ca, made for"
        " clients"
    )


def _about_alert(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in _PLAIN:
        return "it speaks plain text, and this client TLS: leave out --tls-ca, or give the server --tls-certificate"
    for alert, told in _ALERTS.items():
        if reason.endswith(f"ALERT_{alert}"):
            return told
    return f"the TLS handshake fails: {reason or error}"
