"""OpenAPI 3.1 of the gateway, made from the protos: methods, messages as they are in JSON, and their comments."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import orjson
from connectrpc.code import Code
from google.protobuf.descriptor_pb2 import MethodDescriptorProto, MethodOptions

from dalsegno.gateway.schemas import Comments, Schemas, reference, sentence
from dalsegno.rpc.reflection import read_protos

Json = dict[str, Any]

_PROTO = "application/proto"
_STREAM = (
    "A stream: each message, in both directions, has a head of five bytes, flags and the length (big-endian); "
    "the last one of an answer has the flag 2 and holds the error, if there is one."
)
_DESCRIPTION = (
    "The public services of Dal Segno over HTTP, by the Connect protocol; clients of Connect and gRPC-Web need no more "
    "than the protos. Values are JSON text in strings. A field that a message does not have is refused."
)


@lru_cache(maxsize=1)
def document(services: tuple[str, ...]) -> bytes:
    """Return the document for these services, by their full names, as JSON."""
    files = read_protos().file
    schemas = Schemas(files)
    paths: Json = {}
    tags: list[Json] = []
    for file in files:
        comments = Comments(file)
        for index, service in enumerate(file.service):
            name = f"{file.package}.{service.name}"
            if name not in services:
                continue
            tags.append({"name": service.name, "description": comments.of(6, index)})
            for number, method in enumerate(service.method):
                told = comments.of(6, index, 2, number)
                paths[f"/{name}/{method.name}"] = _method(service.name, method, told, schemas)
    paths |= _hooks()
    found = {
        "openapi": "3.1.0",
        "info": {"title": "Dal Segno", "version": version("dalsegno"), "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [*tags, {"name": "Webhooks", "description": "How third parties end delegated actions."}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.made, "connect.Error": _error_schema()},
            "responses": {"Error": {"description": "It failed.", "content": _content(reference("connect.Error"))}},
        },
    }
    return orjson.dumps(found)


def _method(service: str, method: MethodDescriptorProto, told: str, schemas: Schemas) -> Json:
    """Return the path of a method."""
    taken, given = schemas.request(method.input_type), schemas.message(method.output_type)
    about: Json = {"tags": [service], "summary": sentence(told), "description": told}
    if method.server_streaming:
        about["description"] = f"{told}\n\n{_STREAM}"
        kinds = ("application/connect+json", "application/connect+proto")
    else:
        kinds = ("application/json", _PROTO)
    answer = {
        "200": {"description": "The answer.", "content": _content(given, *kinds)},
        "default": {"$ref": "#/components/responses/Error"},
    }
    post = {
        "operationId": f"{service}_{method.name}",
        **about,
        "parameters": [_TIMEOUT],
        "requestBody": {"required": True, "content": _content(taken, *kinds)},
        "responses": answer,
    }
    is_read = method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    if method.server_streaming or not is_read:
        return {"post": post}
    get = {
        "operationId": f"{service}_{method.name}_by_get",
        **about,
        "parameters": [
            _query("encoding", {"type": "string", "enum": ["json", "proto"]}),
            {"name": "message", "in": "query", "required": True, "content": _content(taken)},
            {**_query("base64", {"type": "string", "enum": ["1"]}), "required": False},
            _TIMEOUT,
        ],
        "responses": answer,
    }
    return {"post": post, "get": get}


_TIMEOUT = {
    "name": "connect-timeout-ms",
    "in": "header",
    "description": "The deadline of the call.",
    "schema": {"type": "integer", "minimum": 0},
}


def _query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": True, "schema": schema}


def _content(schema: Json, json: str = "application/json", proto: str = "") -> Json:
    return {json: {"schema": schema}, **({proto: {}} if proto else {})}


def _error_schema() -> Json:
    detail = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "description": "The full name of its message."},
            "value": {"type": "string", "contentEncoding": "base64", "description": "The message, without padding."},
            "debug": {"description": "The message in JSON, for people."},
        },
        "required": ["type", "value"],
    }
    return {
        "type": "object",
        "description": "Why a call failed. The status of HTTP follows from the code.",
        "properties": {
            "code": {"type": "string", "enum": [code.value for code in Code]},
            "message": {"type": "string"},
            "details": {"type": "array", "items": detail},
        },
        "required": ["code"],
    }


_HOOK_STATUS = {
    "400": "The body is not what its content type says, or a parameter is wrong.",
    "403": "The token or the signature is not genuine.",
    "404": "There is no such action.",
    "409": "It has ended otherwise, was handed out again, or several wait under the alias.",
    "413": "The result is larger than 4,000,000 bytes.",
    "415": "Another content type.",
    "422": "The result does not fit what the action asks for.",
    "503": "Try again, after Retry-After.",
}


def _hooks() -> Json:
    """Return the paths of webhooks."""
    found: Json = {}
    for kind, more in (("token", ()), ("alias", (_optional("namespace", {"type": "string"}),))):
        name = {"name": kind, "in": "path", "required": True, "schema": {"type": "string"}}
        outcome = _optional("outcome", {"type": "string", "enum": ["succeeded", "failed", "cancelled"]})
        path = f"/hooks/{kind}/{{{kind}}}"
        found[path] = _hook(
            f"end_by_{kind}", "Ends a delegated action; the body is its result.", [name, outcome, *more]
        )
        told = "Says that a delegated action is worked on; the body is its progress."
        found[f"{path}/heartbeat"] = _hook(f"heartbeat_by_{kind}", told, [name, *more])
    return found


def _optional(name: str, schema: Json) -> Json:
    return {**_query(name, schema), "required": False}


def _hook(operation: str, told: str, parameters: Iterable[Json]) -> Json:
    state = {"type": "object", "properties": {"state": {"type": "string"}}, "required": ["state"]}
    text = {"schema": {"type": "string"}}
    body = {"application/json": {}, "application/x-www-form-urlencoded": {}, "text/plain": text}
    refused = {"content": _content(reference("connect.Error"))}
    return {
        "post": {
            "operationId": operation,
            "tags": ["Webhooks"],
            "summary": told,
            "parameters": list(parameters),
            "requestBody": {"content": body},
            "responses": {
                "200": {"description": "Done, or done before.", "content": _content(state)},
                **{status: {"description": reason, **refused} for status, reason in _HOOK_STATUS.items()},
            },
        }
    }
