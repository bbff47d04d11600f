"""Messages of any type from JSON, and as JSON.

The form is the JSON format of Protocol Buffers, with three differences that serve expressions: fields have the names of
the proto, integers of 64 bits are numbers (values here have exact integers), and fields without presence are there with
their defaults. Requests take both forms: `orderId` and `order_id`, "7" and 7.
"""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

_WELL_KNOWN = "google.protobuf."
_ANY = "google.protobuf.Any"


def message_from_json(data: object, kind: Descriptor, pool: DescriptorPool) -> bytes:
    """Return the bytes of a message of this kind. Raises ValueError that names what does not fit, with its place."""
    message = GetMessageClass(kind)()
    try:
        json_format.ParseDict(data if isinstance(data, dict) else {"": data}, message, descriptor_pool=pool)
        return message.SerializeToString()
    except (json_format.Error, EncodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        try:
            unfit = list(_unfit(data, kind, "request"))
        except RecursionError:
            unfit = ["request: nested too deeply"]
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError("; ".join(unfit) or f"request: {words}") from None


def _unfit(data: object, kind: Descriptor, path: str) -> Iterator[str]:
    """Yield what a message of this kind does not have, with its place."""
    if kind.full_name.startswith(_WELL_KNOWN) and kind.full_name != "google.protobuf.Empty":
        return  # each has a form of its own
    if not isinstance(data, Mapping):
        yield f"{path}: must be an object with the fields of {kind.full_name}, not {_name_kind(data)}"
        return
    fields = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    for key, value in data.items():
        field = fields.get(key)
        if field is None:
            if not key.startswith("["):  # an extension
                names = ", ".join(each.name for each in kind.fields) or "no fields"
                yield f"{path}.{key}: {kind.full_name} has no field {key!r}; it has {names}"
        elif field.message_type is not None and value is not None:
            yield from _unfit_field(value, field, field.message_type, f"{path}.{key}")


def _unfit_field(value: object, field: FieldDescriptor, kind: Descriptor, path: str) -> Iterator[str]:
    if _is_map(field):
        values = kind.fields_by_name["value"]
        if isinstance(value, Mapping) and values.message_type is not None:
            for key, each in value.items():
                yield from _unfit(each, values.message_type, f"{path}[{key!r}]")
    elif not field.is_repeated:
        yield from _unfit(value, kind, path)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _unfit(each, kind, f"{path}[{index}]")
    else:
        yield f"{path}: must be a list, not {_name_kind(value)}"


def types_named(data: object) -> Iterator[str]:
    """Yield the types that a request names in `@type`."""
    if isinstance(data, Mapping):
        if isinstance(named := data.get("@type"), str):
            yield named.rpartition("/")[2]
        for each in data.values():
            yield from types_named(each)
    elif isinstance(data, list):
        for each in data:
            yield from types_named(each)


def message_to_json(message: Message, pool: DescriptorPool) -> tuple[Any, set[str]]:
    """Return the JSON of a message, and the types of google.protobuf.Any in it that the pool does not have.

    What such an Any holds is base64 in `value`.
    """
    missing: set[str] = set()
    return _Writer(pool, missing).write(message), missing


def lacks_fields(message: Message) -> bool:
    """Return whether the type of the message, or of one in it, lacks fields that it was sent with."""
    rest = type(message)()
    rest.CopyFrom(message)
    rest.DiscardUnknownFields()
    return rest.ByteSize() != message.ByteSize()


class _Writer:
    """Writes messages as JSON."""

    def __init__(self, pool: DescriptorPool, missing: set[str]) -> None:
        self._pool = pool
        self._missing = missing
        self._own: dict[str, Callable[[Any], object]] = {
            _ANY: self._write_any,
            "google.protobuf.Struct": lambda each: {key: self.write(value) for key, value in each.fields.items()},
            "google.protobuf.ListValue": lambda each: [self.write(value) for value in each.values],
            "google.protobuf.Value": self._write_value,
            **{f"google.protobuf.{name}": lambda each: each.ToJsonString() for name in _WITH_TEXT},
            **{f"google.protobuf.{name}Value": self._write_wrapped for name in _WRAPPED},
        }

    def write(self, message: Any) -> object:
        kind: Descriptor = message.DESCRIPTOR
        if (own := self._own.get(kind.full_name)) is not None:
            try:
                return own(message)
            except ValueError as error:  # a timestamp beyond the year 9999, a path that has no JSON form
                raise ValueError(f"a {kind.full_name} has no JSON form: {error}") from None
        written: dict[str, object] = {}
        for field in kind.fields:
            if not field.has_presence or message.HasField(field.name):
                written[field.name] = self._write_field(getattr(message, field.name), field)
        for field, value in message.ListFields() if kind.is_extendable else ():
            if field.is_extension:
                written[f"[{field.full_name}]"] = self._write_field(value, field)
        return written

    def _write_field(self, value: Any, field: FieldDescriptor) -> object:
        if _is_map(field) and field.message_type is not None:
            held = field.message_type.fields_by_name["value"]
            return {_write_key(key): self._write_one(value[key], held) for key in value}
        if field.is_repeated:
            return [self._write_one(each, field) for each in value]
        return self._write_one(value, field)

    def _write_one(self, value: Any, field: FieldDescriptor) -> object:
        if field.message_type is not None:
            return self.write(value)
        if field.enum_type is not None:
            if field.enum_type.full_name == "google.protobuf.NullValue":
                return None
            found = field.enum_type.values_by_number.get(value)
            return value if found is None else found.name
        if field.type == FieldDescriptor.TYPE_BYTES:
            return b64encode(value).decode()
        if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            return _write_float(value, field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT)
        return value

    def _write_any(self, message: Any) -> object:
        if not message.type_url:
            return {}
        name = message.type_url.rpartition("/")[2]
        try:
            held: Any = GetMessageClass(self._pool.FindMessageTypeByName(name))()
            held.ParseFromString(message.value)
        except (KeyError, DecodeError) as error:
            if isinstance(error, KeyError):
                self._missing.add(name)
            return {"@type": message.type_url, "value": b64encode(message.value).decode()}
        written = self.write(held)
        # A type with a form of its own keeps it, beside its name.
        inner = {"value": written} if name in self._own or not isinstance(written, dict) else written
        return {"@type": message.type_url, **inner}

    def _write_value(self, message: Any) -> object:
        kind = message.WhichOneof("kind")
        if kind is None or kind == "null_value":
            return None
        value = getattr(message, kind)
        if kind == "number_value":
            return int(value) if value.is_integer() else _write_float(value, False)
        return value if kind in ("string_value", "bool_value") else self.write(value)

    def _write_wrapped(self, message: Any) -> object:
        return self._write_one(message.value, message.DESCRIPTOR.fields_by_name["value"])


_WITH_TEXT = ("Timestamp", "Duration", "FieldMask")
_FLOAT_MAX = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
_WRAPPED = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")


def _write_key(key: object) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)


def _write_float(value: float, is_single: bool) -> object:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if not is_single:
        return value
    # The shortest number that is the same float of 32 bits: 0.1, not 0.10000000149011612.
    shorter = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return next((each for each in shorter if abs(each) <= _FLOAT_MAX and _narrow(each) == value), value)


def _narrow(value: float) -> float:
    narrowed: float = struct.unpack("f", struct.pack("f", value))[0]
    return narrowed


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and field.is_repeated and kind.GetOptions().map_entry


def _name_kind(data: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(data), "an object")
