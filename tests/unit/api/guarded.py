"""An engine and an api that ask for tokens, in the process of the test, and callers with tokens of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tests.unit.api.conftest import stubs

from dalsegno.access.bearer import TokenFile, hash_of, id_of, new_token
from dalsegno.access.grants import Grant, write_grants
from dalsegno.api.service import Api
from dalsegno.api.settings import Settings as ApiSettings
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings as EngineSettings
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.options import Auth
from dalsegno.store.memory import MemoryStore
from dalsegno.store.token_rows import TokenRow
from dalsegno.v1 import executor_service_pb2_grpc, system_service_pb2_grpc


def add_token(store: Any, name: str, *grants: str, expires_s: float | None = None) -> str:
    """Store a new token, and return it."""
    token = new_token()
    sha256 = hash_of(token)
    written = write_grants(map(Grant.parse, grants))
    row = TokenRow(id_of(sha256), sha256.hex(), name, written, time.time(), expires_s, None, "test", "")
    with store.write() as transaction:
        transaction.add_token(row)
    return token


@dataclass
class Caller:
    """The services as one caller has them."""

    workflows: Any
    executions: Any
    actions: Any
    environments: Any
    access: Any
    system: Any
    executor: Any
    """ExecutorService, at the engine."""
    channel: grpc.aio.Channel
    """To the api."""
    engine: grpc.aio.Channel
    """To the engine."""


class Guarded:
    """The services of a system that asks for tokens."""

    def __init__(self, folder: Path, opened: AsyncExitStack) -> None:
        self.store = MemoryStore()
        self.engine: Engine
        self.api: Api
        self._folder = folder
        self._opened = opened

    def file(self, token: str) -> TokenFile:
        """Return the token in a file."""
        path = self._folder / id_of(hash_of(token))
        path.write_text(f"{token}\n")
        return TokenFile(str(path))

    async def start(self) -> None:
        """Start both, the api with a token of its own."""
        await self.start_engine()
        await self.start_api(token=self.file(add_token(self.store, "api", "service")))

    async def start_engine(self, **more: Any) -> None:
        """Start the engine, with these settings, too."""
        settings = EngineSettings(listen="127.0.0.1:0", grace_s=0.5, auth=Auth.TOKENS, **more)
        self.engine = Engine(settings, self.store, is_only_engine=True)
        await self.engine.start()
        self._opened.push_async_callback(self.engine.stop)

    async def start_api(self, **more: Any) -> None:
        """Start an api, with these settings, too."""
        engines = (f"127.0.0.1:{self.engine.port}",)
        settings = ApiSettings(listen="127.0.0.1:0", engines=engines, grace_s=0.5, auth=Auth.TOKENS, **more)
        self.api = Api(settings, self.store)
        await self.api.start()
        self._opened.push_async_callback(self.api.stop)

    async def caller(self, token: str) -> Caller:
        """Return the services as the holder of a token has them; empty: as one without."""
        shown = self.file(token) if token else None
        api = open_channel(f"127.0.0.1:{self.api.port}", token=shown)
        engine = open_channel(f"127.0.0.1:{self.engine.port}", token=shown)
        for each in (api, engine):
            self._opened.push_async_callback(each.close)
        return Caller(
            **stubs(api),
            system=system_service_pb2_grpc.SystemServiceStub(api),
            executor=executor_service_pb2_grpc.ExecutorServiceStub(engine),
            channel=api,
            engine=engine,
        )

    async def granted(self, *grants: str, name: str = "anna") -> Caller:
        """Return the services as a new caller with these roles has them."""
        return await self.caller(add_token(self.store, name, *grants))


@asynccontextmanager
async def guarded_system(folder: Path, *, is_started: bool = True) -> AsyncIterator[Guarded]:
    """Provide a system that asks for tokens, started unless the test does that."""
    async with AsyncExitStack() as opened:
        system = Guarded(folder, opened)
        if is_started:
            await system.start()
        yield system


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return the code and the text of a call that must be refused.

    A stream that is refused before its first message is read must send none: grpc tells its client INTERNAL if that
    message could not be sent any more.
    """
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call was not refused")
