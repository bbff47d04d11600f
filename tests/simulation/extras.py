"""What some starts and callbacks of the simulation have: receivers, environments, deadlines, signatures."""

from __future__ import annotations

import base64
import hmac
import json
import random
from typing import Any

from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions


def embellish(request: executions.StartExecutionRequest, chance: random.Random, now_s: float) -> None:
    """Add to a start what most starts do not have. `now_s`: by the store's clock; 0: there are to be no deadlines."""
    params: dict[str, Any] = json.loads(request.params or "{}")
    if chance.random() < 0.25:
        kinds = ["WORKFLOW_SUCCEEDED", "WORKFLOW_FAILED", "TASK_SUCCEEDED", "WORKFLOW_LAUNCHED"]
        params["notify"] = [{"type": "webhook", "url": "https://example.com/hook", "event_types": kinds}]
    if chance.random() < 0.1:
        request.environment = "place"
    elif chance.random() < 0.2:
        params["env"] = {"a": 1, "b": "<% 1 + 1 %>"}
    if chance.random() < 0.1 and now_s:
        request.deadline.FromMilliseconds(int(1000 * (now_s + chance.choice([3.0, 30.0]))))
    if chance.random() < 0.1:
        request.labels["kind"] = "of many"
        request.description = "one of many"
    if request.execution_id and chance.random() < 0.2:
        request.on_conflict = executions.ON_CONFLICT_USE_EXISTING
    request.dry_run = chance.random() < 0.05
    request.params = json.dumps(params)


def sign(scheme: int, key: str, body: bytes, now_s: float) -> execution_pb2.SignedBody:
    """Return a callback's body, signed as its third party signs it."""
    signed = execution_pb2.SignedBody(body=body)
    if scheme == execution_pb2.SIGNATURE_SCHEME_GITHUB:
        signed.scheme = execution_pb2.SIGNATURE_SCHEME_GITHUB
        signed.signature = f"sha256={hmac.digest(key.encode(), body, 'sha256').hex()}"
        return signed
    signed.scheme, signed.id, signed.timestamp_s = execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS, "one", int(now_s)
    secret = base64.b64decode(key.removeprefix("whsec_"))
    mac = hmac.digest(secret, f"{signed.id}.{signed.timestamp_s}.".encode() + body, "sha256")
    signed.signature = f"v1,{base64.b64encode(mac).decode()}"
    return signed
