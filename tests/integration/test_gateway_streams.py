"""Streams through the gateway: every protocol, callers that leave or do not read, the end of the gateway."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import h2.connection
import h2.events
import pytest
import pytest_asyncio
from tests.gateways import HTTP_2, PACKAGE, Reply, call, curl, enveloped, gateway_of, messages_of, url_of, watch
from tests.integration.engines import until
from tests.ports import free_port
from tests.processes import Service, System

from dalsegno.v1 import execution_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("gateway")]

WORKFLOWS = """
version: '2.0'
asks:
  tasks:
    ask: {action: std.async_noop}
many:
  tasks:
    each: {with-items: "n in <% range(0, 300) %>", action: std.echo output=<% $.n %>}
"""
OPEN = re.compile(r"^dalsegno_grpc_calls_open{.*} ([0-9.]+)$", re.MULTILINE)
VERSIONS = pytest.mark.parametrize("version", ["--http1.1", HTTP_2])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(shared_system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A gateway for all tests."""
    await shared_system.define(WORKFLOWS)
    service = gateway_of(shared_system, tmp_path_factory.mktemp("gateway"))
    try:
        await service.start()
        yield service
    finally:
        service.stop()
        print(service.new_log())


async def open_calls(metrics_port: int) -> float:
    """The number of calls that a gateway serves now."""
    reply = await curl(f"http://127.0.0.1:{metrics_port}/metrics")
    return sum(map(float, OPEN.findall(reply.body.decode())))


def lines(service: Service, method: str, code: str) -> list[str]:
    """The log lines of calls that ended with this code."""
    log = service.log.read_text().splitlines()
    return [line for line in log if f'"{method}","code":"{code}"' in line]


@VERSIONS
async def test_a_watch_in_json_gives_every_change_and_ends(system: System, gateway: Service, version: str) -> None:
    """The changes of an execution come in sequence, then the end of the stream without an error."""
    id = await system.begin("many")
    reply = await watch(gateway, id, version)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/connect+json")
    changes = [change for each in messages_of(reply.frames) for change in each.get("changes", {}).get("changes", [])]
    assert [int(change["sequence"]) for change in changes] == list(range(1, len(changes) + 1))
    assert len(changes) > 300
    flags, end = reply.frames[-1]
    assert (flags, "error" in json.loads(end)) == (2, False)


@VERSIONS
@pytest.mark.parametrize("kind", ["application/connect+proto", "application/grpc-web+proto", "application/grpc-web"])
async def test_a_watch_in_protobuf(system: System, gateway: Service, version: str, kind: str) -> None:
    """Connect and gRPC-Web carry the same messages; a failure has its status at the end."""
    id = await system.begin("many")
    at = f"{url_of(gateway)}{PACKAGE}ExecutionService/WatchExecution"
    message = execution_service_pb2.WatchExecutionRequest(execution_id=id).SerializeToString()
    head = ("-H", f"content-type: {kind}")
    reply = await curl(at, version, *head, body=struct.pack(">BI", 0, len(message)) + message)
    *frames, (flags, end) = reply.frames
    first = execution_service_pb2.WatchExecutionResponse.FromString(frames[0][1])
    assert first.snapshot.execution.id == id
    assert flags == (2 if "connect" in kind else 128)
    assert b"grpc-status: 0" in end or json.loads(end).get("error") is None
    missing = await curl(at, version, *head, body=struct.pack(">BI", 0, 0))
    (_, end) = missing.frames[-1]
    assert (b"grpc-status: 3" in end and b"grpc-status-details-bin" in end) or b'"invalid_argument"' in end


async def test_messages_of_a_stream_are_compressed_for_who_accepts_it(system: System, gateway: Service) -> None:
    """Each message by itself, and its flag says so."""
    id = await system.begin("many")
    reply = await watch(gateway, id, "-H", "connect-accept-encoding: gzip")
    assert reply.headers["connect-content-encoding"] == "gzip"
    flags, content = reply.frames[0]
    first = json.loads(gzip.decompress(content))["changes"]["changes"][0]
    assert (flags, first["sequence"]) == (1, "1")


