"""The workload W14: what the gateway costs beside the api, and completions by webhook."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from dataclasses import replace

from tests.benchmarks.delegates import CALLERS, COMPLETED, ask, together
from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services, resident_mb, settle
from tests.benchmarks.texts import Language
from tests.benchmarks.workloads import Spent, measured, tell

from dalsegno.engine.executors.tokens import Tokens
from dalsegno.rpc.tokens import TASK_TOKEN_KEY

CALLS = 2_000
"""Of either kind, one by one and in turn. So the api waits as long before a call of either kind: a call after a pause
of 1 ms takes more of its processor time than one that comes at once (3 and 20 % in two measurements)."""
FIRST = 200
"""So many are completed before anything is measured."""


class HttpCaller:
    """One connection of HTTP/1.1 that is kept, with little work of its own."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> bytes:
        """Send JSON, and return the body of the answer. RuntimeError unless it is 200."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, int(self._port))
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in headers if line.startswith("content-length:"))
        answer = await reader.readexactly(length)
        if " 200" not in status:
            raise RuntimeError(f"{status}: {answer.decode()}")
        return answer

    async def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


async def measure_gateway(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W14: a call that reads an execution, by gRPC from the api and by JSON from the gateway; then 50 callers that
    complete delegates by webhook. The same for both languages, so measured for one."""
    if language.suffix:
        return
    address = services.spawn_gateway()
    await client.define(language.asking, language.document_name("asking"))
    await settle(services)
    execution_id = await client.start("asking")
    for result in await _compared(services, client, address, execution_id):
        yield result
    await _complete(address, await _ask(services, client, FIRST))
    asked = await _ask(services, client, COMPLETED)
    tell(f"W14: {CALLERS} callers complete {COMPLETED:,} by webhook")
    with measured(services) as spent:
        spent.times_s = await _complete(address, asked)
    yield _with_memory(services, spent.result("W14 webhooks", COMPLETED, COMPLETED))


async def _compared(services: Services, client: Client, address: str, execution_id: str) -> list[Result]:
    """Return what the same call takes of the api and by the gateway. What the api takes for both is shared equally."""
    caller, body = HttpCaller(address), json.dumps({"executionId": execution_id}).encode()
    direct, through = Spent(), Spent()
    tell(f"W14: {CALLS:,} calls each")
    with measured(services) as spent:
        for _ in range(CALLS):
            began_s = time.perf_counter()
            await client.get(execution_id)
            called_s = time.perf_counter()
            await caller.post("/dalsegno.v1.ExecutionService/GetExecution", body)
            direct.times_s.append(called_s - began_s)
            through.times_s.append(time.perf_counter() - called_s)
    await caller.close()
    of_gateway_s = spent.shares["gateway"]
    direct.cpu_s = (spent.cpu_s - of_gateway_s) / 2
    through.cpu_s = direct.cpu_s + of_gateway_s
    for each in (direct, through):
        each.wall_s = sum(each.times_s)
    by_gateway = _with_memory(services, through.result("W14 call by the gateway", CALLS, CALLS))
    return [direct.result("W14 call of the api", CALLS, CALLS), by_gateway]


def _with_memory(services: Services, result: Result) -> Result:
    """Add the memory of the gateway alone."""
    gateway_mb = resident_mb({"gateway": services.pids["gateway"]})
    return replace(result, rss_mb=gateway_mb)


async def _ask(services: Services, client: Client, count: int) -> list[str]:
    """Return the task tokens of so many actions that wait for a third party."""
    with closing(sqlite3.connect(f"file:{services.database}?mode=ro", uri=True)) as store:
        (key,) = store.execute("SELECT value FROM settings WHERE key = ?", (TASK_TOKEN_KEY,)).fetchone()
    tokens = Tokens(key)
    return [tokens.make(action, 1) for action in await ask(services, client, count)]


async def _complete(address: str, tokens: Iterable[str]) -> list[float]:
    """Complete actions, 50 callers at once. Return how long each call took, in seconds."""
    callers: asyncio.Queue[HttpCaller] = asyncio.Queue()
    for _ in range(CALLERS):
        callers.put_nowait(HttpCaller(address))

    async def complete(token: str) -> float:
        caller = callers.get_nowait()
        began_s = time.perf_counter()
        await caller.post(f"/hooks/token/{token}", b'{"approved": true}')
        callers.put_nowait(caller)
        return time.perf_counter() - began_s

    times_s = await together(CALLERS, tokens, complete)
    await asyncio.gather(*(callers.get_nowait().close() for _ in range(CALLERS)))
    return times_s
