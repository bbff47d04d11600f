"""Messages on their way through: protobuf passes as it is, JSON is converted, and gzip is taken off and put on.

The library converts in synchronous calls of its own. So the codecs here only pass a message on, and endpoints convert
it: on the event loop if it is small, in a thread if it is large.
"""

from __future__ import annotations

import asyncio
import difflib
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from connectrpc.compat import google_protobuf_json_codec
from google.protobuf.json_format import ParseError
from google.protobuf.message import Message

from dalsegno.gateway.contract import type_of
from dalsegno.rpc.channel import MESSAGE_BYTES
from dalsegno.rpc.errors import refusals

READ_BYTES = 2 * MESSAGE_BYTES
"""The most that is read of a request: twice the limit, so that a refusal can say how large it is."""

THREAD_BYTES = 256 * 1024
"""A larger message is converted in a thread."""

GZIP_LEVEL = 1
GZIP_RATIO = 64
"""How many times larger a compressed message is taken to be: most are less."""

_JSON = google_protobuf_json_codec(ignore_unknown_fields=False)
_threads = ThreadPoolExecutor(2, "conversion")

_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_WRONG_MAX = 50
"""The number of wrong fields that a refusal names: a look for what was meant takes time."""

_NAME_MAX = 100
"""The part of an unknown name that is looked at, in characters."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a request, as it was received."""

    data: bytes | bytearray
    kind: type[Message]
    is_json: bool


class Encoded(bytes):
    """A message of an answer."""

    gzipped: bytes = b""
    """The same, compressed, if that was done before."""


class Gzipped(bytes):
    """A message of a request that is compressed."""


class Codec:
    """Passes messages on: a Received in, bytes out."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        """Return the last part of its content type."""
        return self._name

    def encode(self, message: bytes) -> bytes:
        """Return the message, which `written` has converted."""
        return message

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Received:
        """Return the message for `read`."""
        return Received(data, message_class, self._name == "json")


class Gzip:
    """Compresses what was not compressed before, and leaves what comes in to `read`."""

    def name(self) -> str:
        """Return the name in the headers."""
        return "gzip"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the message compressed."""
        return data.gzipped if isinstance(data, Encoded) and data.gzipped else gzip.compress(data, GZIP_LEVEL)

    def decompress(self, data: bytes | bytearray | memoryview, read_max_bytes: int | None = None) -> bytes:
        """Return the message as it is, marked."""
        return Gzipped(data)


CODECS = (Codec("json"), Codec("proto"))


async def read(received: Received) -> bytes:
    """Return a message of a request as protobuf. Raises TooLarge and InvalidRequest."""
    data = received.data
    if isinstance(data, Gzipped):
        data = await converted(len(data) * GZIP_RATIO, _inflated, data)
    if len(data) > MESSAGE_BYTES:
        raise refusals.TooLarge("the message", len(data), MESSAGE_BYTES)
    if not received.is_json:
        return bytes(data)
    return await converted(len(data), parse_json, data, received.kind)


async def written(data: bytes, kind: type[Message], *, as_json: bool, may_gzip: bool) -> bytes:
    """Return a message of an answer, protobuf, as its caller wants it. `may_gzip`: whether it may be compressed."""
    if as_json:
        data = await converted(len(data), _as_json, data, kind)
    if may_gzip and len(data) > THREAD_BYTES:
        encoded = Encoded(data)
        encoded.gzipped = await converted(len(data), gzip.compress, data, GZIP_LEVEL)
        return encoded
    return data


async def converted(size: int, convert: Callable[..., T], *arguments: Any) -> T:
    """Convert what has this size, in bytes: in a thread if it is large."""
    if size <= THREAD_BYTES:
        return convert(*arguments)
    return await asyncio.get_running_loop().run_in_executor(_threads, convert, *arguments)


