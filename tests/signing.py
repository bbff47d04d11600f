"""Callbacks as third parties sign them, written from the descriptions of the two schemes."""

from __future__ import annotations

import base64
import hmac
import time

from dalsegno.v1 import execution_pb2

STANDARD, GITHUB = execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS, execution_pb2.SIGNATURE_SCHEME_GITHUB


def standard(body: bytes, key: str, at_s: int | None = None, id: str = "msg_1") -> execution_pb2.SignedBody:
    """A callback as a sender of Standard Webhooks signs it; `at_s`: now unless given."""
    at_s = int(time.time()) if at_s is None else at_s
    mac = hmac.digest(base64.b64decode(key.removeprefix("whsec_")), f"{id}.{at_s}.".encode() + body, "sha256")
    signature = "v1," + base64.b64encode(mac).decode()
    return execution_pb2.SignedBody(scheme=STANDARD, id=id, timestamp_s=at_s, signature=signature, body=body)


def github(body: bytes, key: str) -> execution_pb2.SignedBody:
    """A callback as GitHub signs it."""
    signature = "sha256=" + hmac.digest(key.encode(), body, "sha256").hex()
    return execution_pb2.SignedBody(scheme=GITHUB, signature=signature, body=body)
