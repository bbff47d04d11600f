"""The types of one service: its descriptors, in a private pool, from server reflection or from a descriptor set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import grpc
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Question
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Answer

from dalsegno.actions.grpc_calls.failure import CallFailed, invalid
from dalsegno.actions.grpc_calls.metadata import Entry

FILES_MAX = 2_000
"""The most files of descriptors that a service may have."""

DESCRIPTORS_BYTES_MAX = 16 * 1024 * 1024
"""The most bytes of descriptors that are read for one service or type."""

REFLECTION_S = 20.0
"""The time in which a service must describe itself."""

_ALWAYS_THERE = (
    annotations_pb2,
    any_pb2,
    duration_pb2,
    empty_pb2,
    error_details_pb2,
    field_behavior_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
"""Descriptors that services and descriptor sets may leave out, since everybody has them."""

NOT_FOUND = 5
"""The number of the status code."""

_SHOWN_MAX = 30
_SAFE = frozenset({MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT})


class Schema:
    """The types of one service, which may learn further ones."""

    def __init__(self, ask: Ask | None = None) -> None:
        """`ask` asks the service about types that it has not described yet; None: all are there."""
        self.pool = DescriptorPool()
        self._ask = ask
        self._names: set[str] = set()
        self._sought: set[str] = set()
        self._lock = asyncio.Lock()

    @property
    def is_reflected(self) -> bool:
        """Return whether the service itself described them."""
        return self._ask is not None

    async def learn(self, symbol: str, metadata: Sequence[Entry], timeout_s: float) -> bool:
        """Add the files that a service or type needs. Return False if nobody has it, or it was sought before."""
        async with self._lock:
            if self._ask is None or symbol in self._sought:
                return False
            found = await self._fetch(self._ask, symbol, metadata, timeout_s)
            await asyncio.to_thread(self.add, found)
            self._sought.add(symbol)
            return bool(found)

    async def _fetch(
        self, ask: Ask, symbol: str, metadata: Sequence[Entry], timeout_s: float
    ) -> dict[str, FileDescriptorProto]:
        """Return the file of a symbol, and those that it imports and that are not here yet; none if it is unknown."""
        found: dict[str, FileDescriptorProto] = {}
        size = 0
        questions = [Question(file_containing_symbol=symbol)]
        while questions:
            written = _files_in(await ask(questions, metadata, timeout_s), symbol)
            if not written and not found:
                return {}
            size += sum(map(len, written))
            for file in map(_read_file, written):
                found.setdefault(file.name, file)
            if size > DESCRIPTORS_BYTES_MAX or len(found) > FILES_MAX:
                limits = f"{DESCRIPTORS_BYTES_MAX:,} bytes or {FILES_MAX:,} files"
                raise CallFailed("RESOURCE_EXHAUSTED", f"server reflection describes {symbol} in more than {limits}")
            names = self._lacking(found)
            if unanswered := names & {each.file_by_filename for each in questions}:
                raise CallFailed("INTERNAL", f"server reflection does not describe {', '.join(sorted(unanswered)[:9])}")
            questions = [Question(file_by_filename=name) for name in sorted(names)]
        return found

    def add(self, files: dict[str, FileDescriptorProto]) -> None:
        """Add files by name, after those that they import. Raises CallFailed if they do not fit together."""
        if names := self._lacking(files):
            raise invalid(f"the descriptors lack {', '.join(sorted(names))}, which others import")
        waiting = {name: file for name, file in files.items() if name not in self._names}
        try:
            while waiting:
                ready = [name for name, file in waiting.items() if not any(each in waiting for each in file.dependency)]
                if not ready:
                    raise invalid(f"the descriptors of {', '.join(sorted(waiting))} import each other")
                for name in ready:
                    file = waiting.pop(name)
                    self._add_known(file.dependency, files)
                    self.pool.Add(file)
                    self._names.add(name)
        except TypeError as error:
            raise invalid(f"the descriptors do not fit together: {error}") from None

    def _add_known(self, names: Iterable[str], files: dict[str, FileDescriptorProto]) -> None:
        """Add those of the files that everybody has."""
        for name in names:
            if name not in self._names and name not in files:
                file = _copy_known(name)
                self._add_known(file.dependency, files)
                self.pool.Add(file)
                self._names.add(name)

    def _lacking(self, files: dict[str, FileDescriptorProto]) -> set[str]:
        imported = {name for file in files.values() for name in file.dependency}
        return {name for name in imported if name not in files and name not in self._names and not _is_known(name)}

    def has_service(self, service: str) -> bool:
        """Return whether it has the types of this service."""
        try:
            self.pool.FindServiceByName(service)
        except KeyError:
            return False
        return True

    def find(self, service: str, method: str) -> MethodDescriptor:
        """Return a method. Raises CallFailed that names what there is instead."""
        try:
            described = self.pool.FindServiceByName(service)
        except KeyError:
            raise missing("service", service, self._services()) from None
        found = described.methods_by_name.get(method)
        if found is None:
            raise missing("method", method, list(described.methods_by_name), f" of {service}")
        return found

    def _services(self) -> list[str]:
        files = (self.pool.FindFileByName(name) for name in self._names)
        return [each.full_name for file in files for each in file.services_by_name.values()]

    def type_named(self, name: str) -> Descriptor | None:
        """Return a type that it has."""
        try:
            return self.pool.FindMessageTypeByName(name)
        except KeyError:
            return None


Ask = Callable[[Sequence[Question], Sequence[Entry], float], Awaitable[list[Answer]]]
"""Asks the reflection of a service these questions, with these metadata and this time in seconds."""


def missing(what: str, name: str, there: Sequence[str], where: str = "") -> CallFailed:
    """Return the failure for a service or method that does not exist, with what exists."""
    shown = ", ".join(sorted(there)[:_SHOWN_MAX]) or "none"
    more = f" and {len(there) - _SHOWN_MAX} more" if len(there) > _SHOWN_MAX else ""
    near = get_close_matches(name, there, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return CallFailed("UNIMPLEMENTED", f"there is no {what} {name}{where}, only {shown}{more}{hint}")


def is_safe(method: MethodDescriptor) -> bool:
    """Return whether the service declares that the method may be called twice (`idempotency_level`)."""
    return method.GetOptions().idempotency_level in _SAFE


def read_set(written: bytes) -> Schema:
    """Return the types of a FileDescriptorSet, as `protoc --include_imports --descriptor_set_out` writes it."""
    try:
        files = FileDescriptorSet.FromString(written).file
    except DecodeError:
        raise invalid("the descriptor set is no FileDescriptorSet, as protoc --descriptor_set_out writes it") from None
    schema = Schema()
    schema.add({file.name: file for file in files})
    return schema


def reflection_of(channel: grpc.aio.Channel) -> Ask:
    """Return how to ask a server about its services: by version 1 of reflection, or by v1alpha if it has only that.

    The messages of both are equal. Each question is a call of its own, sent as one request: in a stream of requests
    grpc.aio reports a refusal that comes before the request is written as "Internal error from Core".
    """

    async def ask_in(version: str, question: Question, metadata: Sequence[Entry], timeout_s: float) -> list[Answer]:
        method: Any = channel.unary_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=Question.SerializeToString,
            response_deserializer=Answer.FromString,
        )
        call = method(question, metadata=grpc.aio.Metadata(*metadata), timeout=min(timeout_s, REFLECTION_S))
        try:
            async for answer in call:
                return [answer]  # one for each question
            return []
        finally:
            call.cancel()

    async def ask(questions: Sequence[Question], metadata: Sequence[Entry], timeout_s: float) -> list[Answer]:
        for version in ("v1", "v1alpha"):
            try:
                answers = [await ask_in(version, each, metadata, timeout_s) for each in questions]
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
            else:
                return [each for several in answers for each in several]
        raise CallFailed(
            "UNIMPLEMENTED", "the service has no server reflection: give descriptor_set or descriptor_file"
        )

    return ask


async def list_services(ask: Ask, metadata: Sequence[Entry], timeout_s: float) -> list[str]:
    """Return the services of a server."""
    answers = await ask([Question(list_services="*")], metadata, timeout_s)
    names = [each.name for answer in answers for each in answer.list_services_response.service]
    return [each for each in names if not each.startswith("grpc.reflection.")]


def _files_in(answers: Sequence[Answer], symbol: str) -> list[bytes]:
    """Return the files of answers; what was not found is left out. Raises CallFailed for other errors."""
    for answer in answers:
        if answer.HasField("error_response") and answer.error_response.error_code != NOT_FOUND:
            raise CallFailed("INTERNAL", f"server reflection of {symbol}: {answer.error_response.error_message}")
    return [each for answer in answers for each in answer.file_descriptor_response.file_descriptor_proto]


def _read_file(written: bytes) -> FileDescriptorProto:
    try:
        return FileDescriptorProto.FromString(written)
    except DecodeError:
        raise CallFailed("INTERNAL", "server reflection answers with what is no descriptor") from None


def _is_known(name: str) -> bool:
    return name.startswith("google/") and _known(name) is not None


def _known(name: str) -> Any:
    try:
        return descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        return None


def _copy_known(name: str) -> FileDescriptorProto:
    file = FileDescriptorProto()
    _known(name).CopyToProto(file)
    return file
