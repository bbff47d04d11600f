"""The public rpcs, found by their descriptors: what is added to the contract is met by these tests by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from dalsegno.v1 import (
    action_service_pb2,
    environment_service_pb2,
    execution_service_pb2,
    system_service_pb2,
    workflow_service_pb2,
)

FILES = (
    action_service_pb2,
    environment_service_pb2,
    execution_service_pb2,
    system_service_pb2,
    workflow_service_pb2,
)
READS = ("Get", "List", "Read", "Wait", "Watch", "Validate")
"""How the names of rpcs begin that ask the store and change nothing."""

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@dataclass(frozen=True)
class Rpc:
    """One public rpc."""

    method: MethodDescriptor

    @property
    def name(self) -> str:
        return f"{self.method.containing_service.name}.{self.method.name}"

    @property
    def is_read(self) -> bool:
        return str(self.method.name).startswith(READS)

    @property
    def request(self) -> Any:
        """The class of its requests."""
        return message_factory.GetMessageClass(self.method.input_type)

    async def ask(self, channel: grpc.aio.Channel, request: Any, timeout_s: float = 30.0) -> Any:
        """Its answer, or the first one of a stream. Raises AioRpcError."""
        path = f"/{self.method.containing_service.full_name}/{self.method.name}"
        parse = message_factory.GetMessageClass(self.method.output_type).FromString
        write = type(request).SerializeToString
        if not self.method.server_streaming:
            unary: Any = channel.unary_unary(path, request_serializer=write, response_deserializer=parse)
            return await unary(request, timeout=timeout_s)
        stream: Any = channel.unary_stream(path, request_serializer=write, response_deserializer=parse)
        call = stream(request, timeout=timeout_s)
        try:
            return await anext(aiter(call))
        finally:
            call.cancel()


def rpcs() -> Iterator[Rpc]:
    """All of them."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield Rpc(method)