def _inflated(data: bytes) -> bytes:
    # Not the library's way: it accepts any number of streams one after another, and copies the rest for each.
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(data, MESSAGE_BYTES + 1)
    except zlib.error as error:
        raise refusals.InvalidRequest.of("", f"the message is not gzip: {error}") from None
    if (size := len(inflated)) > MESSAGE_BYTES:
        del inflated  # an error keeps what its function has
        raise refusals.TooLarge("the message", size, MESSAGE_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise refusals.InvalidRequest.of("", "the message is not exactly one whole gzip stream")
    return inflated


def parse_json(data: bytes | bytearray, kind: type[Message]) -> bytes:
    """Convert JSON to protobuf. Raises InvalidRequest that names every unknown field, and each that must be a text."""
    try:
        message: Message = _JSON.decode(bytes(data), kind)
    except (ParseError, ValueError, RecursionError) as error:
        raise _explain(data, kind, error) from None
    if not _OBJECT.match(data):  # an empty list or text, which the parser takes for an object
        raise _not_an_object(kind)
    return message.SerializeToString()


def _explain(data: bytes | bytearray, kind: type[Message], error: Exception) -> refusals.InvalidRequest:
    """Return why this is no JSON of a message."""
    if not data:
        return refusals.InvalidRequest.of("", "the body is empty: send at least {}")
    value = _loaded(data)
    if not isinstance(value, dict):
        return _not_an_object(kind)
    if wrong := list(islice(_wrong_fields(value, kind.DESCRIPTOR, ""), _WRONG_MAX)):
        return refusals.InvalidRequest(wrong)
    told = " ".join(str(error).split()).removesuffix(".")
    return refusals.InvalidRequest.of("", f"the JSON is not a {kind.DESCRIPTOR.full_name}: {told}")


def _not_an_object(kind: type[Message]) -> refusals.InvalidRequest:
    return refusals.InvalidRequest.of("", f"the JSON is not a {kind.DESCRIPTOR.full_name}: it is no object")


def _loaded(data: bytes | bytearray) -> object:
    """Return the value of JSON; an empty object if it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return {}


def _wrong_fields(value: object, descriptor: Any, path: str) -> Iterator[refusals.Violation]:
    """Yield a violation for each name in the JSON of a message that is no field of it, and for each text that is none,
    nested messages included."""
    if not isinstance(value, dict) or descriptor.full_name.startswith("google.protobuf."):
        return
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for name, member in value.items():
        place = f"{path}.{name[:_NAME_MAX]}" if path else name[:_NAME_MAX]
        field = fields.get(name)
        if field is None:
            yield refusals.Violation(place, _no_such_field(name[:_NAME_MAX], descriptor))
        elif field.message_type is None:
            if field.type == field.TYPE_STRING:
                yield from _check_texts(member if field.is_repeated and isinstance(member, list) else [member], place)
        elif field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"].message_type
            for key, each in member.items() if inner is not None and isinstance(member, dict) else ():
                yield from _wrong_fields(each, inner, f"{place}[{key!r}]")
        elif isinstance(member, list):
            for index, each in enumerate(member):
                yield from _wrong_fields(each, field.message_type, f"{place}[{index}]")
        else:
            yield from _wrong_fields(member, field.message_type, place)


def _check_texts(values: list[Any], place: str) -> Iterator[refusals.Violation]:
    """Yield a violation if one of these is neither a text nor null."""
    wrong = next((each for each in values if not isinstance(each, str | None)), None)
    if isinstance(wrong, dict | list):
        yield refusals.Violation(place, 'must be a text: write its JSON as a text, such as "{\\"a\\": 1}"')
    elif wrong is not None:
        yield refusals.Violation(place, f"must be a text in quotes, not {json.dumps(wrong)[:_NAME_MAX]}")


def _no_such_field(name: str, descriptor: Any) -> str:
    known = [str(field.json_name) for field in descriptor.fields]
    close = difflib.get_close_matches(name.lower().replace("_", ""), [each.lower() for each in known], 1)
    meant = next((f"; did you mean {each}?" for each in known if close and each.lower() == close[0]), "")
    return f"is no field of {descriptor.name}, which has {', '.join(known)}{meant}"


def _as_json(data: bytes, kind: type[Message]) -> bytes:
    return type_of(kind.DESCRIPTOR.full_name).from_binary(data).to_json().encode()
