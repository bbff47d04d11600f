"""All services with certificates on every link: who gets in, and new certificates while they work."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.certificates import Issuer, Pair, serial_shown, speaks
from tests.gateways import JSON, curl, gateway_of
from tests.loads import RoundDone, SteadyLoad
from tests.processes import CALL_S, Service, System, state_of
from tests.tied import tied

from dalsegno.rpc.channel import REASON_KEY, open_channel
from dalsegno.rpc.credentials import ClientTls
from dalsegno.v1 import execution_service_pb2, execution_service_pb2_grpc

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKFLOW = """
version: '2.0'
pair:
  tasks:
    a: {action: std.echo output=1, on-success: [b]}
    b: {action: std.noop}
"""
CALLERS = 3


@dataclass
class Links:
    """The services, a gateway, and the folder from which all of them and the clients read their certificates."""

    system: System
    gateway: Service
    folder: Path
    tls: ClientTls

    @property
    def client_options(self) -> list[str]:
        """The options of a client of ours."""
        return options(self.folder, "client")

    def issue(self, issuer: Issuer) -> None:
        """Replace all certificates by new ones of an issuer."""
        for name, hosts in (("server", ("127.0.0.1", "server")), ("client", ("client",))):
            pair = issuer.issue(name, *hosts)
            os.replace(pair.key, self.folder / f"{name}-key.pem")
            os.replace(pair.certificate, self.folder / f"{name}.pem")

    def trust(self, *issuers: Issuer) -> None:
        """Let everybody trust these issuers only."""
        new = self.folder / "new.pem"
        new.write_text("".join(Path(each.ca).read_text() for each in issuers))
        os.replace(new, self.folder / "ca.pem")

    def shown_by(self, service: Service) -> str:
        """The number of the certificate that a service shows to a new client."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(self.folder / "client.pem", self.folder / "client-key.pem")
        context.set_alpn_protocols(["h2"])
        return serial_shown(service.port, context)


def options(folder: Path, name: str) -> list[str]:
    """The options with a certificate in a folder."""
    pair = ("--tls-certificate", f"{folder}/{name}.pem", "--tls-key", f"{folder}/{name}-key.pem")
    return ["--tls-ca", f"{folder}/ca.pem", *pair]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Provide the authority of the services."""
    return Issuer(tmp_path_factory.mktemp("one"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def links(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> AsyncIterator[Links]:
    """Provide services that all speak TLS and let in `client` and `server` only."""
    folder = tmp_path_factory.mktemp("links")
    client, server = issuer.issue("client"), issuer.issue("server", "127.0.0.1", "server")
    for pair, name in ((client, "client"), (server, "server")):
        os.link(pair.certificate, folder / f"{name}.pem")
        os.link(pair.key, folder / f"{name}-key.pem")
    os.link(issuer.ca, folder / "ca.pem")
    tls = ClientTls(*(f"{folder}/{each}.pem" for each in ("ca", "client", "client-key")))
    lets_in = ("--tls-client-ca", f"{folder}/ca.pem", "--tls-client-names", "client,server")
    both = [*options(folder, "server"), *lets_in]
    listening = [*options(folder, "server")[2:], *lets_in]
    system = System(folder, engine=listening, executor=options(folder, "client"), api=both, tls=tls)
    gateway = gateway_of(system, folder, *both)
    gateway.tls = tls
    async with system:
        await gateway.start()
        try:
            await system.define(WORKFLOW)
            yield Links(system, gateway, folder, tls)
        finally:
            gateway.stop()


async def command(*words: str) -> tuple[int, str]:
    """Run a command; its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *tied(sys.executable, "-m", "dalsegno.cli.main", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "400"},
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_workflow_runs_over_links_with_certificates(links: Links, tmp_path: Path) -> None:
    """Command line, gateway and client of the SDK get in with their certificates, and what they start is run by the
    executor; a command without one, and one of another authority, are told so in a sentence."""
    execution = await links.system.run("pair")
    assert state_of(execution) == "SUCCESS"
    stranger = Issuer(tmp_path / "other").issue("client")
    at = ("list", "--server", links.system.api.address)
    shown = ("--tls-certificate", stranger.certificate, "--tls-key", stranger.key)
    trusted = ("--tls-ca", str(links.folder / "ca.pem"))
    (code, told), (_, alone), (_, foreign) = await asyncio.gather(
        command(*at, *links.client_options), command(*at, *trusted), command(*at, *trusted, *shown)
    )
    assert (code, "pair" in told) == (0, True), told
    assert "it lets in clients with a certificate only: give one by --tls-certificate and --tls-key" in alone
    assert "it does not accept this client's certificate: give one of an authority in its --tls-client-ca" in foreign
    assert "Traceback" not in f"{told}{alone}{foreign}"


