"""TLS of every link: what a server shows and whom it lets in, what a client shows and whom it trusts.

    files of --tls-... ──read and checked──▶ ServerTls ──▶ credentials of a gRPC server, context of an HTTP server
                                           └▶ ClientTls ──▶ credentials of a channel

The files are looked at whenever a connection begins, and read again if they have changed, so that certificates are
renewed without a restart. New files with a fault leave those from before in use, and the log says so.
"""

from __future__ import annotations

import datetime
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from dalsegno.access.files import Stamp, stamp_of
from dalsegno.rpc.links import ALPN, BadCredentials

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else gRPC itself writes a line for each handshake that fails

EXPIRES_SOON = datetime.timedelta(days=7)
"""A certificate that is read within this time before its end is told in the log."""

_log = logging.getLogger("dalsegno.tls")

T = TypeVar("T")


class _Kept(Generic[T]):
    """What is made of some files, made again when they change. It may be used in any thread."""

    def __init__(self, files: Iterable[str], make: Callable[[], T]) -> None:
        """Make it. Raises BadCredentials."""
        self._files = [each for each in files if each]
        self._make = make
        self._lock = threading.Lock()
        self._seen = self._look()
        self._made = make()

    def current(self) -> T:
        """Return what is made of the files as they are now, or were before they had a fault."""
        with self._lock:
            seen = self._look()  # before they are read: what changes meanwhile is seen the next time
            if seen != self._seen:
                self._seen = seen
                try:
                    self._made = self._make()
                except BadCredentials as error:
                    _log.warning("%s; what was read before stays in use", error)
                else:
                    _log.info("read again after a change: %s", ", ".join(self._files))
            return self._made

    def _look(self) -> list[Stamp | None]:
        return [stamp_of(each) for each in self._files]


