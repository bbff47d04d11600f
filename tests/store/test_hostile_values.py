"""The exam for hostile values: what no store can hold is refused by its field, and no value is a fault on any store."""

from __future__ import annotations

import base64
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from tests.store.public import UNKNOWN, Rpc, rpcs

from dalsegno.api.service import Api
from dalsegno.api.settings import Settings as ApiSettings
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings as EngineSettings
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import read_failure
from dalsegno.rpc.tokens import TASK_TOKEN_KEY, ResumeTokens
from dalsegno.store.filters import (
    ATTEMPT_FIELDS,
    EXECUTION_FIELDS,
    STANDALONE_FIELDS,
    Filter,
    InvalidFilter,
    parse_filter,
)
from dalsegno.store.opening import open_store
from dalsegno.store.pages import write_token
from dalsegno.store.store import Queries, Store
from dalsegno.v1 import (
    execution_service_pb2,
    execution_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from dalsegno.workflow.refusals import InvalidPageToken

RPCS = list(rpcs())
TEXT = FieldDescriptor.TYPE_STRING
WIDE = FieldDescriptor.TYPE_INT64
Path = tuple[Any, ...]
"""The descriptors of the fields that lead to one."""

REFUSALS = {"OUT_OF_RANGE", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED"}
REFUSALS |= {"PERMISSION_DENIED", "RESOURCE_EXHAUSTED"}


@asynccontextmanager
async def serve(url: str) -> AsyncIterator[grpc.aio.Channel]:
    """An engine and an api in this process, over a store with one execution."""
    store = open_store(url)
    store.upgrade()
    with store.write() as transaction:
        transaction.settle(TASK_TOKEN_KEY, KEY)
    engine = Engine(EngineSettings(listen="127.0.0.1:0", grace_s=0.5), store, is_only_engine=True)
    await engine.start()
    api = Api(ApiSettings(listen="127.0.0.1:0", engines=(f"127.0.0.1:{engine.port}",), grace_s=0.5), store)
    await api.start()
    try:
        async with open_channel(f"127.0.0.1:{api.port}") as channel:
            create = workflow_service_pb2.CreateDefinitionsRequest(
                text="version: '2.0'\nw: {tasks: {t: {action: std.noop}}}"
            )
            await workflow_service_pb2_grpc.WorkflowServiceStub(channel).CreateDefinitions(create)
            begin = execution_service_pb2.StartExecutionRequest(workflow="w", execution_id=UNKNOWN)
            await execution_service_pb2_grpc.ExecutionServiceStub(channel).StartExecution(begin)
            yield channel
    finally:
        await api.stop()
        await engine.stop()
        store.close()
        del api, engine
        gc.collect()  # servers of grpc must be gone before their loop is


def paths_of(rpc: Rpc, *kinds: int) -> Iterator[Path]:
    """The ways to all fields of these kinds in the requests of an rpc, those of messages within them included."""
    pending: list[Path] = [(field,) for field in rpc.method.input_type.fields]
    while pending:
        path = pending.pop(0)
        field = path[-1]
        if field.type in kinds:
            yield path
        if field.message_type is not None and not field.message_type.full_name.startswith("google."):
            pending += [(*path, inner) for inner in field.message_type.fields]


def request_with(rpc: Rpc, path: Path, value: Any) -> Any:
    """A request that has this value in a field, and elsewhere nothing but what leads there."""
    request = rpc.request()
    place: Any = request
    for field, inner in pairwise(path):
        if field.message_type.GetOptions().map_entry:
            key = field.message_type.fields_by_name["key"]
            fallback = "k" if key.type == TEXT else 1
            pair = (value, "v") if inner.name == "key" else (fallback, value)
            getattr(place, field.name)[pair[0]] = pair[1]
            return request
        place = getattr(place, field.name).add() if field.is_repeated else getattr(place, field.name)
    if path[-1].is_repeated:
        getattr(place, path[-1].name).append(value)
    else:
        setattr(place, path[-1].name, value)
    return request


def name_of(path: Path, value: Any) -> str:
    """How a refusal names the field."""
    name = ""
    for field in path:
        if field.containing_type.GetOptions().map_entry:
            fallback = "k" if field.containing_type.fields_by_name["key"].type == TEXT else 1
            return f"{name}[{(value if field.name == 'key' else fallback)!r}]"
        name += f".{field.name}" if name else field.name
        if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
            name += "[0]"
    return name


async def refused_fields(call: Any) -> list[str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    failure = read_failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), str(failure)
    return [violation.subject for violation in failure.violations]


async def test_no_field_of_any_request_takes_what_no_store_holds(url: str) -> None:
    """NUL in any text, bytes that are not UTF-8 there, and a number beyond 32 bits in any number, of any public rpc:
    INVALID_ARGUMENT, and the field is named."""
    asked = 0
    async with serve(url) as channel:
        for rpc in RPCS:
            for path in paths_of(rpc, TEXT):
                assert await refused_fields(rpc.ask(channel, request_with(rpc, path, "a\0"))) == [name_of(path, "a\0")]
                data = request_with(rpc, path, "BROKEN").SerializeToString().replace(b"BROKEN", b"BR\xed\xa0\x80N")
                (field,) = await refused_fields(_ask_bytes(channel, rpc, data))
                assert field == name_of(path, "BR\0\0\0N")
                asked += 2
            for path in paths_of(rpc, WIDE):
                for number in (2**31, 2**63 - 1, -(2**63)):
                    call = rpc.ask(channel, request_with(rpc, path, number))
                    assert await refused_fields(call) == [name_of(path, number)], rpc.name
                    asked += 1
    assert asked > 300


async def _ask_bytes(channel: grpc.aio.Channel, rpc: Rpc, data: bytes) -> Any:
    path = f"/{rpc.method.containing_service.full_name}/{rpc.method.name}"
    if not rpc.method.server_streaming:
        unary: Any = channel.unary_unary(path)
        return await unary(data)
    stream: Any = channel.unary_stream(path)
    return await anext(aiter(stream(data)))


ODD_TEXTS = [
    "x" * 300,
    "\N{CAT}",
    "-1",
    "9" * 5_000,
    "1e999",
    "[" * 3_000,
    '{"a": "\\u0000"}',
    '{"\\ud800": 1}',
    f'{{"a": {"9" * 4_400}}}',
    UNKNOWN,
]
DEEP = base64.urlsafe_b64encode(b"[" * 50_000).decode()
KEY = "ab" * 32
TOKENS = ResumeTokens(KEY)
MORE_ODD_TEXTS = {
    "id": [f"{UNKNOWN}.1", f"{UNKNOWN}.1.0.1", f"{UNKNOWN}.99999999999.0.1"],
    "filter": [
        "state=RUNNING",
        'workflow="\\ud800"',
        'namespace="\\u0000"',
        'label.\N{CAT}="a"',
        "created>=0001-01-01T00:00:00+23:59 ended<9999-12-31T23:59:59-23:59",
        f"item={'9' * 30}",
    ],
    "page_token": [write_token(f"changes {UNKNOWN}", Filter(), (2**31 - 1,)), DEEP],
    "resume_token": [TOKENS.write("WatchExecution", UNKNOWN, 2**40), TOKENS.write("WatchExecution", UNKNOWN, -1), DEEP],
}
"""By the name of the field, or how it ends."""

ODD_NUMBERS = [-(2**31) + 1, -1, 2**31 - 1]


def odd_texts(name: str) -> list[str]:
    """What is tried in a field of this name."""
    return ODD_TEXTS + MORE_ODD_TEXTS.get(name, MORE_ODD_TEXTS.get(name.rpartition("_")[2], []))


async def outcomes(url: str) -> dict[str, str]:
    """How each rpc answers when one field has an odd value: by rpc, field and value."""
    found: dict[str, str] = {}

    async def ask(channel: grpc.aio.Channel, rpc: Rpc, path: Path, value: Any) -> None:
        request = request_with(rpc, path, value)
        for name in ("execution_id", "timeout"):
            if name in request.DESCRIPTOR.fields_by_name and path[0].name != name:
                setattr(request, name, UNKNOWN) if name == "execution_id" else request.timeout.FromMilliseconds(1)
        try:
            await rpc.ask(channel, request)
            told = "OK"
        except StopAsyncIteration:
            told = "OK"
        except grpc.aio.AioRpcError as error:
            told = error.code().name
        found[f"{rpc.name} {name_of(path, 'v')} {str(value)[:80]!r}"] = told

    async with serve(url) as channel:
        for rpc in RPCS:
            texts = [(path, text) for path in paths_of(rpc, TEXT) for text in odd_texts(path[-1].name)]
            numbers = [
                (path, number) for path in paths_of(rpc, WIDE, FieldDescriptor.TYPE_INT32) for number in ODD_NUMBERS
            ]
            for path, value in [*texts, *numbers]:
                await ask(channel, rpc, path, value)
    return found


async def test_odd_values_are_answered_alike_by_all_stores(empty_sqlite: str, empty_postgres: str) -> None:
    """No odd text or number in any field is a fault of the server, and each store answers as the others do."""
    expected = await outcomes("memory://")
    assert len(expected) > 1_000
    assert {name: told for name, told in expected.items() if told not in {"OK", *REFUSALS}} == {}
    for url in (empty_sqlite, empty_postgres):
        found = await outcomes(url)
        assert {name: told for name, told in found.items() if told != expected[name]} == {}


Ask = Callable[[Queries, Filter, str], object]
LISTS: dict[str, tuple[str, tuple[Any, ...], Ask]] = {
    "executions": ("executions", (5.0, "e"), lambda queries, chosen, token: queries.executions(chosen, token=token)),
    "tasks": (f"tasks {UNKNOWN}", (1,), lambda queries, chosen, token: queries.tasks(UNKNOWN, chosen, token=token)),
    "attempts": (
        f"attempts {UNKNOWN} 0",
        (1, 0, 1),
        lambda queries, chosen, token: queries.attempts(UNKNOWN, chosen=chosen, token=token),
    ),
    "standalone": (
        "standalone attempts",
        ("e", 1, 0, 1),
        lambda queries, chosen, token: queries.attempts("", chosen=chosen, token=token),
    ),
    "definitions": (
        "definitions workflow False",
        ("", "w", 1),
        lambda queries, chosen, token: queries.definitions("workflow", chosen, token=token),
    ),
    "environments": (
        "environments",
        ("", "e"),
        lambda queries, chosen, token: queries.environments(chosen, token=token),
    ),
}


def hostile_keys(key: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The key of a page with one part that no row can have."""
    for index, part in enumerate(key):
        wrong: list[Any] = [None, True, [1], {}]
        if isinstance(part, str):
            wrong += ["\0", "a\0", "\ud800", 1, 1.5]
        elif isinstance(part, float):
            wrong += [float("nan"), float("inf"), -float("inf"), "5", 10**400]
        else:
            wrong += [2**31, -(2**31), 2**63, 2**64, 10**400, 1.0, float("nan"), "1"]
        yield from ((*key[:index], each, *key[index + 1 :]) for each in wrong)
    yield key[:-1]
    yield (*key, 1)


@pytest.mark.parametrize("name", LISTS)
def test_made_up_page_tokens_are_refused(store: Store, name: str) -> None:
    """A token whose key no row can have is refused before the database is asked; one that could be is taken."""
    subject, key, ask = LISTS[name]
    everything = Filter()
    with store.read() as queries:
        ask(queries, everything, write_token(subject, everything, key))
        for wrong in hostile_keys(key):
            with pytest.raises(InvalidPageToken):
                ask(queries, everything, write_token(subject, everything, wrong))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('workflow="a\\u0000"', False),
        ('workflow="\\ud800"', False),
        ('workflow="\\ud83d\\ude00"', True),
        ('label.team="\\udc00"', False),
        ("created>=0001-01-01T00:00:00+23:59", True),
        ("created<9999-12-31T23:59:59-23:59", True),
        ("created<0000-00-00", False),
    ],
)
def test_filters_take_what_a_store_can_look_for(store: Store, text: str, fits: bool) -> None:
    """NUL and half of a pair are no values, however they are written; any time there is, is one, on every store."""
    if not fits:
        with pytest.raises(InvalidFilter):
            parse_filter(text, EXECUTION_FIELDS)
        return
    with store.read() as queries:
        assert queries.executions(parse_filter(text, EXECUTION_FIELDS)).rows == []


@pytest.mark.parametrize("number", ["2147483648", "9" * 30, "-1", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_numbers_of_filters_fit(number: str) -> None:
    """What is no number of 32 bits is none for a filter."""
    for fields in (ATTEMPT_FIELDS, STANDALONE_FIELDS):
        with pytest.raises(InvalidFilter):
            parse_filter(f"item={number}", fields)