@VERSIONS
async def test_a_caller_that_leaves_ends_the_call_of_the_api(system: System, gateway: Service, version: str) -> None:
    """A watch, and a call that waits, are cancelled in gateway and api when the caller is gone."""
    id = await system.begin("asks")

    def ended(method: str) -> list[int]:
        return [len(lines(service, method, "CANCELLED")) for service in (gateway, system.api)]

    watches, waits = ended("ExecutionService/WatchExecution"), ended("ExecutionService/WaitExecution")
    await asyncio.gather(
        watch(gateway, id, version, seconds=3),
        call(gateway, "ExecutionService/WaitExecution", {"executionId": id}, version, seconds=3),
    )
    await until(lambda: ended("ExecutionService/WatchExecution") == [count + 1 for count in watches])
    await until(lambda: ended("ExecutionService/WaitExecution") == [count + 1 for count in waits])
    await system.cancel(id)


class Connection:
    """One connection of HTTP/2 with any number of calls."""

    def __init__(self, gateway: Service) -> None:
        self._http = h2.connection.H2Connection()
        self._socket = socket.create_connection(("127.0.0.1", gateway.port), 30)
        self._http.initiate_connection()
        self.ended: set[int] = set()
        """The streams that the gateway has ended."""
        self.received: dict[int, bytes] = {}

    def send(self, path: str, kind: str, body: bytes) -> int:
        """Call a method, and return the number of the stream."""
        number = self._http.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        self._http.send_headers(number, [*head, ("content-type", kind)])
        self._http.send_data(number, body, end_stream=True)
        self._socket.sendall(self._http.data_to_send())
        return number

    def read_until_ended(self, number: int) -> bytes:
        """Read until the gateway ends a stream, and return what came by it."""
        while number not in self.ended:
            data = self._socket.recv(65536)
            assert data, "the gateway ended the connection"
            for event in self._http.receive_data(data):
                assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset)
                if isinstance(event, h2.events.DataReceived):
                    self.received[event.stream_id] = self.received.get(event.stream_id, b"") + event.data
                    self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.ended.add(event.stream_id)
            self._socket.sendall(self._http.data_to_send())
        return self.received.get(number, b"")

    def close(self) -> None:
        """Leave."""
        self._socket.close()


async def test_a_stream_outlives_a_thousand_other_calls_on_its_connection(system: System, gateway: Service) -> None:
    """A connection of HTTP/2 is not ended for the number of its calls: the stream gets the end of its execution."""
    id = await system.begin("asks")

    def talk() -> bytes:
        connection = Connection(gateway)
        try:
            body = enveloped({"executionId": id})
            stream = connection.send(f"{PACKAGE}ExecutionService/WatchExecution", "application/connect+json", body)
            for _ in range(25):
                numbers = [connection.send(f"{PACKAGE}None/None", "application/json", b"{}") for _ in range(45)]
                for number in numbers:
                    assert b"unimplemented" in connection.read_until_ended(number)
            assert stream not in connection.ended
            asyncio.run_coroutine_threadsafe(system.complete(f"{id}.1.0.1"), loop).result(30)
            return connection.read_until_ended(stream)
        finally:
            connection.close()

    loop = asyncio.get_running_loop()
    await system.until(id, lambda change: change.attempt_moved.delegated)
    content = await asyncio.to_thread(talk)
    flags, end = Reply(200, "2", {}, content).frames[-1]
    assert (flags, "error" in json.loads(end)) == (2, False)


@VERSIONS
async def test_streams_end_with_unavailable_when_it_stops(shared_system: System, tmp_path: Path, version: str) -> None:
    """SIGTERM: a watch ends with UNAVAILABLE at once, a call that can end within the grace does, one that cannot is
    UNAVAILABLE, new ones find nobody, and the process ends in time."""
    metrics = free_port()
    gateway = gateway_of(shared_system, tmp_path, "--metrics-port", str(metrics))
    await gateway.start()
    id = await shared_system.begin("asks")
    watching = asyncio.create_task(watch(gateway, id, version))
    waiting = asyncio.create_task(call(gateway, "ExecutionService/WaitExecution", {"executionId": id}, version))
    soon = ("-H", "connect-timeout-ms: 1500")
    ending = asyncio.create_task(call(gateway, "ExecutionService/WaitExecution", {"executionId": id}, version, *soon))
    for _ in range(200):
        if await open_calls(metrics) == 3:
            break
    began_s = time.monotonic()
    code = await asyncio.to_thread(gateway.terminate)
    took_s = time.monotonic() - began_s
    watched, waited, ended = await asyncio.gather(watching, waiting, ending)
    flags, end = watched.frames[-1]
    assert (flags, json.loads(end)["error"]["code"]) == (2, "unavailable")
    assert (waited.status, waited.json["code"]) == (503, "unavailable")
    assert (ended.status, ended.json["reason"]) == (200, "WAIT_REASON_TIME_OVER")
    assert code == 0
    assert took_s < 6
    await shared_system.cancel(id)
