"""The gateway and requests that are made to harm it: each is refused with a reason, costs little, and others go on."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.gateways import HTTP_2, JSON, PACKAGE, Reply, call, curl, gateway_of, send_raw, url_of, watch
from tests.integration.engines import until
from tests.processes import Service, System

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("gateway")]

INFO, START = "SystemService/GetServerInfo", "ExecutionService/StartExecution"
PACKED = ("-H", "content-encoding: gzip")
WORKFLOW = """
version: '2.0'
asks:
  tasks:
    ask: {action: std.async_noop}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A gateway; in the end it has logged no fault of its own."""
    await shared_system.define(WORKFLOW)
    service = gateway_of(shared_system, tmp_path_factory.mktemp("gateway"))
    await service.start()
    yield service
    service.stop()
    assert [line for line in service.log.read_text().splitlines() if '"level":"error"' in line] == []


async def send(gateway: Service, method: str, body: bytes, *arguments: str) -> Reply:
    """Call a method with a body that is no JSON of ours."""
    return await curl(f"{url_of(gateway)}{PACKAGE}{method}", *JSON, *arguments, body=body)


async def is_prompt(gateway: Service) -> bool:
    """Whether another call is answered soon."""
    began_s = time.monotonic()
    reply = await call(gateway, INFO, {})
    return reply.status == 200 and time.monotonic() - began_s < 5


def resident_mb(gateway: Service) -> int:
    """Its resident memory."""
    (kib,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{gateway.pid}/status").read_text())
    return int(kib) // 1024


async def test_what_is_no_text_is_refused(gateway: Service) -> None:
    """Headers and a query that are not UTF-8 are the fault of the caller."""
    for name in ("x-dalsegno-actor", "user-agent", "x-other"):
        head = f"POST {PACKAGE}{INFO} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{name}: "
        answer = await send_raw(
            gateway, head.encode() + b"\xff\xfe\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
        )
        assert answer.startswith(b"HTTP/1.1 400 "), name
        assert b"are not UTF-8" in answer


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("", 415, "by GET takes ?encoding=json&message="),
        ("encoding=xml&message=%7B%7D", 415, "by GET takes ?encoding=json&message="),
        ("encoding=json&base64=1&message=***", 400, "is not base64"),
        ("encoding=json&message=%ff", 400, "the JSON is not a"),
        ("encoding=json&message=%7B%7D&compression=br", 501, "br"),
    ],
)
async def test_a_get_that_asks_wrongly_is_told_how(gateway: Service, query: str, status: int, told: str) -> None:
    """Nothing is refused without a word."""
    reply = await curl(f"{url_of(gateway)}{PACKAGE}{INFO}?{query}")
    assert (reply.status, told in reply.json["message"]) == (status, True)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc-web", "application/grpc-web+json"])
async def test_a_get_of_a_protocol_without_get_is_refused(gateway: Service, kind: str) -> None:
    """gRPC and gRPC-Web know POST only."""
    query = "?encoding=json&message=%7B%7D"
    reply = await curl(f"{url_of(gateway)}{PACKAGE}{INFO}{query}", "-H", f"content-type: {kind}")
    assert (reply.status, reply.json["code"]) == (405, "unimplemented")


@pytest.mark.parametrize("body", [b"[]", b'""', b"null", b"5", b"false", b'"workflow"'])
async def test_json_that_is_no_object_is_no_request(gateway: Service, body: bytes) -> None:
    """Also where every field may be missing."""
    reply = await send(gateway, INFO, body)
    assert (reply.status, reply.json["code"]) == (400, "invalid_argument")
    assert "the JSON is not a dalsegno.v1.GetServerInfoRequest" in reply.json["message"]


async def test_many_and_long_unknown_names_cost_little(gateway: Service) -> None:
    """A refusal names some of them, and its size has a limit."""
    for body in ({f"f{number}": 1 for number in range(300_000)}, {"x" * 5_000_000: 1}):
        began_s = time.monotonic()
        reply = await send(gateway, START, json.dumps(body).encode())
        assert (reply.status, time.monotonic() - began_s < 8) == (400, True)
        assert "is no field of" in reply.json["message"]
        assert len(reply.body) < 64_000


async def test_compressed_bombs_cost_little(gateway: Service) -> None:
    """256 MB in 256 KB of gzip, twenty times at once: each is refused, others go on, the memory stays small."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(16)) + packer.flush()
    before_mb = resident_mb(gateway)
    sent = [asyncio.create_task(send(gateway, START, bomb, *PACKED)) for _ in range(20)]
    assert await is_prompt(gateway)
    assert {reply.json["code"] for reply in await asyncio.gather(*sent)} == {"resource_exhausted"}
    assert resident_mb(gateway) - before_mb < 250


