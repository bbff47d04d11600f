"""How services show who they are, and how the gateway passes tokens on."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.certificates import Issuer
from tests.unit.api.guarded import Guarded, add_token, guarded_system, refusal
from tests.unit.api.test_access import start_one

from dalsegno.engine.settings import read_settings
from dalsegno.gateway.service import Gateway
from dalsegno.gateway.settings import Settings as GatewaySettings
from dalsegno.rpc.credentials import ClientTls, ServerTls
from dalsegno.rpc.links import Links
from dalsegno.rpc.options import Auth
from dalsegno.rpc.server import CannotListen, Server
from dalsegno.v1 import environment_service_pb2 as environments

PUT = environments.PutEnvironmentRequest(name="stage")


def _links(issuer: Issuer, name: str) -> Links:
    pair = issuer.issue(name, "127.0.0.1")
    return Links(calls=ClientTls(issuer.ca, pair.certificate, pair.key))


async def test_a_service_is_known_by_its_certificate(tmp_path: Path) -> None:
    """An api whose certificate has a name of --service-names needs no token at the engine; one with another name is
    not taken, and its callers are told that it is the api that is unknown."""
    issuer = Issuer(tmp_path / "certs")
    own = issuer.issue("engine", "127.0.0.1")
    serves = Links(serves=ServerTls(own.certificate, own.key, issuer.ca))
    async with guarded_system(tmp_path, is_started=False) as system:
        await system.start_engine(tls=serves, service_names=("api-1",))
        await system.start_api(tls=_links(issuer, "api-1"))
        admin = await system.granted("admin", name="root")
        assert (await admin.environments.PutEnvironment(PUT)).environment.actor == "root"
        await system.start_api(tls=_links(issuer, "api-2"))
        admin = await system.granted("admin", name="root")
        code, told = await refusal(admin.environments.PutEnvironment(PUT, timeout=5))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "the engine refuses this api" in told


def test_names_of_services_need_certificates(capsys: pytest.CaptureFixture[str]) -> None:
    """Without certificates of clients no client can have such a name, so the option says what it needs."""
    with pytest.raises(SystemExit):
        read_settings(["--auth", "tokens", "--service-names", "api-1"], {})
    assert "--service-names needs --tls-client-ca" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        read_settings([], {"DALSEGNO_AUTH": "token"})
    assert "DALSEGNO_AUTH='token' is none of open, tokens" in capsys.readouterr().err


async def test_tokens_over_tls_may_be_asked_for_anywhere(tmp_path: Path) -> None:
    """Beyond loopback a server listens with TLS and tokens; with tokens in plain text only if that is accepted."""
    issuer = Issuer(tmp_path / "certs")
    own = issuer.issue("server")
    async with guarded_system(tmp_path, is_started=False) as system:
        await system.start_engine()
        guard: Any = system.engine._server._guard
        with pytest.raises(CannotListen, match=r"everybody on the way can read everything, tokens too"):
            await Server("0.0.0.0:0", ["dalsegno.v1.EngineService"], guard=guard).start()
        tls = ServerTls(own.certificate, own.key)
        server = Server("0.0.0.0:0", ["dalsegno.v1.EngineService"], guard=guard, tls=tls)
        await server.start()
        await server.stop(0)


async def _post(url: str, body: Any, token: str = "") -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)

    def send() -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return await asyncio.to_thread(send)


async def listens(port: int) -> None:
    """Return once somebody listens there."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


Post = Callable[[str, Any, str], Awaitable[tuple[int, Any]]]


@asynccontextmanager
async def served_over_http(system: Guarded) -> AsyncIterator[Post]:
    """Run a gateway in front of the api, and provide what posts to a path of it."""
    gateway = Gateway(
        GatewaySettings(
            listen="127.0.0.1:0", apis=(f"127.0.0.1:{system.api.port}",), grace_s=0.5, auth=Auth.TOKENS.value
        )
    )
    await gateway.start()
    await listens(gateway.port)
    try:
        yield lambda path, body, token: _post(f"http://127.0.0.1:{gateway.port}{path}", body, token)
    finally:
        await gateway.stop()


async def test_the_gateway_passes_tokens_on(tmp_path: Path) -> None:
    """Over HTTP a token counts as over gRPC; a webhook by alias needs that of an operator, one by task token none."""
    async with guarded_system(tmp_path) as system, served_over_http(system) as post:
        execution_id = await start_one(system, "team-a")
        get, alias = "/dalsegno.v1.ExecutionService/GetExecution", "/hooks/alias/order-1?namespace=team-a"
        viewer, operator = (add_token(system.store, "anna", f"{role}@team-a") for role in ("viewer", "operator"))
        for path, body, token, expected in (
            (get, {"executionId": execution_id}, viewer, (200, "execution")),
            (get, {"executionId": execution_id}, "", (401, "unauthenticated")),
            (alias, 1, "", (401, "unauthenticated")),
            (alias, 1, viewer, (403, "permission_denied")),
            (alias, 1, operator, (404, "not_found")),
            ("/hooks/token", 1, "not-genuine", (403, "permission_denied")),
            ("/hooks/token/not-genuine", 1, "", (403, "permission_denied")),
        ):
            status, answer = await post(path, body, token)
            assert (status, next(iter(answer)) if status == 200 else answer["code"]) == expected, path
