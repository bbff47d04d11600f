"""Webhooks: a third party ends a delegated action, or says that it still works on it, by one request.

    POST /hooks/token/TOKEN            POST /hooks/alias/ALIAS?namespace=N       the body is the result
    POST /hooks/token  with the token as Bearer                                  .../heartbeat: progress
    ?outcome=failed|cancelled                                                    the body is the error, or the result

Each is a call of ActionService; nothing is decided here. Neither a path nor a token is logged or answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

from connectrpc.code import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from dalsegno.access.bearer import KEY as TOKEN_KEY
from dalsegno.gateway.bodies import Body, kind_of, progress_of, read_body
from dalsegno.gateway.calls import CallFailed, Calls
from dalsegno.gateway.draining import Receive
from dalsegno.gateway.failures import code_of
from dalsegno.gateway.metadata import MetadataList
from dalsegno.gateway.responses import Response, json_response, refusal
from dalsegno.rpc.channel import ACTOR_KEY, REQUEST_ID_KEY
from dalsegno.rpc.peers import Balanced
from dalsegno.v1 import action_service_pb2 as messages
from dalsegno.v1 import execution_pb2
from dalsegno.v1.action_service_pb2_grpc import ActionServiceStub

ACTOR = "webhook"
"""Who has ended an action, in its journal, unless the caller says a name."""

_OUTCOMES = {
    "succeeded": messages.COMPLETION_OUTCOME_SUCCEEDED,
    "failed": messages.COMPLETION_OUTCOME_FAILED,
    "cancelled": messages.COMPLETION_OUTCOME_CANCELLED,
}
_STATUS = {
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.ALREADY_EXISTS: 409,
    Code.INVALID_ARGUMENT: 400,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
_PRIVATE = (("cache-control", "no-store"), ("referrer-policy", "no-referrer"))


@dataclass(frozen=True, slots=True)
class Hook:
    """What a request is about."""

    token: str = ""
    alias: str = ""
    namespace: str = ""
    outcome: messages.CompletionOutcome.ValueType = messages.COMPLETION_OUTCOME_SUCCEEDED
    is_heartbeat: bool = False


class Hooks:
    """Calls the api for third parties."""

    def __init__(self, channel: Balanced, calls: Calls) -> None:
        self._stub = ActionServiceStub(cast(Any, channel))
        self._calls = calls

    async def answer(self, scope: Any, headers: Mapping[str, str], receive: Receive) -> Response:
        """Return the response to a request. `headers`: by lower-case name."""
        if scope["method"] not in ("POST", "PUT"):
            return refusal(405, Code.UNIMPLEMENTED, "webhooks are called by POST or PUT", ("allow", "POST, PUT"))
        hook = _find(scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1"), headers)
        if isinstance(hook, Response):
            return hook
        kind = kind_of(headers)
        if isinstance(kind, Response):
            return kind
        method = "HeartbeatAction" if hook.is_heartbeat else "CompleteAction"
        try:
            with self._calls.served(f"/dalsegno.v1.Webhooks/{method}", headers.get(REQUEST_ID_KEY)) as call:
                body = await read_body(receive, kind)
                signed = _signed(headers, body.raw)
                request = _heartbeat(hook, body, signed) if hook.is_heartbeat else _completion(hook, body, signed)
                metadata: MetadataList = [
                    (REQUEST_ID_KEY, call.request_id),
                    (ACTOR_KEY, headers.get(ACTOR_KEY) or ACTOR),
                ]
                if hook.alias and TOKEN_KEY in headers:  # beside a task token none is needed, and it may be that one
                    metadata.append((TOKEN_KEY, headers[TOKEN_KEY]))
                with self._calls.opened(getattr(self._stub, method), request, metadata) as upstream:
                    answer = await upstream
        except CallFailed as failed:
            return _refused(failed.status)
        state = answer.state if hook.is_heartbeat else answer.action_execution.state
        name = execution_pb2.ActionState.Name(state).removeprefix("ACTION_STATE_")
        return json_response(200, {"state": name}, *_PRIVATE)


def _find(path: str, query: str, headers: Mapping[str, str]) -> Hook | Response:
    """Return what a request is about, or why it is about nothing."""
    _, _, kind, *names = path.split("/")
    is_heartbeat = bool(names) and names[-1] == "heartbeat" and (len(names) == 2 or kind == "token")
    names = names[:-1] if is_heartbeat else names
    if kind not in ("token", "alias") or len(names) > 1 or (kind == "alias" and not names) or "" in names:
        told = "there is nothing here: webhooks are /hooks/token/TOKEN and /hooks/alias/ALIAS, alone or with /heartbeat"
        return refusal(404, Code.NOT_FOUND, told)
    allowed = {"outcome"} - ({"outcome"} if is_heartbeat else set()) | ({"namespace"} if kind == "alias" else set())
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - allowed):
        known = " and ".join(sorted(allowed)) or "none"
        return refusal(400, Code.INVALID_ARGUMENT, f"unknown parameters: {', '.join(unknown)}; this takes {known}")
    outcome = given.get("outcome", "succeeded").lower()
    if outcome not in _OUTCOMES:
        return refusal(400, Code.INVALID_ARGUMENT, f"outcome is one of {', '.join(_OUTCOMES)}")
    name = unquote(names[0]) if names else _bearer(headers)
    if not name:
        told = "give the token in the path, or as `Authorization: Bearer TOKEN`"
        return refusal(401, Code.UNAUTHENTICATED, told, ("www-authenticate", "Bearer"))
    named = {"token": name} if kind == "token" else {"alias": name, "namespace": given.get("namespace", "")}
    return Hook(outcome=_OUTCOMES[outcome], is_heartbeat=is_heartbeat, **named)


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _completion(hook: Hook, body: Body, signed: execution_pb2.SignedBody | None) -> messages.CompleteActionRequest:
    request = messages.CompleteActionRequest(
        task_token=hook.token, alias=hook.alias, namespace=hook.namespace, outcome=hook.outcome, signed=signed
    )
    if hook.outcome != messages.COMPLETION_OUTCOME_SUCCEEDED and isinstance(body.value, str):
        request.error = body.value
    else:
        request.result = body.json
    return request


def _heartbeat(hook: Hook, body: Body, signed: execution_pb2.SignedBody | None) -> messages.HeartbeatActionRequest:
    return messages.HeartbeatActionRequest(
        task_token=hook.token,
        alias=hook.alias,
        namespace=hook.namespace,
        progress=progress_of(body),
        signed=signed,
    )


def _signed(headers: Mapping[str, str], body: bytes) -> execution_pb2.SignedBody | None:
    """Return the body with its signature; None if it has none. The engine checks it."""
    if any(name in headers for name in ("webhook-id", "webhook-timestamp", "webhook-signature")):
        sent = headers.get("webhook-timestamp", "")
        return execution_pb2.SignedBody(
            scheme=execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS,
            id=headers.get("webhook-id", ""),
            timestamp_s=int(sent) if sent.isascii() and sent.isdigit() and len(sent) <= 10 else 0,
            signature=headers.get("webhook-signature", ""),
            body=body,
        )
    if "x-hub-signature-256" in headers:
        signature = headers["x-hub-signature-256"]
        return execution_pb2.SignedBody(scheme=execution_pb2.SIGNATURE_SCHEME_GITHUB, signature=signature, body=body)
    return None


def _refused(status: Status) -> Response:
    """Return the response to a call that failed."""
    code, info, wrong, retry = code_of(status), ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for kind in (info, wrong, retry):
            detail.Unpack(kind)
    told: dict[str, object] = {"code": code.value, "message": status.message}
    if wrong.field_violations:
        told["violations"] = [{"field": each.field, "description": each.description} for each in wrong.field_violations]
    http_status = _STATUS.get(code, 500)
    if code is Code.INVALID_ARGUMENT and any(each.field.startswith("result") for each in wrong.field_violations):
        http_status = 422  # it is JSON, so it does not fit what the action asks for
    if info.reason == "OVERLOADED":
        http_status = 503
    after = (("retry-after", str(max(1, round(retry.retry_delay.ToTimedelta().total_seconds())))),)
    return json_response(http_status, told, *_PRIVATE, *(after if http_status == 503 else ()))
