"""Messages from descriptors: whole ones with odd values, and the same damaged on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from tests.fuzz.material import Material

from dalsegno.rpc import field_checks

DEPTH = 5
DAMAGED_IN = 12
"""One message in so many is changed on the wire."""

_ABOUT = frozenset(("execution_id", "action_execution_id", "task_execution_id", "workflow", "name", "text", "action"))
_DURATION, _TIME = "google.protobuf.Duration", "google.protobuf.Timestamp"
_SECONDS = (0, 1, 2, 60, 600, 86_400, -1, 315_576_000_000)
_BAD_TEXTS = ("a\0b", "\0")


def draw_message(material: Material, descriptor: Descriptor, depth: int = 0) -> Message:
    """Return a message of this type with some of its fields set."""
    message: Message = GetMessageClass(descriptor)()
    _fill(material, message, depth)
    return message


def _fill(material: Material, message: Message, depth: int) -> None:
    random = material.random
    descriptor = message.DESCRIPTOR
    if descriptor.full_name in (_DURATION, _TIME):
        _fill_time(random, message)
        return
    for field in _chosen(material, descriptor, depth):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(material, message, field)
        elif field.is_repeated:
            for _ in range(random.choice((1, 1, 2, 3, 20 if depth < 2 else 1))):
                _add(material, message, field, depth)
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(material, part, depth + 1)
            if field.name == "each" and random.randrange(9):
                part.execution_id = ""  # the filter says which
        else:
            setattr(message, field.name, _value(material, field))


def _chosen(material: Material, descriptor: Any, depth: int) -> Iterator[FieldDescriptor]:
    """Yield the fields to set: of a oneof one at most, nearly always."""
    random, taken = material.random, set[str]()
    for field in descriptor.fields:
        if depth >= DEPTH and field.message_type is not None:
            continue
        group = field.containing_oneof
        if group is not None and len(group.fields) > 1:
            if group.name in taken:
                continue
            taken.add(group.name)
            if random.random() < 0.95:
                yield random.choice(group.fields)
        elif random.random() < (0.9 if field.name in _ABOUT else material.filled):
            yield field


def _fill_time(random: Random, message: Any) -> None:
    message.seconds = random.choice(_SECONDS if random.randrange(30) else (2**62, -(2**62)))
    if random.randrange(4) == 0:
        message.nanos = random.choice((1, 999_999_999) if random.randrange(10) else (-1, 2**31 - 1))


def _fill_map(material: Material, message: Message, field: Any) -> None:
    entry = field.message_type.fields_by_name
    chosen = getattr(message, field.name)
    for _ in range(material.random.randrange(4)):
        is_number = entry["key"].type != FieldDescriptor.TYPE_STRING
        key = material.random.choice((0, 1, 5, -1) if is_number else ("team", "a", "zone", "x" * 64, "a b", ""))
        if entry["value"].message_type is not None:
            _fill(material, chosen[key], DEPTH)
        else:
            chosen[key] = _value(material, entry["value"])


def _add(material: Material, message: Message, field: FieldDescriptor, depth: int) -> None:
    chosen = getattr(message, field.name)
    if field.message_type is None:
        chosen.append(_value(material, field))
    elif len(chosen) < 50:
        _fill(material, chosen.add(), depth + 1)


def _value(material: Material, field: Any) -> Any:
    random = material.random
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return random.choice(_BAD_TEXTS) if random.randrange(400) == 0 else material.text(field.name)
        case FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 16, 32, 32, 32, 100)))
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            numbers = [each.number for each in field.enum_type.values]
            return 99 if random.randrange(60) == 0 else random.choice(numbers)
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return random.choice((0.0, 0.5, 1.0, -1.0, 2.0, 1e300, float("nan"), float("inf")))
        case _:
            return _fitted(material.number(), field)


def _fitted(number: int, field: FieldDescriptor) -> int:
    """Return a number that the type of the field can have."""
    is_long = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64)
    return number if is_long else max(-(2**31), min(2**31 - 1, number))


def write(random: Random, message: Message, damaged_in: int = DAMAGED_IN) -> bytes:
    """Return the bytes of a message; one in so many has been damaged."""
    data = message.SerializeToString()
    return damage(random, data) if random.randrange(damaged_in) == 0 else data


def damage(random: Random, data: bytes) -> bytes:
    """Return bytes with a few of them changed, out, in, or twice."""
    changed = bytearray(data)
    for _ in range(1 + random.randrange(3)):
        place = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0 if changed:
                changed[min(place, len(changed) - 1)] ^= 1 << random.randrange(8)
            case 1:
                del changed[place : place + random.randrange(9)]
            case 2:
                changed[place:place] = random.randbytes(random.randrange(9))
            case 3:
                changed += changed[place:][:200]
            case _:
                changed[place : place + 2] = b"\xff\xfe"
    return bytes(changed)


def passes(descriptor: Descriptor, data: bytes) -> bool:
    """Return whether bytes pass the first check of every server: they are such a message, and each of its fields can be
    stored."""
    try:
        message = field_checks.parse(GetMessageClass(descriptor), data)
    except DecodeError:
        return False
    return not field_checks.wrong_fields(message)