async def test_a_bomb_of_small_bombs_is_no_gzip(gateway: Service) -> None:
    """Only one stream of gzip is a message."""
    reply = await send(gateway, START, gzip.compress(b"") * 10_000, *PACKED)
    assert (reply.status, "exactly one whole gzip stream" in reply.json["message"]) == (400, True)


async def test_large_bodies_that_are_refused_leave_no_memory(gateway: Service) -> None:
    """Errors keep the frames that they have passed, and these the body: too large, no JSON, and cut off."""
    assert await is_prompt(gateway)
    before_mb = resident_mb(gateway)
    head = f"POST {PACKAGE}{INFO} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    cut_off = f"{head}content-length: 30000000\r\n\r\n".encode() + bytes(16_000_000)
    for _ in range(12):
        assert (await send(gateway, INFO, b" " * 17_000_000)).json["code"] == "resource_exhausted"
        assert (await send(gateway, INFO, b"{" + b" " * 16_000_000)).json["code"] == "invalid_argument"
        await send_raw(gateway, cut_off)
    assert resident_mb(gateway) - before_mb < 250


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ("content-length: 2\r\ntransfer-encoding: chunked", 400, b"either content-length or transfer-encoding"),
        (f"content-length: 2\r\nx-long: {'a' * 66_000}", 431, b"have more than 65,536 bytes"),
        ("content-length: 2\r\n" + "\r\n".join(f"x-{number}: {'a' * 20}" for number in range(3_000)), 431, b"65,536"),
        ("content-length: 2\r\n" + "\r\n".join(f"x-{number}: a" for number in range(1_800)), 431, b"65,536"),
    ],
)
async def test_headers_that_mislead_end_the_connection(
    gateway: Service, headers: str, status: int, told: bytes
) -> None:
    """A proxy may see another end of the request; what follows is no request."""
    head = f"POST {PACKAGE}{INFO} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    body = "2\r\n{}\r\n0\r\n\r\n" if "chunked" in headers else "{}"
    again = f"{head}content-length: 2\r\n\r\n{{}}"
    answer = await send_raw(gateway, f"{head}{headers}\r\n\r\n{body}{again}".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert (told in answer, answer.count(b"HTTP/1.1 ")) == (True, 1)


@pytest.mark.parametrize("deadline", ["99999H", "2562047H", "99999999H"])
async def test_a_deadline_of_centuries_has_not_passed(gateway: Service, deadline: str) -> None:
    """gRPC-Web allows eight digits and hours: more than fits into nanoseconds."""
    headers = ("-H", "content-type: application/grpc-web+json", "-H", f"grpc-timeout: {deadline}")
    reply = await curl(f"{url_of(gateway)}{PACKAGE}{INFO}", *headers, body=b"\0\0\0\0\x02{}")
    assert (reply.status, b"grpc-status: 0" in reply.body) == (200, True)


def sockets(gateway: Service) -> int:
    """The number of sockets that the gateway has open."""
    return sum(is_socket(each) for each in Path(f"/proc/{gateway.pid}/fd").iterdir())


def is_socket(descriptor: Path) -> bool:
    """Whether an open file of a process is a socket; not when it has been closed since it was listed."""
    try:
        return os.readlink(descriptor).startswith("socket:")
    except FileNotFoundError:
        return False


async def test_connections_that_clients_close_leave_nothing(system: System, gateway: Service) -> None:
    """Neither those without a call, nor those whose calls are open: it would come to its limit of open files."""
    execution_id = await system.begin("asks")
    assert await is_prompt(gateway)
    before = sockets(gateway)
    for _ in range(5):
        await call(gateway, INFO, {}, HTTP_2)
        await call(gateway, INFO, {})
        (await asyncio.open_connection("127.0.0.1", gateway.port))[1].close()
    cut = [watch(gateway, execution_id, version, seconds=0.5) for version in (HTTP_2, "--http1.1") for _ in range(5)]
    await asyncio.gather(*cut)
    await until(lambda: sockets(gateway) <= before, 5.0)
    await system.cancel(execution_id)
