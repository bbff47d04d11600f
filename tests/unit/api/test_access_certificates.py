"""Callers that are known by their certificates, over the wire."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.certificates import Issuer, Pair
from tests.issuing import write_issuers
from tests.unit.api.guarded import Guarded, add_token, guarded_system, refusal
from tests.unit.api.test_access import DENIED, SOON_S, UNAUTHENTICATED, ends, hello, start_one

from dalsegno.engine.settings import read_settings
from dalsegno.rpc import certificate_callers
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.credentials import ClientTls, ServerTls
from dalsegno.rpc.jwt_directory import IssuerFile
from dalsegno.rpc.links import Links
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import environment_service_pb2_grpc, execution_service_pb2_grpc, executor_service_pb2_grpc
from dalsegno.v1 import execution_service_pb2 as executions

PUT = environments.PutEnvironmentRequest(namespace="team-a", name="stage")


def _rule(role: str, **when: Any) -> dict[str, Any]:
    return {"when": when, "roles": [role]}


RULES = [
    _rule("author@team-a", common_name="alice"),
    _rule("viewer@team-a", email="bert@example.com", common_name="bert"),
    _rule("executor@math.*", dns=["worker.example.com", "other.example.com"]),
]


class Linked:
    """A system whose servers ask for certificates, and callers that show some."""

    def __init__(self, folder: Path, system: Guarded, opened: AsyncExitStack) -> None:
        self.authority = Issuer(folder / "certs")
        self.system = system
        self.file = folder / "issuers.yaml"
        self._folder = folder
        self._opened = opened

    async def start(self) -> None:
        """Start both services with one file of issuers."""
        own = self.authority.issue("own", "127.0.0.1")
        serves = ServerTls(own.certificate, own.key, self.authority.ca)
        links = Links(serves=serves, calls=self._tls(own))
        issuers = IssuerFile(write_issuers(self.file, certificates=RULES))
        await self.system.start_engine(tls=links, issuers=issuers)
        token = self.system.file(add_token(self.system.store, "api", "service"))
        await self.system.start_api(tls=links, token=token, issuers=issuers)

    def _tls(self, pair: Pair) -> ClientTls:
        return ClientTls(self.authority.ca, pair.certificate, pair.key)

    def channel(self, name: str, *hosts: str, engine: bool = False, token: str = "") -> grpc.aio.Channel:
        """Return a channel whose client has a certificate with this common name, and perhaps with other names."""
        port = self.system.engine.port if engine else self.system.api.port
        shown = self.system.file(token) if token else None
        channel = open_channel(f"127.0.0.1:{port}", tls=self._tls(self.authority.issue(name, *hosts)), token=shown)
        self._opened.push_async_callback(channel.close)
        return channel


@pytest_asyncio.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Linked]:
    """Provide a system that knows callers by certificates."""
    async with guarded_system(tmp_path, is_started=False) as system, AsyncExitStack() as opened:
        found = Linked(tmp_path, system, opened)
        await found.start()
        yield found


def _environments(channel: grpc.aio.Channel) -> Any:
    return environment_service_pb2_grpc.EnvironmentServiceStub(channel)


async def test_a_certificate_gives_what_the_rules_say(linked: Linked) -> None:
    """A caller does what the names in its certificate give, under its own name, and is refused the rest; one that no
    rule names needs a token, and a token that is shown decides alone."""
    alice = _environments(linked.channel("alice"))
    stored = await alice.PutEnvironment(PUT, metadata=(("x-dalsegno-actor", "root"),))
    assert stored.environment.actor == "certificate/alice"
    other = environments.PutEnvironmentRequest(namespace="team-b", name="stage")
    assert await refusal(alice.PutEnvironment(other)) == (
        DENIED,
        "'certificate/alice' lacks the role author for the namespace 'team-b'; what certificates give is in the file of"
        " --issuers",
    )
    bert = _environments(linked.channel("bert", "bert@example.com"))
    get = environments.GetEnvironmentRequest(namespace="team-a", name="stage")
    assert (await bert.GetEnvironment(get)).environment.name == "stage"
    code, told = await refusal(bert.PutEnvironment(PUT))
    assert (code, "'certificate/bert@example.com' lacks the role author" in told) == (DENIED, True)
    for name, hosts in (("bert", ()), ("carl", ("alice",)), ("Alice", ()), ("carl", ("bert@example.com",))):
        stranger = _environments(linked.channel(name, *hosts))
        code, told = await refusal(stranger.PutEnvironment(PUT))
        assert (code, "or a certificate that the file of --issuers names" in told) == (UNAUTHENTICATED, True)
    viewer = add_token(linked.system.store, "vera", "viewer")
    code, told = await refusal(_environments(linked.channel("alice", token=viewer)).PutEnvironment(PUT))
    assert (code, told.startswith("'vera' lacks the role author")) == (DENIED, True)


async def test_an_executor_is_known_by_its_certificate(linked: Linked) -> None:
    """The engine takes its stream, for the actions of its patterns only."""
    channel = linked.channel("anything", "worker.example.com", engine=True)
    stub: Any = executor_service_pb2_grpc.ExecutorServiceStub(channel)
    stream = stub.Connect()
    await stream.write(hello("math.add"))
    assert (await stream.read()).WhichOneof("message") == "welcome"
    stream.cancel()
    code, told = await refusal(stub.Connect(iter([hello("std.http")])))
    assert (code, "lacks the role executor for the actions std.http" in told) == (DENIED, True)


async def test_an_open_call_ends_with_its_certificate(linked: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a certificate expires, or the file says something else of certificates, its open watch ends within 5 s."""
    there = await start_one_by_token(linked)
    watch = executions.WatchExecutionRequest(execution_id=there)
    stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(linked.channel("bert", "bert@example.com"))
    stream = stub.WatchExecution(watch)
    await stream.read()
    write_issuers(linked.file, certificates=[*RULES, _rule("viewer", common_name="carl")])
    began_s = time.monotonic()
    code, told = await ends(stream)
    assert time.monotonic() - began_s < SOON_S
    assert (code, told.endswith("says of certificates has changed: call again")) == (grpc.StatusCode.UNAVAILABLE, True)
    stream = stub.WatchExecution(watch)
    await stream.read()

    monkeypatch.setattr(certificate_callers, "time", SimpleNamespace(time=lambda: 1e12))  # certificates last long here
    began_s = time.monotonic()
    code, told = await ends(stream)
    assert time.monotonic() - began_s < SOON_S
    assert (code, told) == (UNAUTHENTICATED, "the certificate of 'certificate/bert@example.com' has expired: renew it")


async def start_one_by_token(linked: Linked) -> str:
    """Start an execution in team-a, as an admin with a token and a certificate. Return its id."""
    token = add_token(linked.system.store, "root", "admin")
    channel = linked.channel("root", token=token)
    return await start_one(linked.system, "team-a", channel)


def test_rules_about_certificates_need_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where clients are asked for none, the start says so."""
    path = write_issuers(tmp_path / "issuers.yaml", certificates=RULES)
    with pytest.raises(SystemExit):
        read_settings(["--auth", "tokens", "--issuers", path], {})
    assert "its certificates need --tls-client-ca" in capsys.readouterr().err
