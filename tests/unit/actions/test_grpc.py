"""grpc.call with a service of the test: what is sent, what is read, and what it fails with."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from tests.ports import free_port
from tests.resolving import resolve_as
from tests.unit.actions.grpc_shop import FILES, SERVICE, Shop, compile_protos, read_pool

from dalsegno.actions import grpc as family
from dalsegno.actions.action import ActionContext, ActionFailed
from dalsegno.actions.registry import load_registry
from dalsegno.outgoing.reach import EVERYWHERE, NOWHERE, Reach, read_reach
from dalsegno.worker.testing import call_async

Call = Callable[..., Awaitable[Any]]

ECHO, LOOK, WATCH = f"{SERVICE}/Echo", f"{SERVICE}/Look", f"{SERVICE}/Watch"

BLANK = {
    "order_id": "",
    "total": 0,
    "serial": 0,
    "lines": [],
    "by_shelf": {},
    "paid": {},
    "color": "COLOR_UNSPECIFIED",
    "seal": "",
    "weight": 0.0,
    "price": 0.0,
}
"""An order as JSON: fields without presence are there."""


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Provide the descriptor set of the service."""
    return compile_protos(tmp_path_factory.mktemp("protos"), FILES)


@pytest.fixture
async def shop(descriptors: bytes) -> AsyncIterator[Shop]:
    """Provide a running service."""
    shop = Shop(descriptors)
    await shop.start()
    yield shop
    await family.close()
    await shop.stop()


@pytest.fixture
def call(shop: Shop) -> Call:
    """Provide the action, for any target and this service by default."""
    return calling(shop)


def calling(
    shop: Shop, files: family.Files = family.NO_FILES, allowed: tuple[str, ...] = ("*",), reach: Reach = EVERYWHERE
) -> Call:
    """Return the action with the service as its default target."""
    function: Any = family.call_action(allowed, files, reach).function

    async def run(method: str = ECHO, context: ActionContext | None = None, **inputs: Any) -> Any:
        inputs.setdefault("target", shop.target)
        return await function(context=context or ActionContext("a"), method=method, **inputs)

    return run


async def failure_of(running: Awaitable[Any]) -> tuple[str, dict[str, Any]]:
    """Return the message and the data of the failure of an action."""
    with pytest.raises(ActionFailed) as raised:
        await running
    assert isinstance(raised.value.result, dict)
    return str(raised.value), raised.value.result


def refuse(code: grpc.StatusCode, *details: Any, times: int = 100) -> Any:
    """Return a method that fails so many times, then answers the request."""
    left = [times]

    async def method(request: Any, context: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            return request
        status = status_pb2.Status(code=code.value[0], message="not now")
        for each in details:
            status.details.add().Pack(each)
        trailing = (("grpc-status-details-bin", status.SerializeToString()), ("x-why", "full"), ("x-raw-bin", b"\0\1"))
        await context.abort(code, "not now", trailing if details else ())

    return method


RETRY_SOON = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=10_000_000))


async def test_every_kind_of_field_travels_both_ways(call: Call) -> None:
    """The answer has the names of the proto, exact 64-bit integers as numbers, and defaults; a request takes both
    spellings of a name."""
    order = {
        "order_id": "7",
        "total": -(2**63),
        "serial": 2**64 - 1,
        "lines": [{"item": "lamp", "count": 2}],
        "by_shelf": {"a": {"item": "", "count": 1}},
        "paid": {"9007199254740993": True},
        "color": "COLOR_RED",
        "seal": "AAE=",
        "weight": 0.1,
        "price": 0.1,
        "discount": 0,
        "voucher": {"item": "v", "count": 0},
        "at": "2026-11-28T10:00:00Z",
        "within": "1.500s",
        "extra": {"a": [1, None, {"b": 2.5}], "c": True},
        "about": {"@type": "type.googleapis.com/example.shop.v1.Note", "text": "hi", "number": 2**53 + 1},
        "limit": 2**53 + 1,
        "mask": "a,bC",
    }
    assert await call(request=order) == order
    assert await call(request={"orderId": "8", "total": "9", "byShelf": {}}) == BLANK | {"order_id": "8", "total": 9}
    assert await call() == BLANK


