"""Each kind of caller against each kind of server: who is served, and what the others are told."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.certificates import Issuer, speaks
from tests.integration.engines import until

from dalsegno.actions.action import action
from dalsegno.cli.connection import is_serving
from dalsegno.cli.exits import CommandError
from dalsegno.rpc import credentials, peers
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.credentials import ClientTls, ServerTls
from dalsegno.rpc.server import Server
from dalsegno.v1 import executor_service_pb2_grpc
from dalsegno.worker.worker import Worker
from dalsegno.workflow.refusals import Overloaded

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEEDS_TLS = "it speaks TLS, and this client does not: give the authorities of its certificate by --tls-ca"
PLAIN = "it speaks plain text, and this client TLS: leave out --tls-ca"
FOREIGN = "its certificate is of another authority than those in"
EXPIRED = "its certificate, or one above it, has expired: renew it there"
WRONG_NAME = "its certificate does not have the name 127.0.0.1: call it by a name that it has"
NO_CERTIFICATE = "it lets in clients with a certificate only: give one by --tls-certificate and --tls-key"
UNKNOWN_CLIENT = "it does not accept this client's certificate: give one of an authority in its --tls-client-ca"
EXPIRED_CLIENT = "this client's certificate has expired: renew the file of --tls-certificate"
OTHER_CLIENT = "the certificate of the client has other, and the server lets in others only (--tls-client-names)"
SERVED = ""
FULL = "this engine has enough executors"

CLIENTS = ("plain", "tls", "foreign", "known", "other", "unknown", "expired")
TOLD = {
    "plain": (SERVED, *[PLAIN] * 6),
    "tls": (NEEDS_TLS, SERVED, FOREIGN, SERVED, SERVED, SERVED, SERVED),
    "mtls": (NEEDS_TLS, NO_CERTIFICATE, FOREIGN, SERVED, SERVED, UNKNOWN_CLIENT, EXPIRED_CLIENT),
    "names": (NEEDS_TLS, NO_CERTIFICATE, FOREIGN, SERVED, OTHER_CLIENT, UNKNOWN_CLIENT, EXPIRED_CLIENT),
    "expired": (NEEDS_TLS, EXPIRED, FOREIGN, EXPIRED, EXPIRED, EXPIRED, EXPIRED),
    "misnamed": (NEEDS_TLS, WRONG_NAME, FOREIGN, WRONG_NAME, WRONG_NAME, WRONG_NAME, WRONG_NAME),
}
"""By server: what each of the clients is told; empty: it is served."""


@dataclass(frozen=True)
class Scene:
    """Servers and clients by their names in the table."""

    servers: dict[str, Server]
    clients: dict[str, ClientTls | None]

    def address(self, server: str) -> str:
        """host:port."""
        return f"127.0.0.1:{self.servers[server].port}"


class Executors(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Tells an executor which it serves that it is full."""

    async def Connect(self, request_iterator: AsyncIterator[object], context: object) -> None:  # type: ignore[override]
        """Refuse the stream of an executor after its Hello: a client that still writes it would be told INTERNAL."""
        await anext(request_iterator)
        raise Overloaded(FULL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Provide all servers, and all clients."""
    folder = tmp_path_factory.mktemp("links")
    ours, theirs = Issuer(folder / "ours"), Issuer(folder / "theirs")
    good, misnamed = ours.issue("server", "127.0.0.1"), ours.issue("misnamed", "flows.example.com")
    late, late_client = ours.issue("late", "127.0.0.1", expired=True), ours.issue("late-client", expired=True)
    known, other, unknown = ours.issue("known"), ours.issue("other"), theirs.issue("unknown")
    with pytest.MonkeyPatch.context() as patch:  # they expire after they were read
        patch.setattr(credentials, "_now", lambda: datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC))
        patch.setattr(credentials, "_check_begin", lambda *_: None)
        expired = ServerTls(late.certificate, late.key)
        expired_client = ClientTls(ours.ca, late_client.certificate, late_client.key)
    kinds = {
        "plain": None,
        "tls": ServerTls(good.certificate, good.key),
        "mtls": ServerTls(good.certificate, good.key, ours.ca),
        "names": ServerTls(good.certificate, good.key, ours.ca, ["known", "someone.example.com"]),
        "expired": expired,
        "misnamed": ServerTls(misnamed.certificate, misnamed.key),
    }
    servers = {name: Server("127.0.0.1:0", ["dalsegno.v1.EngineService"], tls=tls) for name, tls in kinds.items()}
    for server in servers.values():
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(Executors(), server.grpc)
        await server.start()
        await server.set_ready(True)
    clients = {
        "plain": None,
        "tls": ClientTls(ours.ca),
        "foreign": ClientTls(theirs.ca),
        "known": ClientTls(ours.ca, known.certificate, known.key),
        "other": ClientTls(ours.ca, other.certificate, other.key),
        "unknown": ClientTls(ours.ca, unknown.certificate, unknown.key),
        "expired": expired_client,
    }
    yield Scene(servers, clients)
    for server in servers.values():
        await server.stop(0)


@action("links.nothing")
async def nothing() -> None:
    """Do nothing."""


async def told_to_command(address: str, tls: ClientTls | None) -> str:
    """What a command line says of a server; empty: it is served."""
    try:
        return "" if await is_serving(address, 40, tls) else "not ready"
    except CommandError as error:
        return str(error)


async def told_to_service(address: str, tls: ClientTls | None) -> str:
    """What api and gateway say of a service that they call."""
    found = peers.Peers("engine", [address], tls=tls)
    await found.start()
    try:
        await until(lambda: not found.told().endswith(("no answer yet", "it cannot be reached")))
        return found.told()
    finally:
        await found.stop()


async def told_to_worker(address: str, tls: ClientTls | None) -> str:
    """What a worker's health says of an engine."""
    worker = Worker(nothing, engine=address, id="links", tls=tls or False, grace_s=0)
    working = asyncio.create_task(worker.serve())
    try:
        await until(lambda: bool(worker.told) and "UNAVAILABLE" not in worker.told)
        told = worker.told
    finally:
        worker.stop()
        await working
    return "" if told.endswith(FULL) else told


@pytest.mark.parametrize("server", TOLD)
@pytest.mark.parametrize("ask", [told_to_command, told_to_service, told_to_worker])
async def test_who_is_served(ask: Callable[[str, ClientTls | None], Awaitable[str]], server: str, scene: Scene) -> None:
    """A client whose arrangement fits is served; any other is told what does not fit, and what to do."""
    told = await asyncio.gather(*(ask(scene.address(server), scene.clients[name]) for name in CLIENTS))
    for client, expected, found in zip(CLIENTS, TOLD[server], told, strict=True):
        assert (expected in found) if expected else found == "", f"{client} against {server}: {found}"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_of_tls_are_refused(version: ssl.TLSVersion, scene: Scene) -> None:
    """A client that speaks at most TLS 1.1 gets no connection; one of 1.2 does."""
    assert await speaks(scene.servers["tls"].port, ssl.TLSVersion.TLSv1_2)
    assert not await speaks(scene.servers["tls"].port, version)


async def test_another_name_may_be_expected(scene: Scene, tmp_path: Path) -> None:
    """With a server name a client takes the certificate of that name, whatever address it calls."""
    ca = scene.clients["tls"]
    assert ca is not None
    named = ClientTls(ca.ca, server_name="flows.example.com")
    assert await told_to_command(scene.address("misnamed"), named) == ""
    assert await told_to_service(scene.address("misnamed"), named) == ""
    assert "does not have the name flows.example.com" in await told_to_command(scene.address("tls"), named)


async def test_a_socket_file_has_the_name_localhost(scene: Scene, tmp_path: Path) -> None:
    """A server at a socket file shows a certificate for localhost."""
    issuer = Issuer(tmp_path / "certs")
    local, other = issuer.issue("local", "localhost"), issuer.issue("other", "127.0.0.1")
    for pair, told in ((local, ""), (other, "its certificate does not have the name localhost")):
        server = Server(
            f"unix:{tmp_path}/{Path(pair.key).stem}",
            ["dalsegno.v1.EngineService"],
            tls=ServerTls(pair.certificate, pair.key),
        )
        await server.start()
        await server.set_ready(True)
        found = await told_to_command(server.address, ClientTls(issuer.ca))
        assert (told in found) if told else found == ""
        await server.stop(0)


async def test_servers_behind_a_name_have_that_name(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that looks up a name, and calls its addresses, wants certificates with the name, not the addresses."""

    async def addresses_of(_: str) -> list[str]:
        return [scene.address("misnamed"), scene.address("tls")]

    monkeypatch.setattr(peers, "addresses_of", addresses_of)
    found = peers.Peers("engine", ["flows.example.com:7701"], tls=scene.clients["tls"])
    await found.start()
    try:
        await until(lambda: found.is_ready and "does not have the name flows.example.com" in found.told())
        assert [each.address for each in found.best()] == [scene.address("misnamed")]
    finally:
        await found.stop()


async def test_a_client_that_is_not_let_in_is_refused_every_call(scene: Scene) -> None:
    """The names of clients count for health and reflection, too."""
    async with open_channel(scene.address("names"), tls=scene.clients["other"]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == OTHER_CLIENT
