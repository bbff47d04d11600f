"""OpenAPI from the protos: every method, every message as JSON really has it, every comment."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import orjson
import pytest
import referencing
import referencing.jsonschema
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from dalsegno.gateway.contract import PUBLIC
from dalsegno.gateway.openapi import document

METHODS = [method for service in PUBLIC for method in service.methods]
URI = "urn:openapi"


@cache
def openapi() -> Any:
    """The document."""
    return orjson.loads(document(tuple(service.full_name for service in PUBLIC)))


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """A validator of one schema, by the name of its message."""
    resource = referencing.Resource.from_contents(openapi(), referencing.jsonschema.DRAFT202012)
    registry: Any = referencing.Registry().with_resource(URI, resource)
    schema = {"$ref": f"{URI}#/components/schemas/{name}"}
    return jsonschema.Draft202012Validator(schema, registry=registry)


def filled(descriptor: Descriptor, depth: int = 0) -> Message:
    """A message with something in each field, of each oneof in the first."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[0].name != field.name and len(oneof.fields) > 1:
            continue
        target: Any = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            if value.message_type is not None:
                target[value_of(key)].CopyFrom(filled(value.message_type, depth + 1))
            else:
                target[value_of(key)] = value_of(value)
        elif field.message_type is not None:
            inner = filled(field.message_type, depth + 1) if depth < 4 else GetMessageClass(field.message_type)()
            (target.add() if field.is_repeated else target).CopyFrom(inner)
        else:
            value = value_of(field)
            if field.is_repeated:
                target.append(value)
            else:
                setattr(message, field.name, value)
    return message


def value_of(field: FieldDescriptor) -> Any:
    """A value of a field without messages."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return "text"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"bytes"
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return 1


def references(value: Any) -> Iterator[str]:
    """All references in a part of the document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_method_is_there_and_reads_by_get_too() -> None:
    """A path for each method of the public services, with its comment; none of the internal ones."""
    paths = openapi()["paths"]
    wanted = {f"/{method.containing_service.full_name}/{method.name}" for method in METHODS}
    assert {path for path in paths if path.startswith("/dalsegno.")} == wanted
    for method in METHODS:
        path = paths[f"/{method.containing_service.full_name}/{method.name}"]
        is_read = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        assert ("get" in path) == (is_read and not method.server_streaming)
        assert "Errors:" in path["post"]["description"]
        assert path["post"]["summary"].endswith(".")
    assert "/hooks/token/{token}/heartbeat" in paths


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    """JSON Schema 2020-12, as OpenAPI 3.1 has it; each field has its comment."""
    schemas = openapi()["components"]["schemas"]
    for each in references(openapi()):
        assert each.removeprefix("#/components/schemas/") in schemas or each == "#/components/responses/Error"
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        if name.startswith("dalsegno."):
            assert schema["description"], name
            assert all(field["description"] for field in schema.get("properties", {}).values()), name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))
def test_messages_are_as_the_schemas_say(method: Any) -> None:
    """What the gateway writes and reads of each method, with every field set, fits; other names and types do not."""
    for descriptor in (method.input_type, method.output_type):
        told = MessageToDict(filled(descriptor))
        validator(descriptor.full_name).validate(told)
        wrong = {name: {"no": "such value"} for name in list(told)[:1]}
        kind = descriptor.fields[0].message_type if descriptor.fields else None
        if wrong and kind is None:
            assert not validator(descriptor.full_name).is_valid(wrong)
    assert not validator(method.input_type.full_name).is_valid({"noSuchField": 1})


def test_long_numbers_are_strings_enums_names_and_of_a_oneof_there_is_one() -> None:
    """As ProtoJSON has it."""
    execution = validator("dalsegno.v1.Execution")
    assert execution.is_valid({"revision": "9007199254740993"})
    assert not execution.is_valid({"revision": 1})
    assert execution.is_valid({"state": "EXECUTION_STATE_PAUSED", "createdAt": "2026-11-28T12:00:00Z"})
    assert not execution.is_valid({"state": "PAUSED"})
    change = validator("dalsegno.v1.Change")
    assert change.is_valid({"taskAdded": {}})
    assert not change.is_valid({"taskAdded": {}, "taskMoved": {}})