async def test_a_float_that_json_does_not_have_is_its_name(call: Call) -> None:
    """NaN and infinities are strings, as the JSON format of Protocol Buffers has them."""
    answer = await call(request={"price": "-Infinity", "weight": "NaN"})
    assert (answer["price"], answer["weight"]) == ("-Infinity", "NaN")


@pytest.mark.parametrize("versions", [("v1",), ("v1alpha",), ("v1", "v1alpha")])
async def test_either_version_of_reflection_will_do(descriptors: bytes, versions: tuple[str, ...]) -> None:
    """A service that has only one version of server reflection is called all the same, and asked once."""
    shop = Shop(descriptors, versions)
    await shop.start()
    call = calling(shop)
    try:
        assert await call(request={"total": 1}) == BLANK | {"total": 1}
        asked = shop.reflections
        assert await call(LOOK, request={"total": 2}) == BLANK | {"total": 2}
        assert shop.reflections == asked > 0
    finally:
        await family.close()
        await shop.stop()


async def test_a_service_with_the_older_reflection_is_asked_reliably(descriptors: bytes) -> None:
    """The refusal of the newer version, which may come before the question is written, is always understood."""
    shop = Shop(descriptors, ("v1alpha",))
    await shop.start()
    call = calling(shop)
    try:
        codes = {(await failure_of(call(f"{SERVICE}/Absent")))[1]["code"] for _ in range(300)}
        assert (codes, shop.reflections >= 300) == ({"UNIMPLEMENTED"}, True)
    finally:
        await family.close()
        await shop.stop()