async def test_health_says_what_does_not_fit(links: Links, tmp_path: Path) -> None:
    """An executor that speaks plain text is not ready, and its health says that the engine speaks TLS."""
    stranger = Service("executor", tmp_path, ["--engine", links.system.engine.address, "--grace-s", "0"])
    stranger.launch()
    try:
        async with open_channel(stranger.address) as channel, asyncio.timeout(30):
            told = b""
            while b"it speaks TLS, and this client does not: give the authorities" not in told:
                request = health_pb2.HealthCheckRequest()
                call = health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True)  # type: ignore[attr-defined]
                assert (await call).status == health_pb2.HealthCheckResponse.NOT_SERVING
                told = b"".join(value for key, value in await call.trailing_metadata() if key == REASON_KEY)
                await asyncio.sleep(0.05)
        assert links.system.engine.address.encode() in told
    finally:
        stranger.stop()


async def call_gateway(links: Links, name: str, folder: Path) -> Any:
    """Ask the gateway for the executions, with a certificate in a folder."""
    at = f"https://127.0.0.1:{links.gateway.port}/dalsegno.v1.ExecutionService/ListExecutions"
    pair = ("--cert", f"{folder}/{name}.pem", "--key", f"{folder}/{name}-key.pem")
    return await curl(at, *JSON, "--cacert", str(links.folder / "ca.pem"), *pair, body=b"{}")


async def test_the_gateway_asks_for_certificates_too(links: Links, issuer: Issuer) -> None:
    """It serves a client with a name that is let in, answers 403 to another name, and hears nobody without one, and
    nobody who speaks TLS 1.1."""
    issuer.issue("someone")
    assert (await call_gateway(links, "client", links.folder)).status == 200
    refused = await call_gateway(links, "someone", Path(issuer.ca).parent)
    assert refused.status == 403
    assert refused.json["code"] == "permission_denied"
    assert "the certificate of the client has someone" in refused.json["message"]
    own = Pair(f"{links.folder}/client.pem", f"{links.folder}/client-key.pem")
    assert await speaks(links.gateway.port, ssl.TLSVersion.TLSv1_2, own)
    assert not await speaks(links.gateway.port, ssl.TLSVersion.TLSv1_1, own)
    at = f"https://127.0.0.1:{links.gateway.port}/healthz"
    assert (await curl(at, "--cacert", str(links.folder / "ca.pem"))).status == 0


class Callers:
    """Callers over all links: over a channel that is kept, over new ones, and through the gateway."""

    def __init__(self, links: Links, folder: Path) -> None:
        """`folder` has the certificate that curl shows."""
        self._links = links
        self.folder = folder

    async def keep_calling(self, round_done: RoundDone) -> None:
        """Call for ever."""
        address, tls = self._links.system.api.address, self._links.tls
        start = execution_service_pb2.StartExecutionRequest(workflow="pair")
        look = execution_service_pb2.ListExecutionsRequest(page_size=1)
        async with open_channel(address, tls=tls) as kept:
            while True:
                await execution_service_pb2_grpc.ExecutionServiceStub(kept).StartExecution(start, timeout=CALL_S)
                async with open_channel(address, tls=tls) as new:
                    stub = execution_service_pb2_grpc.ExecutionServiceStub(new)
                    await stub.ListExecutions(look, timeout=CALL_S)
                assert (await call_gateway(self._links, "client", self.folder)).status == 200
                await round_done()


async def test_certificates_and_authorities_change_under_load(links: Links, issuer: Issuer, tmp_path: Path) -> None:
    """Not one call fails while the authority of all links is replaced: first both are trusted, then the certificates
    are new, then only the new authority is trusted. The executor connects again with its new certificate."""
    new = Issuer(tmp_path / "new")
    services = (links.system.engine, links.system.api, links.gateway)
    before = [links.shown_by(each) for each in services]
    callers = Callers(links, Path(issuer.ca).parent)
    load = SteadyLoad([callers.keep_calling] * CALLERS)
    try:
        await load.go_on()
        links.trust(issuer, new)
        await load.go_on()
        links.issue(new)
        new.issue("client")
        callers.folder = Path(new.ca).parent
        await load.go_on()
        links.trust(new)
        await load.go_on()
    finally:
        await load.stop()
    assert not set(before) & {links.shown_by(each) for each in services}
    await links.system.engine.kill_and_restart()
    assert state_of(await links.system.run("pair")) == "SUCCESS"
