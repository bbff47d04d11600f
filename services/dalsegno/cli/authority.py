"""A private certificate authority in a folder: it signs certificates for servers and clients."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from dalsegno.rpc.credentials import names_in

AUTHORITY_DAYS = 3650
EARLIER = datetime.timedelta(minutes=5)
"""Certificates are valid from this time before they are made, for machines whose clocks are slow."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_RESERVED = {"ca", "ca-key", "server-key"}


class CannotIssue(Exception):
    """The authority is there already, is not there, or a name cannot stand in a certificate."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class Authority:
    """One authority, with its files `ca.pem` and `ca-key.pem`."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._folder, self._certificate, self._key = folder, certificate, key

    @classmethod
    def made(cls, folder: Path) -> Authority:
        """Make a new one. Raises CannotIssue if the folder has one, and OSError."""
        if (folder / "ca-key.pem").exists() or (folder / "ca.pem").exists():
            raise CannotIssue(
                f"{folder} has an authority already",
                "add --renew for new certificates of it, or name another folder",
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Dal Segno private authority")])
        usage = x509.KeyUsage(
            **dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True, "digital_signature": True}
        )
        built = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        made = cls(folder, built.sign(key, hashes.SHA256()), key)
        _write(folder / "ca-key.pem", _pem_of(key))
        _write(folder / "ca.pem", made._certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return made

    @classmethod
    def opened(cls, folder: Path) -> Authority:
        """Read the one in a folder. Raises CannotIssue if there is none."""
        try:
            key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        except (FileNotFoundError, ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CannotIssue(
                f"{folder} has no authority of `dalsegno certs init`", "leave out --renew to make one in a new folder"
            )
        return cls(folder, certificate, key)

    def issued(self) -> dict[str, list[str]]:
        """Return the certificates in the folder by the names of their files, each with its hosts."""
        found = {}
        for key in sorted(self._folder.glob("*-key.pem")):
            name = key.name.removesuffix("-key.pem")
            file = self._folder / f"{name}.pem"
            if name not in _RESERVED and file.exists():
                names = names_in(x509.load_pem_x509_certificate(file.read_bytes()))
                found[name] = [each for each in names if each != name]
        return found

    def issue(self, name: str, hosts: Sequence[str], days: int) -> None:
        """Write `NAME.pem` and `NAME-key.pem`, a certificate for these hosts or addresses. Raises CannotIssue."""
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise CannotIssue(f"{name!r} cannot be the name of a file", "use letters, digits and . _ @ -")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        usage = x509.KeyUsage(**dict.fromkeys(_USAGES, False) | {"digital_signature": True})
        built = (
            _builder(subject, self._certificate.subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        certificate = built.sign(self._key, hashes.SHA256())
        _write(self._folder / f"{name}-key.pem", _pem_of(key))
        _write(self._folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    if "@" in host or not host or not host.isascii():
        raise CannotIssue(f"{host!r} is no host name and no address", "write names in ASCII, without a port")
    return x509.DNSName(host)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as new:
        new.write(content)
    os.chmod(new.name, mode)
    os.replace(new.name, file)
