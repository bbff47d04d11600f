"""Gateways with logins, in front of a system that asks for tokens, all in the process of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.issuing import jwks, rule, write_issuers
from tests.openid import CLIENT, Browser, OpenIdIssuer, browser_at, openid_issuer
from tests.unit.api.guarded import Guarded, add_token, guarded_system
from tests.unit.api.test_access import start_one
from tests.unit.api.test_access_links import listens

from dalsegno.gateway import login, oidc
from dalsegno.gateway.service import Gateway
from dalsegno.gateway.settings import Settings
from dalsegno.rpc import key_source
from dalsegno.rpc.fetching import Bounds
from dalsegno.rpc.jwt_directory import IssuerFile

Serve = Callable[..., AbstractAsyncContextManager[Browser]]


@dataclass
class Site:
    """A system, its issuer, and an execution in the namespace team-a."""

    system: Guarded
    issuer: OpenIdIssuer
    execution_id: str
    folder: Path

    @asynccontextmanager
    async def gateway(self, authority: str = "", **settings: Any) -> AsyncIterator[Browser]:
        """Run a gateway with these settings, and provide a browser at it, which trusts an authority."""
        apis = (f"127.0.0.1:{self.system.api.port}",)
        usual: dict[str, Any] = {"listen": "127.0.0.1:0", "apis": apis, "grace_s": 0.5, "auth": "tokens"}
        gateway = Gateway(Settings(**usual | settings))
        await gateway.start()
        try:
            await listens(gateway.port)
            async with browser_at(f"{gateway.scheme}://127.0.0.1:{gateway.port}", authority) as browser:
                yield browser
        finally:
            await gateway.stop()


@pytest_asyncio.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Provide a system that takes tokens of its own and of an issuer, whose group `crew` reads team-a. Nobody is too
    slow there, however busy the machine is."""
    monkeypatch.setattr(login, "CHECK_S", 60.0)
    monkeypatch.setattr(oidc, "BOUNDS", Bounds(60.0, oidc.BOUNDS.bytes_max))
    monkeypatch.setattr(key_source, "FETCH_S", 60.0)
    async with openid_issuer() as issuer, guarded_system(tmp_path, is_started=False) as system:
        (tmp_path / "keys.json").write_bytes(jwks(issuer.of_tokens.key))
        rules = [rule("crew", "viewer@team-a")]
        entry = issuer.of_tokens.entry("keys.json", rules, audience=["dalsegno", CLIENT])
        issuers = IssuerFile(write_issuers(tmp_path / "issuers.yaml", entry))
        await system.start_engine()
        await system.start_api(token=system.file(add_token(system.store, "api", "service")), issuers=issuers)
        yield Site(system, issuer, await start_one(system, "team-a"), tmp_path)
