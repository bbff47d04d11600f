"""The types of a service, from reflection that is wrong or hostile, and from descriptor sets that do not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Question
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Answer

from dalsegno.actions.grpc_calls import schema
from dalsegno.actions.grpc_calls.failure import CallFailed
from dalsegno.actions.grpc_calls.metadata import Entry


def proto(name: str, *imports: str, service: str = "") -> FileDescriptorProto:
    """Return a file with these imports, and a service if it has a name."""
    file = FileDescriptorProto(name=name, package="example", dependency=imports)
    if service:
        file.service.add(name=service)
    return file


def asking(*files: FileDescriptorProto, seen: list[str] | None = None) -> schema.Ask:
    """Return the reflection of a service that has these files, and gives one for each question."""
    by_name = {file.name: file for file in files}

    async def ask(questions: Sequence[Question], metadata: Sequence[Entry], timeout_s: float) -> list[Answer]:
        answers = []
        for question in questions:
            name = question.file_by_filename or files[0].name
            if seen is not None:
                seen.append(name)
            answer = Answer()
            if name in by_name:
                written = by_name[name].SerializeToString()
                answer.file_descriptor_response.file_descriptor_proto.append(written)
            else:
                answer.error_response.error_code = schema.NOT_FOUND
            answers.append(answer)
        return answers

    return ask


async def learned(ask: schema.Ask, symbol: str = "example.Shop") -> schema.Schema:
    """Return what reflection teaches about a symbol."""
    found = schema.Schema(ask)
    await found.learn(symbol, (), 5.0)
    return found


async def test_imports_are_fetched_one_by_one_and_once() -> None:
    """A service that gives only the file that was asked for is asked for what this imports; what everybody has is not
    fetched."""
    seen: list[str] = []
    files = (
        proto("shop.proto", "a.proto", "b.proto", "google/protobuf/timestamp.proto", service="Shop"),
        proto("a.proto", "c.proto"),
        proto("b.proto", "c.proto"),
        proto("c.proto", "google/rpc/error_details.proto"),
    )
    found = await learned(asking(*files, seen=seen))
    assert found.has_service("example.Shop")
    assert sorted(seen) == ["a.proto", "b.proto", "c.proto", "shop.proto"]


async def test_a_file_that_is_missing_is_named() -> None:
    """A service that does not describe what it imports is told so; nothing is asked for ever."""
    with pytest.raises(CallFailed, match=re.escape("server reflection does not describe gone.proto")):
        await learned(asking(proto("shop.proto", "gone.proto", service="Shop")))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((proto("shop.proto", "a.proto"), proto("a.proto", "shop.proto")), "a.proto, shop.proto import each other"),
        ((proto("shop.proto", "shop.proto"),), "import each other"),
    ],
)
async def test_files_that_import_each_other_are_refused(files: tuple[FileDescriptorProto, ...], words: str) -> None:
    """Imports in a circle are refused."""
    with pytest.raises(CallFailed, match=words):
        await learned(asking(*files))


async def test_what_is_no_descriptor_is_refused() -> None:
    """Bytes that are no descriptor are an error of the service, not of this program."""

    async def ask(questions: Sequence[Question], metadata: Sequence[Entry], timeout_s: float) -> list[Answer]:
        answer = Answer()
        answer.file_descriptor_response.file_descriptor_proto.append(b"\xff\xff")
        return [answer]

    with pytest.raises(CallFailed, match="answers with what is no descriptor"):
        await learned(ask)


async def test_descriptors_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose every file imports another one is not read for ever."""

    async def ask(questions: Sequence[Question], metadata: Sequence[Entry], timeout_s: float) -> list[Answer]:
        number = int(questions[0].file_by_filename or "0")
        answer = Answer()
        written = proto(str(number), str(number + 1)).SerializeToString()
        answer.file_descriptor_response.file_descriptor_proto.append(written)
        return [answer]

    with pytest.raises(CallFailed, match="in more than"):
        await learned(ask)
    monkeypatch.setattr(schema, "DESCRIPTORS_BYTES_MAX", 1_000)
    with pytest.raises(CallFailed, match=re.escape("1,000 bytes")):
        await learned(ask)


def test_a_set_that_does_not_fit_together_is_refused() -> None:
    """A descriptor set without the imports, or with a type that does not exist, is refused with the name."""
    lacking = FileDescriptorSet(file=[proto("shop.proto", "a.proto")])
    with pytest.raises(CallFailed, match=re.escape("the descriptors lack a.proto, which others import")):
        schema.read_set(lacking.SerializeToString())
    file = proto("shop.proto")
    kind = FieldDescriptorProto.TYPE_MESSAGE
    file.message_type.add(name="Order").field.add(name="line", number=1, type=kind, type_name=".example.Absent")
    with pytest.raises(CallFailed, match="do not fit together"):
        schema.read_set(FileDescriptorSet(file=[file]).SerializeToString())
