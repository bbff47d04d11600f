"""The three gRPC services that the example `order` calls: stock, payment and delivery of fictional umbrellas.

Their protos are made here, and told by server reflection: nobody who calls them needs a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from dalsegno.cli.endpoints import CITIES

Method = Callable[[Any], Any]
"""From the fields of a request to those of the answer, or to an iterator of such for a stream."""

CREDIT_CROWNS = 500
"""Payments above it are refused."""

_TYPES = {str: FieldDescriptorProto.TYPE_STRING, int: FieldDescriptorProto.TYPE_INT64}


class Refused(Exception):
    """The service refuses a call."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@dataclass(slots=True)
class Books:
    """What the three services remember, by order: the same call twice does its work once."""

    reserved: dict[str, tuple[str, int]] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)
    booked: dict[str, str] = field(default_factory=dict)

    def reserve(self, request: Any) -> dict[str, object]:
        if request.city not in CITIES:
            raise Refused(code_pb2.NOT_FOUND, "NO_SUCH_CITY", f"there is no city {request.city}")
        if request.order_id not in self.reserved:
            if self._left(request.city) < request.umbrellas:
                raise Refused(code_pb2.FAILED_PRECONDITION, "SOLD_OUT", f"{self._left(request.city)} are left")
            self.reserved[request.order_id] = request.city, request.umbrellas
        return {"left": self._left(request.city)}

    def release(self, request: Any) -> dict[str, object]:
        self.reserved.pop(request.order_id, None)
        return {}

    def count(self, request: Any) -> dict[str, object]:
        return {"left": self._left(request.city)}

    def _left(self, city: str) -> int:
        return CITIES[city][2] - sum(count for where, count in self.reserved.values() if where == city)

    def charge(self, request: Any) -> dict[str, object]:
        if request.crowns > CREDIT_CROWNS:
            raise Refused(code_pb2.FAILED_PRECONDITION, "CARD_DECLINED", f"the limit is {CREDIT_CROWNS} crowns")
        self.paid[request.order_id] = request.crowns
        return {"receipt": f"R-{len(self.paid)}"}

    def refund(self, request: Any) -> dict[str, object]:
        return {"crowns": self.paid.pop(request.order_id, 0)}

    def balance(self, request: Any) -> dict[str, object]:
        return {"crowns": sum(self.paid.values())}

    def book(self, request: Any) -> dict[str, object]:
        if CITIES[request.city][1] == "storm":
            raise Refused(code_pb2.FAILED_PRECONDITION, "STORM", f"nothing is delivered to {request.city} in a storm")
        self.booked[request.order_id] = request.city
        return {"parcel": f"P-{len(self.booked)}"}

    def cancel(self, request: Any) -> dict[str, object]:
        self.booked.pop(request.order_id, None)
        return {}

    def track(self, request: Any) -> Iterator[dict[str, object]]:
        yield {"place": "warehouse"}
        yield {"place": "road"}
        yield {"place": self.booked.get(request.order_id, "nowhere")}


@dataclass(frozen=True, slots=True)
class _Described:
    """A method: the fields of its request and of its answer, and what it does."""

    name: str
    takes: Mapping[str, type]
    gives: Mapping[str, type]
    does: Method
    option: MethodOptions.IdempotencyLevel.ValueType = MethodOptions.IDEMPOTENT
    streams: bool = False


def _services(books: Books) -> dict[str, list[_Described]]:
    """Return the services by name."""
    order, reads = {"order_id": str}, MethodOptions.NO_SIDE_EFFECTS
    return {
        "example.stock.v1.Stock": [
            _Described("Reserve", {**order, "city": str, "umbrellas": int}, {"left": int}, books.reserve),
            _Described("Release", order, {}, books.release),
            _Described("Count", {"city": str}, {"left": int}, books.count, reads),
        ],
        "example.payment.v1.Payment": [
            _Described("Charge", {**order, "crowns": int}, {"receipt": str}, books.charge),
            _Described("Refund", order, {"crowns": int}, books.refund),
            _Described("Balance", {}, {"crowns": int}, books.balance, reads),
        ],
        "example.delivery.v1.Delivery": [
            _Described("Book", {**order, "city": str}, {"parcel": str}, books.book),
            _Described("Cancel", order, {}, books.cancel),
            _Described("Track", order, {"place": str}, books.track, reads, streams=True),
        ],
    }


def _describe(service: str, methods: Sequence[_Described]) -> FileDescriptorProto:
    """Return the proto of a service."""
    prefix, _, name = service.rpartition(".")
    path = f"{prefix.replace('.', '/')}/{name.lower()}.proto"
    file = FileDescriptorProto(name=path, package=prefix, syntax="proto3")
    described = file.service.add(name=name)
    for method in methods:
        for suffix, fields in (("Request", method.takes), ("Response", method.gives)):
            message = file.message_type.add(name=method.name + suffix)
            for number, (each, kind) in enumerate(fields.items(), 1):
                message.field.add(
                    name=each, number=number, type=_TYPES[kind], label=FieldDescriptorProto.LABEL_OPTIONAL
                )
        added = described.method.add(name=method.name, server_streaming=method.streams)
        added.input_type, added.output_type = f".{prefix}.{method.name}Request", f".{prefix}.{method.name}Response"
        added.options.idempotency_level = method.option
    return file


@asynccontextmanager
async def serve_services(addresses: Sequence[str]) -> AsyncIterator[dict[str, str]]:
    """Serve the three services at these HOST:PORTs while the block runs; yield their addresses by name, as `stock`."""
    servers = []
    found: dict[str, str] = {}
    try:
        for address, (service, methods) in zip(addresses, _services(Books()).items(), strict=True):
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            _add_service(server, service, methods)
            port = server.add_insecure_port(address)
            await server.start()
            servers.append(server)
            found[service.rpartition(".")[2].lower()] = f"{address.rpartition(':')[0]}:{port}"
        yield found
    finally:
        await asyncio.gather(*(server.stop(0) for server in servers))


def _add_service(server: grpc.aio.Server, service: str, methods: Sequence[_Described]) -> None:
    pool = DescriptorPool()
    pool.Add(_describe(service, methods))
    described = pool.FindServiceByName(service)
    handlers: dict[str, Any] = {}
    for method in methods:
        kind = described.methods_by_name[method.name]
        give = GetMessageClass(kind.output_type)
        make: Any = grpc.unary_stream_rpc_method_handler if method.streams else grpc.unary_unary_rpc_method_handler
        handlers[method.name] = make(
            _stream(method.does, give) if method.streams else _answer(method.does, give),
            request_deserializer=GetMessageClass(kind.input_type).FromString,
            response_serializer=give.SerializeToString,
        )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    reflection.enable_server_reflection([service], server, pool=pool)


def _answer(does: Method, give: Any) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        try:
            return give(**does(request))
        except Refused as refused:
            status = status_pb2.Status(code=refused.code, message=str(refused))
            status.details.add().Pack(
                error_details_pb2.ErrorInfo(reason=refused.reason, domain="umbrellas.example.com")
            )
            told = rpc_status.to_status(status)
            await context.abort(told.code, told.details, told.trailing_metadata)

    return answer


def _stream(does: Method, give: Any) -> Any:
    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        for each in does(request):
            yield give(**each)
            await asyncio.sleep(0.1)

    return answer