async def test_a_descriptor_set_takes_the_place_of_reflection(descriptors: bytes, tmp_path: Path) -> None:
    """Without reflection the failure says what to give: a descriptor set in the input, or a file of the operator."""
    shop = Shop(descriptors, versions=())
    await shop.start()
    (tmp_path / "shop.binpb").write_bytes(descriptors)
    call = calling(shop, family.Files(descriptors=str(tmp_path)))
    try:
        assert "has no server reflection: give descriptor_set" in (await failure_of(call()))[0]
        written = b64encode(descriptors).decode()
        assert await call(descriptor_set=written, request={"total": 1}) == BLANK | {"total": 1}
        assert await call(descriptor_file="shop.binpb", request={"total": 2}) == BLANK | {"total": 2}
        words, _ = await failure_of(call(descriptor_file="../shop.binpb"))
        assert "there is no descriptor_file ../shop.binpb, only shop.binpb" in words
        assert "is not base64" in (await failure_of(call(descriptor_set="%")))[0]
        assert "is no FileDescriptorSet" in (await failure_of(call(descriptor_set="AAAA")))[0]
        assert "only one of" in (await failure_of(call(descriptor_set="AAAA", descriptor_file="x")))[0]
    finally:
        await family.close()
        await shop.stop()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"method": "example.shop.v1.Shp/Echo"}, "there is no service example.shop.v1.Shp, only example.shop.v1.Shop"),
        (
            {"method": f"{SERVICE}/Ecko"},
            f"no method Ecko of {SERVICE}, only Echo, Look, Upload, Watch; did you mean Echo?",
        ),
        ({"method": f"{SERVICE}/Upload"}, "takes a stream of requests"),
        ({"method": "Echo"}, "method: 'Echo' is not of the form package.Service/Method"),
        (
            {"request": {"lines": [{}, {"itm": 1}], "by_shelf": {"a": {"itm": 2}}}},
            "request.lines[1].itm: example.shop.v1.Line has no field 'itm'; it has item, count; "
            "request.by_shelf['a'].itm: ",
        ),
        ({"request": {"lines": {}}}, "request.lines: must be a list, not an object"),
        ({"request": [1]}, "request: must be an object with the fields of example.shop.v1.Order, not a list"),
        ({"request": {"total": "many"}}, "request: Failed to parse total field"),
        ({"request": {"color": "COLOR_GREY"}}, "COLOR_GREY"),
        ({"request": {"about": {"@type": "type.example.com/example.Absent"}}}, "example.Absent"),
        ({"target": "nowhere"}, "target: 'nowhere' is neither host:port nor unix:/path"),
        ({"target": "127.0.0.1:65536"}, "is neither host:port nor unix:/path"),
        ({"target": "127.0.0.1:0443"}, "is neither host:port nor unix:/path"),
        ({"target": "dns:///stock.example.com:443"}, "is neither host:port nor unix:/path"),
        ({"tls": "no"}, "tls: must be true or false"),
        ({"timeout": 0}, "timeout: must be a number of seconds above 0"),
        ({"retries": -1}, "retries: must be a number from 0 to 100"),
        ({"stop_after": 0}, "stop_after: must be a number of messages, at least 1"),
        ({"retry_codes": ["BUSY"]}, "retry_codes: BUSY: must be among CANCELLED"),
        ({"metadata": {"Weg": "für"}}, "metadata: the value of 'weg' is not printable ASCII"),
        ({"metadata": {"x-bin": "%"}}, "metadata: the value of 'x-bin' is not base64"),
        ({"metadata": {"a b": "c"}}, "metadata: 'a b' is no key"),
        ({"metadata": {"grpc-timeout": "1S"}}, "belong to the protocol"),
        ({"metadata": {"x": {}}}, "neither a string, nor a number"),
    ],
)
async def test_a_wrong_input_is_told_with_its_place(shop: Shop, call: Call, inputs: dict[str, Any], words: str) -> None:
    """What the service does not have is named, with what it has; nothing is sent."""
    told, data = await failure_of(call(**inputs))
    assert words in told
    assert (data["sent"], shop.calls) == (False, [])


async def test_metadata_arrive(shop: Shop, call: Call) -> None:
    """Metadata are text, lists, or bytes in base64; the trace of the execution goes along."""
    context = ActionContext("a", trace_context={"traceparent": "00-1-2-01"})
    await call(context=context, metadata={"X-Shop": "north", "x-raw-bin": "AAE=", "x-count": 3})
    found = shop.calls[0][1]
    assert {key: found[key] for key in ("x-shop", "x-raw-bin", "x-count", "traceparent")} == {
        "x-shop": "north",
        "x-raw-bin": b"\0\1",
        "x-count": "3",
        "traceparent": "00-1-2-01",
    }


async def test_a_stream_is_a_list(shop: Shop, call: Call) -> None:
    """The messages of a stream are a list; after `stop_after` of them the call ends with success, and so it does at the
    service."""
    shop.messages = iter([{"order_id": str(number)} for number in range(3)])
    assert [each["order_id"] for each in await call(WATCH)] == ["0", "1", "2"]

    async def stay(request: Any, context: Any) -> None:
        await asyncio.sleep(60)

    shop.methods["Watch"] = stay
    shop.messages = iter([{"order_id": "a"}, {"order_id": "b"}])
    assert [each["order_id"] for each in await call(WATCH, stop_after=2)] == ["a", "b"]
    await until(lambda: shop.ended == ["Watch"])


