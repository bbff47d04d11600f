"""Check every field of every request, by its descriptor, before a servicer receives it.

Texts contain no NUL, numbers fit 32 bits, times and durations are within their ranges, enums have known values: what
passes can be stored and found in every store. A new field of a message is checked like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from dalsegno.workflow.refusals import Violation

NUMBER_MAX = 2**31 - 1
"""The largest number of a column in a store."""

_NUMBERS = frozenset(
    getattr(FieldDescriptor, f"TYPE_{kind}")
    for kind in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "FIXED32", "FIXED64", "SFIXED32", "SFIXED64")
)
_SECONDS_OF_TIMES = range(-62_135_596_800, 253_402_300_800)
_SECONDS_MAX = 315_576_000_000
_NANOS = range(1_000_000_000)


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one kind of value."""

    passes: Callable[[Any], bool]
    explain: Callable[[Any], str]
    """Describes the violation of a value that does not pass."""


def wrong_fields(message: Message, path: str = "") -> list[Violation]:
    """Return a violation for each field of a message, also in nested messages, that no store can store.

    `path` is the name of the message itself if it is part of another.
    """
    return [] if _passes(message) else list(_walk(message, path))


def _passes(message: Message) -> bool:
    """Return whether there is no violation. It is quick; only violations need the names of fields."""
    passes = _fields_pass(message.DESCRIPTOR)
    for field, value in message.ListFields():
        test = passes.get(field.number)
        if test is not None and not test(value):
            return False
    return True


@lru_cache(maxsize=1024)
def _fields_pass(descriptor: Any) -> dict[int, Callable[[Any], bool]]:
    """Return the check of each field of a message, by its number."""
    return {field.number: test for field in descriptor.fields if (test := _field_passes(field)) is not None}


def _field_passes(field: FieldDescriptor) -> Callable[[Any], bool] | None:
    if _is_map(field):
        parts = _fields_pass(field.message_type)
        key, value = parts.get(1, _always), parts.get(2, _always)
        return lambda members: all(key(name) and value(members[name]) for name in members)
    look = _check_of(field)
    if look is None or not field.is_repeated:
        return None if look is None else look.passes
    one = look.passes
    return lambda values: all(map(one, values))


def _always(value: object) -> bool:
    return True


def _walk(message: Message, path: str) -> Iterator[Violation]:
    for field, value in message.ListFields():
        name = f"{path}.{field.name}" if path else field.name
        if _is_map(field):
            parts: Any = field.message_type
            for member in value:
                place = f"{name}[{(member[:64] if isinstance(member, str) else member)!r}]"
                yield from _walk_one(parts.fields_by_name["key"], member, place)
                yield from _walk_one(parts.fields_by_name["value"], value[member], place)
        elif field.is_repeated:
            for index, member in enumerate(value):
                yield from _walk_one(field, member, f"{name}[{index}]")
        else:
            yield from _walk_one(field, value, name)


def _walk_one(field: FieldDescriptor, value: Any, name: str) -> Iterator[Violation]:
    look = _check_of(field)
    if look is None or look.passes(value):
        return
    if look is _MESSAGE:
        yield from _walk(value, name)
    else:
        yield Violation(name, look.explain(value))


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _check_of(field: FieldDescriptor) -> Check | None:
    """Return the check of a field's value, or of each of its values; None for flags, fractions and bytes."""
    if field.message_type is not None:
        return _TIMES.get(str(field.message_type.full_name), _MESSAGE)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _TEXT
    if field.enum_type is not None:
        return _enum_check(field.enum_type)
    return _NUMBER if field.type in _NUMBERS else None


def _time_passes(moment: Timestamp) -> bool:
    return moment.seconds in _SECONDS_OF_TIMES and moment.nanos in _NANOS


def _length_passes(length: Duration) -> bool:
    fits = abs(length.seconds) <= _SECONDS_MAX and abs(length.nanos) in _NANOS
    return fits and length.seconds * length.nanos >= 0


_MESSAGE = Check(_passes, lambda message: "")
_TEXT = Check(
    lambda text: "\0" not in text,
    lambda text: (
        f"holds, as character {text.index(chr(0)) + 1:,}, NUL or what is not UTF-8 (such as half of a surrogate pair)"
    ),
)
_NUMBER = Check(
    lambda number: -NUMBER_MAX <= number <= NUMBER_MAX,
    lambda number: f"is {number}, which is beyond {NUMBER_MAX if number > 0 else -NUMBER_MAX}",
)


@lru_cache(maxsize=256)
def _enum_check(kind: Any) -> Check:
    """Refuse unknown values of an enum: from a newer client they may mean the opposite of the default."""
    known = ", ".join(f"{each.name} ({each.number})" for each in kind.values)
    numbers = frozenset(kind.values_by_number)
    return Check(numbers.__contains__, lambda number: f"is {number}, which this server does not know; it knows {known}")


_TIMES: dict[str, Check] = {
    Timestamp.DESCRIPTOR.full_name: Check(_time_passes, lambda moment: "is not a time between the years 1 and 9999"),
    Duration.DESCRIPTOR.full_name: Check(_length_passes, lambda length: "is not a length of at most 10,000 years"),
}


def parse(kind: type[Message], data: bytes) -> Message:
    """Parse a message. What is not UTF-8 in a text becomes NUL, so that the check can name the field.

    Raises DecodeError for other bytes.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        return kind.FromString(_repaired(kind.DESCRIPTOR, data))


def _repaired(descriptor: Any, data: bytes) -> bytes:
    """Return the message with NUL instead of what is not UTF-8 in its texts."""
    fields, written = descriptor.fields_by_number, bytearray()
    sent: Any = UnknownFieldSet(Empty.FromString(data))
    for found in sent:
        field = fields.get(found.field_number)
        written += _varint(found.field_number << 3 | found.wire_type)
        if found.wire_type == 0:
            written += _varint(found.data)
        elif found.wire_type == 2:
            content = found.data
            if field is not None and field.type == FieldDescriptor.TYPE_STRING:
                content = _repaired_text(content)
            elif field is not None and field.message_type is not None:
                content = _repaired(field.message_type, content)
            written += _varint(len(content)) + content
        elif found.wire_type in (1, 5):
            written += found.data.to_bytes(8 if found.wire_type == 1 else 4, "little")
        else:
            raise DecodeError(f"field {found.field_number} is a group, which proto3 does not have")
    return bytes(written)


def _repaired_text(content: bytes) -> bytes:
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "\0").encode()
    return content


def _varint(number: int) -> bytes:
    written = bytearray()
    number &= 2**64 - 1
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
