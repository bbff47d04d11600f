"""A certificate for 127.0.0.1 and localhost, of an authority of the test's own, as PEM files in a folder."""

from __future__ import annotations

import base64
import hashlib
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


def _key_hash(issued: trustme.LeafCert) -> str:
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
