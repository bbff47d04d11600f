"""Callers that are known by their certificates, by the rules in the file of --issuers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from dalsegno.access.bearer import id_of
from dalsegno.access.callers import ByCertificate, Caller
from dalsegno.access.claims import given_by
from dalsegno.access.issuers import CERTIFICATE
from dalsegno.access.jwt_check import NAME_LENGTH_MAX
from dalsegno.rpc.jwt_directory import IssuerFile
from dalsegno.workflow.refusals import Unauthenticated, Unavailable

PREFIX = f"{CERTIFICATE}/"
"""The beginning of the names of these callers."""

_KINDS = {
    "uri": x509.UniformResourceIdentifier,
    "dns": x509.DNSName,
    "email": x509.RFC822Name,
    "address": x509.IPAddress,
}
_SHOWN = ("uri", "email", "common_name", "subject")
"""The first of these names that a certificate has is that of its caller."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a certificate says of who shows it."""

    claims: Mapping[str, list[str]]
    shown: str
    certificate_id: str
    ends_s: float


class CertificateCallers:
    """Finds the callers of certificates, which TLS has checked."""

    def __init__(self, file: IssuerFile) -> None:
        self._file = file

    @property
    def are_any(self) -> bool:
        """Return whether certificates give anything."""
        return bool(self._file.trusted.certificates)

    def find(self, pem: bytes) -> Caller | None:
        """Return the caller of a certificate; None if no rule gives it anything. Raises Unauthenticated."""
        rules = self._file.trusted.certificates
        if not rules or not pem:
            return None
        names = _names_in(pem)
        if names is None or not (grants := given_by(rules, names.claims)):
            return None
        caller = Caller(
            name=names.shown,
            grants=grants,
            token_id=names.certificate_id,
            expires_s=names.ends_s,
            account=names.shown,
            origin=ByCertificate(rules),
            advice="what certificates give is in the file of --issuers",
        )
        self.check(caller)
        return caller

    def check(self, caller: Caller) -> None:
        """Raise Unauthenticated or Unavailable if a caller with an open call is not valid any more."""
        if caller.expires_s is not None and caller.expires_s <= time.time():
            raise Unauthenticated(f"the certificate of {caller.name!r} has expired: renew it")
        assert isinstance(caller.origin, ByCertificate)
        if caller.origin.rules != self._file.trusted.certificates:
            raise Unavailable("what the file of --issuers says of certificates has changed: call again")


@lru_cache(maxsize=1000)
def _names_in(pem: bytes) -> _Names | None:
    """Return the names in a certificate; None if it cannot be read, or has no name that can be shown."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            found = x509.SubjectAlternativeName([])
        claims = {
            "subject": [certificate.subject.rfc4514_string()],
            "common_name": [
                str(each.value) for each in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            ],
            **{name: [str(each.value) for each in found if isinstance(each, kind)] for name, kind in _KINDS.items()},
        }
        fingerprint = certificate.fingerprint(SHA256())
        ends_s = certificate.not_valid_after_utc.timestamp()
    except ValueError:  # TLS took it, and the library does not
        return None
    shown = next((claims[kind][0] for kind in _SHOWN if claims[kind]), "")
    if not shown or not shown.isprintable() or len(PREFIX) + len(shown) > NAME_LENGTH_MAX:
        return None
    return _Names(claims, PREFIX + shown, id_of(fingerprint), ends_s)
