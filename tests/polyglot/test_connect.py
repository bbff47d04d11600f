"""The gateway and the clients of Connect: every transport of connect-web and connect-node does the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.certificates import make_certificate
from tests.gateways import gateway_of, url_of
from tests.integration.engines import until
from tests.polyglot.modules import prepare
from tests.polyglot.programs import HERE, finish, start
from tests.processes import START_S, Service, System

NEEDED = [name for name in ("node", "npm") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("polyglot"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(NEEDED), reason=f"{' and '.join(NEEDED)} not found: clients of the gateway are not tried"),
]

WORKFLOW = """
version: '2.0'
connects:
  input: [long]
  output: {answer: <% $.answer %>, long: <% $.long.len() %>}
  tasks:
    ask: {action: std.async_noop, publish: {answer: <% task().result %>}}
"""
KINDS = (
    *("web json", "web binary", "web grpc-web", "web grpc-web json"),
    *("node connect 1.1", "node connect 2", "node connect 2 gzip", "node connect 2 json tls"),
    *("node grpc-web 2", "node grpc 2"),
)

LOGGED = {f"{call}-{kind.replace(' ', '-')}" for call in ("aborted", "late", "read", "refused") for kind in KINDS}
"""The request ids of calls of which the api has log lines, when it too has found that they have ended."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients and the services have seen."""

    clients: dict[str, Any]
    """By kind."""
    api: dict[str, dict[str, Any]]
    """The log line of each call of the api, by request id."""

    def of(self, kind: str) -> dict[str, Any]:
        """What one kind of client has seen. Fails the test if it has failed."""
        found: dict[str, Any] = self.clients[kind]
        assert "failed" not in found, found["failed"]
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    """Run all kinds of clients at once, against a gateway without TLS and one with it."""
    folder = tmp_path_factory.mktemp("connect")
    await prepare(folder, [HERE / "connect_client.mjs"])
    certificate = make_certificate(folder)
    tls = ("--tls-certificate", str(certificate.chain), "--tls-key", str(certificate.key))
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(folder / "system"))
        await system.define(WORKFLOW)
        plain, secure = gateway_of(system, folder / "system"), gateway_of(system, folder, *tls)
        for gateway in (plain, secure):
            stack.callback(gateway.stop)
        secure.launch()
        await plain.start()
        await until(lambda: "listening" in secure.log.read_text(), START_S)
        at = (url_of(plain), f"https://{secure.address}", str(certificate.authority))
        code, output, errors = await finish(await start("node", "connect_client.mjs", *at, folder=folder))
        assert code == 0, errors
        print(errors)
        with suppress(AssertionError):  # the checks say what is missing, and why
            await until(lambda: calls_of(system.api).keys() >= LOGGED)
        yield Seen(json.loads(output), calls_of(system.api))


def calls_of(service: Service) -> dict[str, dict[str, Any]]:
    """The log line of each call, by request id."""
    whole = service.log.read_text().rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return {line["request_id"]: line for line in lines if "request_id" in line}


async def test_clients_of_connect_use_the_gateway(seen: Seen) -> None:
    """Every kind of client does all that the checks say.

    They are one test, since all workers of a run would start services and clients for a part of them.
    """
    for kind in KINDS:
        for check in (check_work, check_refusals, check_abort, check_deadline, check_request_id):
            check(seen, kind)
    check_get(seen)


def check_work(seen: Seen, kind: str) -> None:
    """A client starts, watches, completes and reads: every change comes once and in order, a long text whole."""
    found = seen.of(kind)
    assert found["state"] == "SUCCESS"
    assert found["output"] == {"answer": 42, "long": 150_000}
    assert found["sequences"] == list(range(1, len(found["sequences"]) + 1))
    assert len(found["sequences"]) > 5
    assert found["languages"] == 2


def check_get(seen: Seen) -> None:
    """A client that is told to uses GET for what has no side effects, known from the protos, and POST for all else."""
    used = seen.of("web json")["used"]
    assert {used.pop(read) for read in ("GetServerInfo", "GetExecution", "ListActionExecutions")} == {"GET"}
    assert {used.pop(other) for other in ("StartExecution", "CompleteAction", "WatchExecution")} == {"POST"}
    assert set(seen.of("web binary")["used"].values()) == {"POST"}


def check_refusals(seen: Seen, kind: str) -> None:
    """Refusals come with their details: code, reason and every wrong field are what gRPC clients get."""
    invalid, unknown = seen.of(kind)["invalid"], seen.of(kind)["unknown"]
    assert (invalid["code"], invalid["reason"]) == ("InvalidArgument", "INVALID_REQUEST")
    assert sorted(invalid["fields"]) == ["execution_id", "input"]
    assert (unknown["code"], unknown["reason"]) == ("NotFound", "NOT_FOUND")


def check_abort(seen: Seen, kind: str) -> None:
    """An abort ends the call of the api, while the execution still waits; the client hears that it has canceled."""
    assert seen.of(kind)["aborted"]["code"] == "Canceled"
    line = seen.api[f"aborted-{kind.replace(' ', '-')}"]
    assert (line["message"], line["code"]) == ("ExecutionService/WatchExecution", "CANCELLED")


def check_deadline(seen: Seen, kind: str) -> None:
    """A deadline is the deadline of the api: its stream ends with that of the client."""
    assert seen.of(kind)["late"]["code"] == "DeadlineExceeded"
    line = seen.api[f"late-{kind.replace(' ', '-')}"]
    assert line["code"] in ("CANCELLED", "DEADLINE_EXCEEDED")
    assert 1000 < line["ms"] < 5500


def check_request_id(seen: Seen, kind: str) -> None:
    """The request id passes both ways: the api logs it, and answers and refusals have it in their headers."""
    tag = kind.replace(" ", "-")
    assert seen.of(kind)["read"] == f"read-{tag}"
    assert seen.of(kind)["invalid"]["requestId"] == f"refused-{tag}"
    assert seen.api[f"read-{tag}"]["code"] == "OK"
    assert seen.api[f"refused-{tag}"]["code"] == "INVALID_ARGUMENT"
