"""Reflection: the descriptors of a server with their comments, under both names of the service.

grpcio-reflection has only `grpc.reflection.v1alpha`. `grpc.reflection.v1` has equal messages and another name, so it
has the same servicer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha import reflection, reflection_pb2

ALPHA, STABLE = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICE_NAMES = (f"{STABLE}.ServerReflection", reflection.SERVICE_NAME)

Response = reflection_pb2.ServerReflectionResponse


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Serve the descriptors of these services, and of what they need, under both names."""
    _publish_stable()
    handler = grpc.stream_stream_rpc_method_handler(
        Reflection((*services, *SERVICE_NAMES)).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=Response.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name in SERVICE_NAMES])


class Reflection:
    """Answers like the library, but with the comments of our protos, which the stubs do not have."""

    def __init__(self, services: Sequence[str]) -> None:
        self._plain: Any = reflection.aio.ReflectionServicer(services)

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> AsyncIterator[Response]:
        async for response in self._plain.ServerReflectionInfo(request_iterator, context):
            if response.HasField("file_descriptor_response"):
                written = response.file_descriptor_response.file_descriptor_proto
                written[:] = [_commented().get(_name_of(each), each) for each in written]
            yield response


def _name_of(written: bytes) -> str:
    return str(FileDescriptorProto.FromString(written).name)


def read_protos() -> FileDescriptorSet:
    """Return our protos with their comments, as scripts/build_stubs.py writes them."""
    return FileDescriptorSet.FromString(files("dalsegno.v1").joinpath("descriptors.binpb").read_bytes())


@lru_cache(maxsize=1)
def _commented() -> Mapping[str, bytes]:
    """Return our protos by file name."""
    return {file.name: file.SerializeToString() for file in read_protos().file}


@lru_cache(maxsize=1)
def _publish_stable() -> None:
    """Add the descriptors of the service under its stable name."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = file.name.replace("v1alpha", "v1"), STABLE
    for message in file.message_type:
        _rename(message)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(ALPHA, STABLE)
            method.output_type = method.output_type.replace(ALPHA, STABLE)
    descriptor_pool.Default().Add(file)


def _rename(message: DescriptorProto) -> None:
    for field in (each for each in message.field if each.type_name):
        field.type_name = field.type_name.replace(ALPHA, STABLE)
    for nested in message.nested_type:
        _rename(nested)
