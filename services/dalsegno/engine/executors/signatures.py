"""Signatures of callbacks: the keys by which third parties sign, and whether a callback was signed with one.

A key belongs to one delivery of one attempt. It is derived from the key of the task tokens, so it is stored nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from dalsegno.rpc.convert import SIGNATURE_SCHEMES
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.changes import Signature
from dalsegno.workflow.refusals import SignatureInvalid, SignatureMissing

TOLERANCE_S = 300.0
"""How far the time of a signature may differ from that of the engine."""

PREFIX = "whsec_"

ID_CHARACTERS_MAX = 255
SIGNATURE_CHARACTERS_MAX = 4_096


SCHEMES: dict[int, Signature] = {scheme: signature for signature, scheme in SIGNATURE_SCHEMES.items()}

_NOT_GENUINE = "the signature of the callback is not genuine"


class SigningKeys:
    """Makes the signing keys of deliveries and checks what was signed with them."""

    def __init__(self, key: str) -> None:
        """`key`: that of the task tokens, in hex."""
        self._hmac = hmac.new(hmac.digest(bytes.fromhex(key), b"signing keys", "sha256"), digestmod="sha256")

    def make(self, attempt: str, delivery: int) -> str:
        """Return the signing key of a delivery of an attempt. `attempt` is its id."""
        return PREFIX + binascii.b2a_base64(self._secret(attempt, delivery), newline=False).decode()

    def check(
        self, attempt: str, delivery: int, scheme: Signature, signed: execution_pb2.SignedBody | None, now_s: float
    ) -> None:
        """Check the signature of a callback about a delivery that asked for this scheme; `now_s` is the wall clock of
        the engine. Raises SignatureMissing and SignatureInvalid."""
        if signed is None or not signed.signature:
            raise SignatureMissing(f"the action takes signed callbacks only ({scheme}), and this one has no signature")
        if SCHEMES.get(signed.scheme) is not scheme:
            raise SignatureMissing(f"the action takes callbacks signed as {scheme} only")
        if len(signed.signature) > SIGNATURE_CHARACTERS_MAX:
            raise SignatureInvalid(f"the signature has more than {SIGNATURE_CHARACTERS_MAX} characters")
        if scheme is Signature.GITHUB:
            key = self.make(attempt, delivery).encode()
            expected = "sha256=" + hmac.digest(key, signed.body, "sha256").hex()
            if not hmac.compare_digest(expected.encode(), signed.signature.encode()):
                raise SignatureInvalid(_NOT_GENUINE)
            return
        if "." in signed.id or len(signed.id) > ID_CHARACTERS_MAX:
            raise SignatureInvalid(f"the id of a callback has at most {ID_CHARACTERS_MAX} characters and no dot")
        content = f"{signed.id}.{signed.timestamp_s}.".encode() + signed.body
        expected_mac = hmac.digest(self._secret(attempt, delivery), content, "sha256")
        if not any([hmac.compare_digest(expected_mac, each) for each in _macs(signed.signature)]):
            raise SignatureInvalid(_NOT_GENUINE)
        if abs(now_s - signed.timestamp_s) > TOLERANCE_S:
            raise SignatureInvalid(
                f"the callback was signed {abs(now_s - signed.timestamp_s):.0f} s "
                f"{'ago' if signed.timestamp_s < now_s else 'ahead of now'}; at most {TOLERANCE_S:.0f} s are allowed"
            )

    def _secret(self, attempt: str, delivery: int) -> bytes:
        made = self._hmac.copy()
        made.update(f"{attempt}:{delivery}".encode())
        return made.digest()


def _macs(signature: str) -> list[bytes]:
    """Return the MACs of a Standard Webhooks signature: `v1,` and Base64, several with spaces in between."""
    macs = []
    for each in signature.split(" "):
        version, _, text = each.partition(",")
        if version == "v1":
            try:
                macs.append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue
    return macs
