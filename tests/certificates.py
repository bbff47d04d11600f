"""Certificates of authorities of the test's own, as PEM files in a folder."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import socket
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files, and how Chromium is told to accept it."""

    authority: Path
    chain: Path
    key: Path
    key_hash: str
    """SHA-256 of its public key, base64."""


def make_certificate(folder: Path, *names: str) -> Certificate:
    """Write a new authority and a certificate for the loopback names and further ones."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", *names)
    found = Certificate(folder / "authority.pem", folder / "chain.pem", folder / "key.pem", _key_hash(issued))
    authority.cert_pem.write_to_path(found.authority)
    issued.private_key_pem.write_to_path(found.key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(found.chain, append=True)
    return found


@dataclass(frozen=True, slots=True)
class Pair:
    """The file of a certificate, and that of its key."""

    certificate: str
    key: str


class Issuer:
    """An authority that issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Pair:
        """Write a certificate, or replace the one of this name, the key first: for a moment the two do not fit."""
        begins, ends = (_LONG_AGO, _LONG_AGO + datetime.timedelta(days=1)) if expired else (None, None)
        issued = self._authority.issue_cert(*(hosts or (name,)), common_name=name, not_before=begins, not_after=ends)
        pair = Pair(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}-key.pem"))
        issued.private_key_pem.write_to_path(pair.key)
        issued.cert_chain_pems[0].write_to_path(pair.certificate)
        return pair


_LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def serial_shown(port: int, context: ssl.SSLContext) -> str:
    """The number of the certificate that the server at a port of 127.0.0.1 shows to a new client."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        found = connection.getpeercert()
    assert found is not None
    return str(found["serialNumber"])


async def speaks(port: int, version: ssl.TLSVersion, pair: Pair | None = None) -> bool:
    """Whether the server at a port of 127.0.0.1 takes a client that speaks this version of TLS only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # what is old is the point here
        context.minimum_version = context.maximum_version = version
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        return False
    writer.close()
    return True


def _key_hash(issued: trustme.LeafCert) -> str:
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