class ServerTls:
    """The certificate of a server, and whom it lets in."""

    def __init__(self, certificate: str, key: str, client_ca: str = "", client_names: Sequence[str] = ()) -> None:
        """Read the PEM files. With `client_ca` a client must show a certificate of these authorities, and if there are
        `client_names`, one with such a name. Raises BadCredentials."""
        self.asks_clients = bool(client_ca)
        self.client_names = frozenset(client_names)
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._pem = _Kept((certificate, key, client_ca), self._read)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a gRPC server, which looks at the files before each handshake."""
        given = [self._pem.current()]

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            found = self._pem.current()
            if found is given[0]:
                return None
            given[0] = found
            return _configuration(found)

        # None means no change, which the types of the library do not know.
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed)
        return grpc.dynamic_ssl_server_credentials(_configuration(given[0]), fetch, self.asks_clients)

    def context(self, protocols: Sequence[str], ciphers: str) -> ssl.SSLContext:
        """Return the context of an HTTP server, which looks at the files before each handshake. Raises
        BadCredentials."""
        kept = _Kept((self._certificate, self._key, self._client_ca), lambda: self._make_context(protocols, ciphers))
        context = kept.current()

        def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = kept.current()

        context.sni_callback = renew  # OpenSSL calls it for clients that name no host, too
        return context

    def refusal(self, names: Collection[str]) -> str:
        """Return why a client whose certificate has these names is not let in; empty if it is."""
        if not self.client_names or not self.client_names.isdisjoint(names):
            return ""
        shown = ", ".join(sorted(names)) or "no name"
        return f"the certificate of the client has {shown}, and the server lets in others only (--tls-client-names)"

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        chain, key = _read_pair("--tls-certificate", self._certificate, "--tls-key", self._key)
        return chain, key, _read_authorities("--tls-client-ca", self._client_ca) if self._client_ca else None

    def _make_context(self, protocols: Sequence[str], ciphers: str) -> ssl.SSLContext:
        self._read()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION
        context.set_ciphers(ciphers)
        context.set_alpn_protocols(protocols)
        try:
            context.load_cert_chain(self._certificate, self._key)
            if self._client_ca:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise BadCredentials(f"the files of --tls-certificate, --tls-key cannot be used: {error}") from None
        return context


class ClientTls:
    """The authorities that a client trusts, and its own certificate."""

    def __init__(self, ca: str, certificate: str = "", key: str = "", server_name: str = "") -> None:
        """Read the PEM files. `server_name` is what the certificates of the servers must have; empty: the host of each
        address. Raises BadCredentials."""
        self.server_name = server_name
        self.shows_certificate = bool(certificate)
        self.ca, self._certificate, self._key = ca, certificate, key
        self._expires: datetime.datetime | None = None
        files = (ca, certificate, key)
        self._credentials = _Kept(files, self._make_credentials)

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials of a channel: the same object as long as the files do not change."""
        return self._credentials.current()

    def name_for(self, address: str) -> str:
        """Return the name that the certificate of the server at `host:port` must have."""
        host = "localhost" if address.startswith("unix") else address.rpartition(":")[0]
        return self.server_name or host.removeprefix("[").removesuffix("]")

    @property
    def has_expired(self) -> bool:
        """Return whether the certificate in use is not valid any more."""
        return self._expires is not None and self._expires < _now()

    def context(self) -> ssl.SSLContext:
        """Return a context that does what a channel does. Raises OSError and ssl.SSLError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if self._certificate:
            context.load_cert_chain(self._certificate, self._key)
        context.set_alpn_protocols([ALPN])
        return context

    def _make_credentials(self) -> grpc.ChannelCredentials:
        roots = _read_authorities("--tls-ca", self.ca)
        if not self._certificate:
            return grpc.ssl_channel_credentials(roots)
        chain, key = _read_pair("--tls-certificate", self._certificate, "--tls-key", self._key)
        self._expires = x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc
        return grpc.ssl_channel_credentials(roots, key, chain)


def names_in(certificate: x509.Certificate) -> list[str]:
    """Return the names of a certificate: the host names first, then the others, then the common name of its subject."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        names = x509.SubjectAlternativeName([])
    found = [str(each) for each in names.get_values_for_type(x509.DNSName)]
    found += [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    found += [str(each) for each in names.get_values_for_type(x509.UniformResourceIdentifier)]
    found += [str(each.value) for each in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return list(dict.fromkeys(found))


def names_in_peer(connection: ssl.SSLObject) -> list[str]:
    """Return the names in the certificate that the other side of a connection has shown; empty if it has shown none."""
    shown = connection.getpeercert(binary_form=True)
    return names_in(x509.load_der_x509_certificate(shown)) if shown else []


def names_of_file(option: str, file: str) -> list[str]:
    """Return the names of the first certificate in a file. Raises BadCredentials."""
    return names_in(_certificates(option, file, _content(option, file))[0])


def _configuration(pem: tuple[bytes, bytes, bytes | None]) -> grpc.ServerCertificateConfiguration:
    chain, key, authorities = pem
    return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)


def _read_pair(option: str, file: str, key_option: str, key_file: str) -> tuple[bytes, bytes]:
    """Return a certificate with its chain, and its key. Raises BadCredentials if they do not fit."""
    chain, key = _content(option, file), _content(key_option, key_file)
    own = _certificates(option, file, chain)[0]
    _check_time(option, file, own)
    try:
        public = load_pem_private_key(key, None).public_key()
    except TypeError:
        raise BadCredentials(f"{key_option} {key_file}: it has a password; give a key without one") from None
    except Exception:  # the library has many kinds
        raise BadCredentials(f"{key_option} {key_file}: no private key in PEM can be read") from None
    if not isinstance(public, RSAPublicKey | EllipticCurvePublicKey):
        raise BadCredentials(f"{key_option} {key_file}: the key is neither of RSA nor of ECDSA; gRPC takes these only")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != own.public_key().public_bytes(*form):
        raise BadCredentials(
            f"{key_option} {key_file}: not the key of the first certificate in {file} ({option}); give the two that"
            " were made together"
        )
    return chain, key


def _read_authorities(option: str, file: str) -> bytes:
    """Return the certificates in a file of authorities. Raises BadCredentials."""
    content = _content(option, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=content.decode("utf-8", "replace"))
    except (ssl.SSLError, ValueError):
        raise BadCredentials(f"{option} {file}: no certificate in PEM can be read") from None
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]
    if ends and max(ends) < time.time():
        raise BadCredentials(f"{option} {file}: all authorities in it have expired; give those in use")
    return content


def _content(option: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadCredentials(f"{option} {file}: it cannot be read: {reason}") from None


def _certificates(option: str, file: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise BadCredentials(f"{option} {file}: no certificate in PEM can be read") from None


def _check_time(option: str, file: str, certificate: x509.Certificate) -> None:
    _check_begin(option, file, certificate)
    ends, now = certificate.not_valid_after_utc, _now()
    if ends < now:
        raise BadCredentials(f"{option} {file}: the certificate has expired on {ends:%Y-%m-%d %H:%M} UTC; renew it")
    if ends - now < EXPIRES_SOON:
        _log.warning("%s %s: the certificate expires on %s UTC", option, file, f"{ends:%Y-%m-%d %H:%M}")


def _check_begin(option: str, file: str, certificate: x509.Certificate) -> None:
    begins = certificate.not_valid_before_utc
    if begins > _now():
        raise BadCredentials(
            f"{option} {file}: the certificate is valid from {begins:%Y-%m-%d %H:%M} UTC on; is the clock right?"
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
