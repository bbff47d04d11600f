"""The bodies of webhooks: JSON is the result as it is, a form an object, text a string, and nothing is null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs

import orjson
from connectrpc.code import Code

from dalsegno.gateway.draining import Receive
from dalsegno.gateway.messages import converted, parse_json
from dalsegno.gateway.responses import Response, refusal
from dalsegno.rpc.channel import MESSAGE_BYTES
from dalsegno.rpc.errors import refusals
from dalsegno.v1 import execution_pb2

_FIELDS_MAX = 10_000
_CHARSETS = ("utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252")
_TAKEN = "application/json, application/x-www-form-urlencoded, text/plain"


class BodyType(Enum):
    """What a body is."""

    NONE = "none"
    """It has no content type: it must be empty."""
    JSON_TEXT = "json"
    FORM = "form"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class BodyKind:
    """How a body is to be read."""

    type: BodyType
    charset: str


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request."""

    raw: bytes
    json: str
    """JSON text of its value; empty: null."""
    value: object


def kind_of(headers: Mapping[str, str]) -> BodyKind | Response:
    """Return how the body is to be read, or why it cannot be."""
    if (encoding := headers.get("content-encoding", "identity")) != "identity":
        return refusal(415, Code.INVALID_ARGUMENT, f"the body must not be compressed, and is {encoding!r}")
    given, *parameters = (each.strip().lower() for each in headers.get("content-type", "").split(";"))
    charset = next((each[8:].strip('"') for each in parameters if each.startswith("charset=")), "utf-8")
    if charset not in _CHARSETS:
        told = f"the charset is one of {', '.join(_CHARSETS)}, not {charset!r}"
        return refusal(415, Code.INVALID_ARGUMENT, told)
    if given == "application/json" or (given.startswith("application/") and given.endswith("+json")):
        return BodyKind(BodyType.JSON_TEXT, charset)
    if given == "application/x-www-form-urlencoded":
        return BodyKind(BodyType.FORM, charset)
    if given == "text/plain":
        return BodyKind(BodyType.TEXT, charset)
    if not given and headers.get("content-length", "0") == "0":
        return BodyKind(BodyType.NONE, charset)
    told = f"the content type is one of {_TAKEN}, not {given or 'missing'}"
    return refusal(415, Code.INVALID_ARGUMENT, told, ("accept-post", _TAKEN))


async def read_body(receive: Receive, kind: BodyKind) -> Body:
    """Read the body of a request. Raises TooLarge and InvalidRequest."""
    raw, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise refusals.InvalidRequest.of("", "the body has ended before its end")
        raw += message.get("body", b"")
        more = message.get("more_body", False)
        if len(raw) > MESSAGE_BYTES:
            raise refusals.TooLarge("the body", len(raw), MESSAGE_BYTES)
    if not raw:
        return Body(b"", "", None)
    try:
        text = raw.decode(kind.charset).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise refusals.InvalidRequest.of("", f"the body is not {kind.charset}: {error.reason}") from None
    return Body(bytes(raw), *await converted(len(raw), _valued, text, kind.type))


def _valued(text: str, kind: BodyType) -> tuple[str, object]:
    """Return the JSON text of a body, and its value."""
    match kind:
        case BodyType.JSON_TEXT:
            try:
                return text, orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise refusals.InvalidRequest.of("", f"the body is not JSON: {error}") from None
        case BodyType.FORM:
            if text.lstrip().startswith(("{", "[")):
                told = "the body looks like JSON and is sent as a form: send it with `content-type: application/json`"
                raise refusals.InvalidRequest.of("", told)
            value: object = _form(text)
        case BodyType.TEXT:
            value = text
        case BodyType.NONE:
            raise refusals.InvalidRequest.of("", f"the body has no content type; it is one of {_TAKEN}")
    return orjson.dumps(value).decode(), value


def _form(text: str) -> dict[str, str | list[str]]:
    """Return the fields of a form; those that occur more than once as lists."""
    try:
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise refusals.InvalidRequest.of("", f"the body is not a form: {error}") from None
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def progress_of(body: Body) -> execution_pb2.ActionProgress | None:
    """Return the progress that a heartbeat tells: a text, or the fields `text`, `fraction` and `details`; None if it
    tells none. Raises InvalidRequest."""
    if body.value is None:
        return None
    if isinstance(body.value, str):
        return execution_pb2.ActionProgress(text=body.value)
    value = body.value
    if isinstance(value, dict) and not isinstance(value.get("details", ""), str):
        value = {**value, "details": orjson.dumps(value["details"]).decode()}
    return execution_pb2.ActionProgress.FromString(parse_json(orjson.dumps(value), execution_pb2.ActionProgress))
