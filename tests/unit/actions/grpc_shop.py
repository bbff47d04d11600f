"""A gRPC service of the tests, made from a proto at run time, with server reflection in either version or without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_tools import protoc  # type: ignore[import-untyped]
from tests.ports import free_port

SERVICE = "example.shop.v1.Shop"

MESSAGES = """
syntax = "proto3";
package example.shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Color { COLOR_UNSPECIFIED = 0; COLOR_RED = 1; }
message Line { string item = 1; int32 count = 2; }
message Order {
  string order_id = 1;
  int64 total = 2;
  uint64 serial = 3;
  repeated Line lines = 4;
  map<string, Line> by_shelf = 5;
  map<int64, bool> paid = 6;
  Color color = 7;
  bytes seal = 8;
  float weight = 9;
  double price = 10;
  optional int32 discount = 11;
  oneof payment { string card = 12; Line voucher = 13; }
  google.protobuf.Timestamp at = 14;
  google.protobuf.Duration within = 15;
  google.protobuf.Struct extra = 16;
  google.protobuf.Any about = 17;
  google.protobuf.Int64Value limit = 18;
  google.protobuf.FieldMask mask = 19;
}
"""

SHOP = """
syntax = "proto3";
package example.shop.v1;
import "order.proto";
service Shop {
  rpc Echo(Order) returns (Order);
  rpc Look(Order) returns (Order) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Watch(Order) returns (stream Order);
  rpc Upload(stream Order) returns (Order);
}
"""

NOTES = """
syntax = "proto3";
package example.shop.v1;
message Note { string text = 1; int64 number = 2; }
"""

Method = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]
FILES = {"order.proto": MESSAGES, "shop.proto": SHOP, "note.proto": NOTES}


def compile_protos(folder: Path, files: dict[str, str]) -> bytes:
    """Return the FileDescriptorSet of these protos by name."""
    for name, text in files.items():
        (folder / name).write_text(text)
    out = folder / "set.binpb"
    well_known = Path(protoc.__file__).parent / "_proto"
    options = [f"-I{folder}", f"-I{well_known}", f"--descriptor_set_out={out}", "--include_imports"]
    assert protoc.main(["protoc", *options, *(str(folder / name) for name in files)]) == 0
    return out.read_bytes()


def read_pool(descriptors: bytes) -> DescriptorPool:
    """Return the types of a FileDescriptorSet."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return pool


class Shop:
    """The server. Its methods answer what they are sent unless a test puts another function in their place."""

    def __init__(self, descriptors: bytes, versions: tuple[str, ...] = ("v1", "v1alpha")) -> None:
        """`versions`: those of server reflection that it serves."""
        self.methods: dict[str, Method] = {}
        self.messages: Iterator[dict[str, Any]] = iter(())
        """What Watch sends."""
        self.calls: list[tuple[str, dict[str, str | bytes]]] = []
        """The methods that were called, each with its metadata."""
        self.reflections = 0
        self.ended: list[str] = []
        """How calls ended that were cancelled."""
        self.port = 0
        self.pool = read_pool(descriptors)
        self._versions = versions
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._stopping: asyncio.Task[None] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def make(self, name: str, **fields: Any) -> Any:
        """Return a message of the service."""
        return GetMessageClass(self.pool.FindMessageTypeByName(f"example.shop.v1.{name}"))(**fields)

    async def start(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen on this port of 127.0.0.1, 0 for one that nobody else gets, with TLS if there are credentials."""
        self._serve_methods()
        self.port = port or free_port()
        address = f"127.0.0.1:{self.port}"
        if credentials is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def stop(self) -> None:
        """Stop it once, however often this is called: grpc crashes at times when a server is stopped twice at once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._server.stop(0))
        await asyncio.shield(self._stopping)

    def _serve_methods(self) -> None:
        described = self.pool.FindServiceByName(SERVICE)
        handlers = {
            method.name: (grpc.unary_stream_rpc_method_handler if method.server_streaming else _unary)(
                self._stream if method.server_streaming else self._answer(method.name),
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=_write,
            )
            for method in described.methods
            if not method.client_streaming
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

        async def reflect(requests: Any, context: Any) -> AsyncIterator[Any]:
            self.reflections += 1
            servicer: Any = reflection.aio.ReflectionServicer([SERVICE], pool=self.pool)
            async for answer in servicer.ServerReflectionInfo(requests, context):
                yield answer

        for version in self._versions:
            handler = grpc.stream_stream_rpc_method_handler(
                reflect,
                request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
            name = f"grpc.reflection.{version}.ServerReflection"
            methods = {"ServerReflectionInfo": handler}
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods)])

    def _answer(self, name: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            self.calls.append((name, dict(context.invocation_metadata())))
            method = self.methods.get(name)
            try:
                return request if method is None else await method(request, context)
            except asyncio.CancelledError:
                self.ended.append(name)
                raise

        return answer

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.calls.append(("Watch", dict(context.invocation_metadata())))
        try:
            for fields in self.messages:
                yield self.make("Order", **fields)
            if (method := self.methods.get("Watch")) is not None:
                await method(request, context)
        except asyncio.CancelledError:
            self.ended.append("Watch")
            raise


def _unary(function: Any, **options: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(function, **options)


def _write(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
