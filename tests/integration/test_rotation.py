"""Certificates and tokens are replaced while services work by TLS and ask for tokens: nobody's call fails."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from tests.certificates import Issuer
from tests.loads import RoundDone, SteadyLoad
from tests.processes import CALL_S, System, state_of
from tests.unit.api.guarded import add_token

from dalsegno.access.bearer import TokenFile, hash_of, id_of, new_token
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.credentials import ClientTls
from dalsegno.store.opening import open_store
from dalsegno.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKFLOW = """
version: '2.0'
pair:
  tasks:
    a: {action: std.echo output=1, on-success: [b]}
    b: {action: std.noop}
asks:
  tasks:
    ask: {action: std.async_noop}
"""
ROLES = {"admin": "admin", "api": "service", "executor": "executor", "anna": "operator"}
START = execution_service_pb2.StartExecutionRequest


@dataclass
class Guarded:
    """The services, and the folder with the certificates and the tokens of all."""

    system: System
    folder: Path
    issuer: Issuer
    tls: ClientTls

    def channel(self, name: str) -> grpc.aio.Channel:
        """A channel to the api, with the token that is in the file of a caller."""
        return open_channel(self.system.api.address, tls=self.tls, token=TokenFile(str(self.folder / name)))

    def write_token(self, name: str, token: str) -> None:
        """Replace the token in the file of a caller."""
        (self.folder / "new").write_text(token)
        os.replace(self.folder / "new", self.folder / name)

    def issue(self) -> None:
        """Replace the certificate of all servers."""
        pair = self.issuer.issue("server", "127.0.0.1")
        os.replace(pair.key, self.folder / "server-key.pem")
        os.replace(pair.certificate, self.folder / "server.pem")

    async def replace_token(self, name: str) -> str:
        """Make another token for a caller, and put it into its file; the id of the one before, which still counts."""
        before = id_of(hash_of((self.folder / name).read_text()))
        token, role = new_token(), f"ROLE_{ROLES[name].upper()}"
        grant = access_service_pb2.Grant(role=access_service_pb2.Role.Value(role), pattern="*")
        request = access_service_pb2.CreateTokenRequest(name=name, grants=[grant], sha256=hash_of(token))
        async with self.channel("admin") as channel:
            await access_service_pb2_grpc.AccessServiceStub(channel).CreateToken(request, timeout=CALL_S)
        self.write_token(name, token)
        return before

    async def revoke(self, token_id: str) -> None:
        """Revoke a token."""
        request = access_service_pb2.RevokeTokenRequest(token_id=token_id)
        async with self.channel("admin") as channel:
            await access_service_pb2_grpc.AccessServiceStub(channel).RevokeToken(request, timeout=CALL_S)


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    """Provide services that speak TLS and ask for tokens, each with the token of its role."""
    issuer, url = Issuer(tmp_path / "issued"), f"sqlite:///{tmp_path}/store.db"
    tls = ClientTls(issuer.ca)
    calls = ("--tls-ca", issuer.ca)
    pair = ("--tls-certificate", f"{tmp_path}/server.pem", "--tls-key", f"{tmp_path}/server-key.pem")
    serves = ("--auth", "tokens", *pair)
    shows = {name: ("--token-file", f"{tmp_path}/{name}") for name in ROLES}
    system = System(
        tmp_path,
        database=url,
        engine=serves,
        executor=(*calls, *shows["executor"]),
        api=(*serves, *calls, *shows["api"]),
        tls=tls,
    )
    found = Guarded(system, tmp_path, issuer, tls)
    found.issue()
    store = open_store(url)
    store.upgrade()
    for name, role in ROLES.items():
        found.write_token(name, add_token(store, name, role))
    store.close()
    async with system:
        async with found.channel("admin") as channel:
            workflows = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
            await workflows.CreateDefinitions(
                workflow_service_pb2.CreateDefinitionsRequest(text=WORKFLOW), timeout=CALL_S
            )
        yield found


async def _run_pairs(guarded: Guarded, round_done: RoundDone) -> None:
    """Start executions and wait for their ends, over a channel that is kept and over new ones, for ever."""
    async with guarded.channel("anna") as kept:
        while True:
            stub = execution_service_pb2_grpc.ExecutionServiceStub(kept)
            started = (await stub.StartExecution(START(workflow="pair"), timeout=CALL_S)).execution
            async with guarded.channel("anna") as new:
                wait = execution_service_pb2.WaitExecutionRequest(execution_id=started.id)
                wait.timeout.FromSeconds(20)
                ended = await execution_service_pb2_grpc.ExecutionServiceStub(new).WaitExecution(wait, timeout=CALL_S)
            assert state_of(ended.execution) == "SUCCESS"
            await round_done()


async def test_no_call_fails_while_certificates_and_tokens_are_replaced(guarded: Guarded) -> None:
    """Servers get new certificates, and then the callers, the api and the executor new tokens, while executions are
    started, run and waited for: each old token still counts until nobody shows it, and not one call fails. What was
    begun with a token ends within 5 s of its revocation, though its caller has a new one."""
    async with guarded.channel("anna") as channel:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        asks = (await stub.StartExecution(START(workflow="asks"), timeout=CALL_S)).execution
        watching = stub.WatchExecution(execution_service_pb2.WatchExecutionRequest(execution_id=asks.id))
        await watching.read()

        async def call(round_done: RoundDone) -> None:
            await _run_pairs(guarded, round_done)

        load = SteadyLoad([call] * 3)
        try:
            await load.go_on()
            for _ in range(2):
                guarded.issue()
                await load.go_on()
            revoked = {}
            for name in ("anna", "api", "executor"):
                before = await guarded.replace_token(name)
                await load.go_on()
                await guarded.revoke(before)
                revoked[name] = time.monotonic()
                if name == "anna":
                    with suppress(grpc.aio.AioRpcError):
                        async with asyncio.timeout(10):
                            while await watching.read() is not grpc.aio.EOF:
                                pass  # a message that is not read keeps the end from coming
                    code, told = await watching.code(), await watching.details()
                    assert time.monotonic() - revoked[name] < 5
                    assert (code, "was revoked" in told) == (grpc.StatusCode.UNAUTHENTICATED, True)
                # What has to connect again has done so once the revocation counts, which is looked at every second.
                while time.monotonic() < revoked[name] + 1.5:
                    await load.go_on()
            await load.go_on()
        finally:
            await load.stop()
        read = execution_service_pb2.GetExecutionRequest(execution_id=asks.id)
        found = (await stub.GetExecution(read, timeout=CALL_S)).execution
        assert (found.state, load.rounds >= 30) == (execution_pb2.EXECUTION_STATE_RUNNING, True)
