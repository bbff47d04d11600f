"""Refusals as errors of the Connect protocol, for calls and for requests that are no call."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from protobuf import Registry
from protobuf.wkt import Any
from protobuf.wkt.google.protobuf import descriptor_pb

from dalsegno.v1 import failure_pb2

_CODES = {
    code.value[0]: Code(code.name.lower().replace("cancelled", "canceled")) for code in StatusCode if code.value[0]
}


def connect_error(status: Status) -> ConnectError:
    """Return a status as an error of the library, which shows its details also as JSON (`debug`)."""
    details = []
    for packed in status.details:
        detail = Any(type_url=packed.type_url, value=packed.value)
        known = _details().message(packed.type_url.rpartition("/")[2])
        unpacked = detail.unpack(known) if known is not None else None
        details.append(ErrorDetail(detail if unpacked is None else unpacked))
    return ConnectError(code_of(status), status.message, details)


def code_of(status: Status) -> Code:
    """Return the code of a status, as the library knows it."""
    return _CODES.get(status.code, Code.UNKNOWN)


@lru_cache(maxsize=1)
def _details() -> Registry:
    """Return the kinds of details, as the library knows messages."""
    files: dict[str, FileDescriptor] = {}

    def collect(file: FileDescriptor) -> None:
        for each in file.dependencies:
            collect(each)
        files[file.name] = file

    collect(error_details_pb2.DESCRIPTOR)
    collect(failure_pb2.DESCRIPTOR)
    collected = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(collected.file.add())
        _name_fields(collected.file[-1].message_type)
    return descriptor_pb.FileDescriptorSet.from_binary(collected.SerializeToString()).to_registry()


def _name_fields(messages: Iterable[DescriptorProto]) -> None:
    """Set the names of fields in JSON, which a copied descriptor lacks."""
    for message in messages:
        for field in message.field:
            first, *others = field.name.split("_")
            field.json_name = first + "".join(map(str.capitalize, others))
        _name_fields(message.nested_type)