async def test_a_stream_without_end_is_a_failure(shop: Shop, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes, or more messages, than a result can have end the call."""
    shop.messages = ({"seal": bytes(1_000_000)} for _ in range(1_000))
    words, data = await failure_of(call(WATCH))
    assert "result too large: more than 4,000,000 bytes" in words
    assert (data["code"], data["sent"]) == ("RESOURCE_EXHAUSTED", True)
    monkeypatch.setattr("dalsegno.actions.grpc_calls.call.MESSAGES_MAX", 10)
    shop.messages = ({} for _ in range(1_000))
    assert "10 messages" in (await failure_of(call(WATCH)))[0]


async def test_an_answer_larger_than_a_value_is_a_failure(shop: Shop, call: Call) -> None:
    """A result has the limit of a value, after its conversion; a message has one of its own, and was carried out."""
    size = [3_500_000]

    async def give(request: Any, context: Any) -> Any:
        return shop.make("Order", seal=bytes(size[0]))

    shop.methods["Echo"] = give
    ended = await call_async(family.call_action(("*",), reach=EVERYWHERE), {"target": shop.target, "method": ECHO})
    assert (ended.word, ended.error[:17]) == ("failed", "result too large:")
    size[0] = 17 * 1024 * 1024
    _, data = await failure_of(call())
    assert (data["code"], data["sent"], data["tries"]) == ("RESOURCE_EXHAUSTED", True, 1)


async def test_the_deadline_is_the_services_too(shop: Shop, call: Call) -> None:
    """`timeout`, or what is left of the time of the action, ends the call; the service knows the time."""
    left: list[float] = []

    async def wait(request: Any, context: Any) -> None:
        left.append(context.time_remaining())
        await asyncio.sleep(60)

    shop.methods["Echo"] = wait
    for given in (
        lambda limit_s: {"timeout": limit_s},
        lambda limit_s: {"timeout": 300, "context": ActionContext("a", timeout_s=limit_s)},
    ):
        left.clear()
        for limit_s in (0.3, 20):  # on a busy machine the service may not even be reached within the first
            start_s = time.monotonic()
            _, data = await failure_of(call(**given(limit_s)))
            assert data["code"] == "DEADLINE_EXCEEDED"
            assert time.monotonic() - start_s < limit_s + 20
            if left:
                break
        assert left[-1] < limit_s + 0.1, "the header of gRPC is rounded up, not by that much"


async def test_a_cancelled_action_ends_the_call(shop: Shop, call: Call) -> None:
    """When the action is cancelled, so is the call at the service."""

    async def wait(request: Any, context: Any) -> None:
        await asyncio.sleep(60)

    shop.methods["Echo"] = wait
    running = asyncio.ensure_future(call())
    await until(lambda: len(shop.calls) == 1)
    running.cancel()
    await until(lambda: shop.ended == ["Echo"])
    assert running.cancelled()


async def test_a_worker_stops_a_call_at_its_time_and_when_it_is_cancelled(shop: Shop) -> None:
    """In a worker the time of the task and a cancel end the call at the service; it is not safe to rerun by itself."""

    async def wait(request: Any, context: Any) -> None:
        await asyncio.sleep(60)

    shop.methods["Echo"] = wait
    action = family.call_action(("*",), reach=EVERYWHERE)
    given = {"target": shop.target, "method": ECHO}
    for option, word in (("timeout_s", "failed"), ("cancel_after_s", "cancelled")):
        shop.calls.clear()
        shop.ended.clear()
        for limit_s in (0.3, 20):  # on a busy machine the service may not even be reached within the first
            assert (await call_async(action, given, **{option: limit_s})).word == word  # type: ignore[arg-type]
            if shop.calls:
                break
        await until(lambda: shop.ended == ["Echo"])
    assert action.description.safe_to_rerun is False


async def test_a_failure_says_what_the_service_said(shop: Shop, call: Call) -> None:
    """The failure has code, message, decoded details (google.rpc types, and those of the service) and metadata; a
    detail of a type that nobody knows is bytes."""
    stranger = AnyMessage(type_url="type.example.com/example.Stranger", value=b"\0")
    shop.methods["Echo"] = refuse(
        grpc.StatusCode.FAILED_PRECONDITION,
        error_details_pb2.ErrorInfo(reason="SOLD_OUT", domain="shop.example.com", metadata={"item": "lamp"}),
        shop.make("Note", text="tomorrow", number=2**53 + 1),
        stranger,
    )
    words, data = await failure_of(call())
    assert words == f"FAILED_PRECONDITION: not now ({ECHO} at {shop.target})"
    google, own, unknown = data["details"]
    assert google == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SOLD_OUT",
        "domain": "shop.example.com",
        "metadata": {"item": "lamp"},
    }
    assert own == {"@type": "type.googleapis.com/example.shop.v1.Note", "text": "tomorrow", "number": 2**53 + 1}
    assert unknown["@type"] == "type.googleapis.com/google.protobuf.Any"
    assert unknown["value"] == {"@type": "type.example.com/example.Stranger", "value": "AA=="}
    assert (data["metadata"]["x-why"], data["metadata"]["x-raw-bin"]) == ("full", "AAE=")
    assert (data["code"], data["message"], data["sent"], data["tries"]) == ("FAILED_PRECONDITION", "not now", True, 1)


SAFE = ActionContext("a", safe_to_rerun=True)


@pytest.mark.parametrize(
    ("method", "inputs", "code", "details", "tries"),
    [
        # What may have been carried out is not repeated ...
        ("Echo", {}, "UNAVAILABLE", (), 1),
        ("Echo", {}, "RESOURCE_EXHAUSTED", (), 1),
        ("Echo", {}, "ABORTED", (RETRY_SOON,), 1),
        # ... unless the task is safe to rerun, the service declares it, or the workflow asks for it.
        ("Echo", {"context": SAFE}, "UNAVAILABLE", (), 3),
        ("Look", {}, "UNAVAILABLE", (), 3),
        ("Echo", {"retry_codes": ["ABORTED", "INTERNAL"]}, "ABORTED", (), 3),
        # The service has refused it, and says when to come again.
        ("Echo", {}, "UNAVAILABLE", (RETRY_SOON,), 3),
        ("Echo", {}, "RESOURCE_EXHAUSTED", (RETRY_SOON,), 3),
        ("Echo", {}, "RESOURCE_EXHAUSTED", (error_details_pb2.RetryInfo(retry_delay=Duration(seconds=31)),), 1),
        ("Echo", {"timeout": 5}, "UNAVAILABLE", (error_details_pb2.RetryInfo(retry_delay=Duration(seconds=6)),), 1),
        # These stay what they are.
        ("Look", {"context": SAFE}, "FAILED_PRECONDITION", (RETRY_SOON,), 1),
        ("Look", {"context": SAFE, "retries": 0}, "UNAVAILABLE", (), 1),
    ],
)
async def test_only_what_may_be_repeated_is_repeated(
    shop: Shop, call: Call, method: str, inputs: dict[str, Any], code: str, details: tuple[Any, ...], tries: int
) -> None:
    """A call is sent again when it was certainly not carried out, or may be carried out twice; never otherwise."""
    shop.methods[method] = refuse(grpc.StatusCode[code], *details, times=2)
    if tries == 3:
        assert await call(f"{SERVICE}/{method}", **inputs) == BLANK
    else:
        _, data = await failure_of(call(f"{SERVICE}/{method}", **inputs))
        refused = code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") and bool(details)
        assert (data["code"], data["tries"], data["sent"]) == (code, 1, not refused)
    assert len(shop.calls) == tries


async def test_a_service_that_is_not_there_yet_is_waited_for(descriptors: bytes) -> None:
    """What could not be sent is tried again; the failure says why there is no connection, and that nothing was sent."""
    shop, port = Shop(descriptors), free_port()
    call = calling(shop)
    target = f"127.0.0.1:{port}"
    words, data = await failure_of(call(target=target, retries=0))
    assert "Connection refused" in words
    assert (data["code"], data["sent"], data["tries"]) == ("UNAVAILABLE", False, 1)
    running = asyncio.ensure_future(call(target=target, request={"total": 1}))
    await asyncio.sleep(0.3)
    await shop.start(port)
    try:
        assert await running == BLANK | {"total": 1}
        assert len(shop.calls) == 1
    finally:
        await family.close()
        await shop.stop()


async def test_a_call_that_a_dying_service_had_is_not_repeated(shop: Shop, call: Call) -> None:
    """When the connection breaks after the request was sent, the service may have carried it out."""

    async def die(request: Any, context: Any) -> None:
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(shop.stop()))
        await asyncio.sleep(60)

    shop.methods["Echo"] = die
    _, data = await failure_of(call())
    assert (data["code"], data["sent"], data["tries"]) == ("UNAVAILABLE", True, 1)


async def test_tls_with_certificates_of_the_operator(descriptors: bytes, tmp_path: Path) -> None:
    """The operator's CA is trusted, the client certificate shown; without them the failure says what TLS lacks."""
    authority = trustme.CA()
    mine = authority.issue_cert("127.0.0.1")
    chain = b"".join(each.bytes() for each in mine.cert_chain_pems)
    root = authority.cert_pem.bytes()
    paths = {"ca": tmp_path / "ca.pem", "certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    for name, content in (("ca", root), ("certificate", chain), ("key", mine.private_key_pem.bytes())):
        paths[name].write_bytes(content)
    shop = Shop(descriptors)
    pair = (mine.private_key_pem.bytes(), chain)
    await shop.start(credentials=grpc.ssl_server_credentials([pair], root, require_client_auth=True))
    files = {name: str(path) for name, path in paths.items()}
    try:
        assert await calling(shop, family.Files(**files))(tls=True) == BLANK
        checked = calling(shop, family.Files(**files), reach=read_reach("127.0.0.0/8"))
        assert await checked(tls=True) == BLANK
        other = {"target": f"localhost:{shop.port}", "tls": True, "retries": 0}
        assert "localhost" in (await failure_of(checked(**other)))[0]  # the certificate is for another name
        words, data = await failure_of(
            calling(shop, family.Files(certificate=files["certificate"], key=files["key"]))(tls=True, retries=0)
        )
        assert "CERTIFICATE_VERIFY_FAILED" in words
        assert data["sent"] is False
        absent = family.Files(ca=str(tmp_path / "absent.pem"))
        assert "absent.pem for TLS: No such file" in (await failure_of(calling(shop, absent)(tls=True)))[0]
    finally:
        await family.close()
        await shop.stop()


async def test_targets_that_nobody_has_allowed_are_refused(shop: Shop) -> None:
    """An executor calls only what its operator allows, and the failure says how it is allowed."""
    call = calling(shop, allowed=("*.example.com:443", shop.target))
    assert await call() == BLANK
    words, data = await failure_of(call(target="127.0.0.1:9"))
    assert "must not call 127.0.0.1:9: its operator allows it with --allow grpc.call=127.0.0.1:9" in words
    assert (data["code"], data["sent"]) == ("PERMISSION_DENIED", False)


@pytest.mark.parametrize("allowed", ["*", "*:443", "*.example.com:*"])
async def test_a_wildcard_leads_to_public_addresses_only(shop: Shop, allowed: str, monkeypatch: Any) -> None:
    """A target that a wildcard covers is not called in a private network, unless its name is allowed or the network."""
    given = allowed.replace("443", str(shop.port))
    resolve_as(monkeypatch, {"stock.example.com": ["127.0.0.1"]})
    target = f"stock.example.com:{shop.port}"
    words, data = await failure_of(calling(shop, allowed=(given,), reach=NOWHERE)(target=target))
    assert "stock.example.com has no public address" in words
    assert "--private-networks" in words
    assert (data["code"], data["sent"]) == ("PERMISSION_DENIED", False)
    assert shop.calls == []

    assert await calling(shop, allowed=(given,), reach=read_reach("127.0.0.0/8"))(target=target) == BLANK
    assert await calling(shop, allowed=(given, shop.target), reach=NOWHERE)() == BLANK


async def test_the_address_of_a_wildcard_is_the_one_that_was_checked(shop: Shop, monkeypatch: Any) -> None:
    """The name is resolved once; with TLS the certificate and the service still see the name."""
    resolve_as(monkeypatch, {"stock.example.com": ["127.0.0.1"]}, {"stock.example.com": ["127.0.0.2"]})
    target = f"stock.example.com:{shop.port}"
    assert await calling(shop, allowed=("*",), reach=read_reach("127.0.0.1"))(target=target) == BLANK


async def test_a_proxy_connects_to_the_address_that_was_checked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is asked for an address, one of a name that has several."""
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(await reader.readline())
        writer.close()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    resolve_as(monkeypatch, {"stock.example.com": ["93.184.216.34", "93.184.216.35"]})
    call = calling(shop, allowed=("*",), reach=NOWHERE)
    await failure_of(call(target="stock.example.com:443", retries=0, timeout=60))
    assert asked.get_nowait() == b"CONNECT 93.184.216.34:443 HTTP/1.1\r\n"
    proxy.close()
    await proxy.wait_closed()


async def test_the_registry_has_grpc_call_with_a_target(shop: Shop) -> None:
    """grpc.call is there once a target is allowed."""
    registry = load_registry((), allowed=(f"grpc.call={shop.target}",))
    assert registry.find("grpc.call") is not None
    assert load_registry((), allowed=("std.ssh",)).find("grpc.call") is None


@pytest.fixture
def newer(tmp_path: Path) -> bytes:
    """Provide the descriptors of the service's next version, which has a field and a method more."""
    files = FILES | {
        "order.proto": FILES["order.proto"].replace("string order_id = 1;", "string order_id = 1; string gift = 30;"),
        "shop.proto": FILES["shop.proto"].replace("rpc Watch", "rpc Wrap(Order) returns (Order);\n  rpc Watch"),
    }
    return compile_protos(tmp_path, files)


async def test_a_new_version_behind_the_same_connection_is_noticed(shop: Shop, call: Call, newer: bytes) -> None:
    """A field or method that is new, in a request or an answer, makes the service describe itself again."""
    assert await call() == BLANK
    asked = shop.reflections
    shop.pool = read_pool(newer)
    answer: bytes = shop.make("Order", gift="ribbon").SerializeToString()

    async def give(request: Any, context: Any) -> bytes:
        return answer

    shop.methods["Echo"] = give
    assert await call() == BLANK | {"gift": "ribbon"}
    assert shop.reflections > asked
    assert (await call(request={"gift": "box"}))["gift"] == "ribbon"


async def test_a_new_version_after_a_restart_is_noticed(shop: Shop, call: Call, newer: bytes) -> None:
    """After a new connection the service describes itself again: its new method is found."""
    assert await call() == BLANK
    await shop.stop()
    other = Shop(newer)
    await other.start(shop.port)
    try:
        assert (await call(f"{SERVICE}/Wrap", target=shop.target, request={"gift": "box"}))["gift"] == "box"
    finally:
        await other.stop()


async def test_services_with_equal_names_do_not_meet(shop: Shop, call: Call, newer: bytes) -> None:
    """Each target has types of its own: another version of the same service at another target is not confused."""
    other = Shop(newer)
    await other.start()
    try:
        one, two = await asyncio.gather(call(), call(target=other.target, request={"gift": "box"}))
        assert (one, two) == (BLANK, BLANK | {"gift": "box"})
        assert "has no field 'gift'" in (await failure_of(call(request={"gift": "box"})))[0]
    finally:
        await other.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 (the condition is of the server)
            await asyncio.sleep(0.01)
