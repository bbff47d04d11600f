"""JSON schemas of messages and enums, as ProtoJSON writes them, with their comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

Json = dict[str, Any]
Field = FieldDescriptorProto

_INT32: Json = {"type": "integer", "format": "int32"}
_INT64: Json = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_SCALARS: dict[int, Json] = {
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    **dict.fromkeys((Field.TYPE_INT32, Field.TYPE_SINT32, Field.TYPE_UINT32, Field.TYPE_FIXED32), _INT32),
    **dict.fromkeys((Field.TYPE_INT64, Field.TYPE_SINT64, Field.TYPE_UINT64, Field.TYPE_FIXED64), _INT64),
}
_WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"},
}


class Comments:
    """The comments of one file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}

    def of(self, *path: int) -> str:
        """Return the comment of what stands at this path of the descriptor, its lines joined to paragraphs."""
        paragraphs = "\n".join(line.strip() for line in self._texts.get(path, "").strip().splitlines()).split("\n\n")
        return "\n\n".join(" ".join(paragraph.splitlines()) for paragraph in paragraphs)


class Schemas:
    """The schemas of those messages that somebody has asked for, and of what they hold."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self.made: Json = {}
        """By full name."""
        self._messages: dict[str, tuple[DescriptorProto, Comments, tuple[int, ...]]] = {}
        self._enums: dict[str, tuple[EnumDescriptorProto, Comments, tuple[int, ...]]] = {}
        for file in files:
            comments = Comments(file)
            for index, enum in enumerate(file.enum_type):
                self._enums[f".{file.package}.{enum.name}"] = enum, comments, (5, index)
            for index, message in enumerate(file.message_type):
                self._collect(f".{file.package}.{message.name}", message, comments, (4, index))

    def _collect(self, name: str, message: DescriptorProto, comments: Comments, path: tuple[int, ...]) -> None:
        self._messages[name] = message, comments, path
        for index, enum in enumerate(message.enum_type):
            self._enums[f"{name}.{enum.name}"] = enum, comments, (*path, 4, index)
        for index, nested in enumerate(message.nested_type):
            self._collect(f"{name}.{nested.name}", nested, comments, (*path, 3, index))

    def request(self, name: str) -> Json:
        """Return a reference to the schema of a request, which takes its own fields only."""
        found = self.message(name)
        self.made[name[1:]]["additionalProperties"] = False
        return found

    def message(self, name: str) -> Json:
        """Return the schema of a message, or a reference to it. `name` begins with a dot."""
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if name[1:] not in self.made:
            message, comments, path = self._messages[name]
            made: Json = {"type": "object", "description": comments.of(*path)}
            self.made[name[1:]] = made  # before its fields: a message may hold itself
            made["properties"] = {
                field.json_name: self._described(field, comments.of(*path, 2, index))
                for index, field in enumerate(message.field)
            }
            if choices := list(_choices(message)):
                made["allOf"] = choices
        return reference(name[1:])

    def _described(self, field: Field, comment: str) -> Json:
        return {**self._field(field), "description": comment} if comment else self._field(field)

    def _field(self, field: Field) -> Json:
        entry = self._messages.get(field.type_name)
        if entry is not None and entry[0].options.map_entry:
            return {"type": "object", "additionalProperties": self._one(entry[0].field[1])}
        one = self._one(field)
        return {"type": "array", "items": one} if field.label == Field.LABEL_REPEATED else one

    def _one(self, field: Field) -> Json:
        if field.type == Field.TYPE_MESSAGE:
            return self.message(field.type_name)
        return self._enum(field.type_name) if field.type == Field.TYPE_ENUM else _SCALARS[field.type]

    def _enum(self, name: str) -> Json:
        if name[1:] not in self.made:
            enum, comments, path = self._enums[name]
            told = [f"- `{value.name}`: {comments.of(*path, 2, index)}" for index, value in enumerate(enum.value)]
            self.made[name[1:]] = {
                "type": "string",
                "description": "\n".join([comments.of(*path), "", *told]),
                "enum": [value.name for value in enum.value],
            }
        return reference(name[1:])


def _choices(message: DescriptorProto) -> Iterator[Json]:
    """Yield, for each oneof of a message, that at most one of its fields is there."""
    for index in range(len(message.oneof_decl)):
        names = [
            field.json_name
            for field in message.field
            if field.HasField("oneof_index") and field.oneof_index == index and not field.proto3_optional
        ]
        if names:
            each = [{"required": [name]} for name in names]
            yield {"oneOf": [*each, {"not": {"anyOf": each}}]}


def reference(name: str) -> Json:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def sentence(text: str) -> str:
    """Return the first sentence.

    >>> sentence("Reads one action. It is quick.")
    'Reads one action.'
    """
    return text.split("\n")[0].partition(". ")[0].rstrip(".") + "."
