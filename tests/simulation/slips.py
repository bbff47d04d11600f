"""Slips of people and executors: a message with fields that say something else, often what cannot be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_TEXTS = ("", "x", "{", "[1]", '{"a": 1}', "\0", "x" * 300, "start", "t0")
_NUMBERS = (-1, 0, 1, 7)


def slip(message: Message, chance: random.Random, ids: Sequence[str] = ()) -> None:
    """Set one or two fields to other values of their types. `ids`: of executions, for fields that name some."""
    fields = [each for each in message.DESCRIPTOR.fields if each.name != "request_id"]
    for field in chance.sample(fields, min(len(fields), chance.randint(1, 2))):
        target: Any = getattr(message, field.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            key, value = (_value(kind.fields_by_name[name], chance, ids) for name in ("key", "value"))
            target[key] = value
        elif field.is_repeated and kind is not None:
            slip(target.add(), chance, ids)
        elif field.is_repeated:
            target.extend([_value(field, chance, ids)] * 2)
        elif kind is not None:
            target.SetInParent()
            slip(target, chance, ids)
        else:
            setattr(message, field.name, _value(field, chance, ids))


def _value(field: Any, chance: random.Random, ids: Sequence[str]) -> object:
    if field.enum_type is not None:
        return chance.choice([*field.enum_type.values_by_number, 99])
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        is_id = field.name.endswith("execution_id") and ids
        return chance.choice(ids) if is_id and chance.random() < 0.7 else chance.choice(_TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    return chance.choice(_NUMBERS)
