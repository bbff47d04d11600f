"""The workload W14: what the gateway costs beside the api, and completions by webhook."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace

from tests.benchmarks.delegates import CALLERS, COMPLETED, ask, together
from tests.benchmarks.results import Result
from tests.benchmarks.services import Client, Services, resident_mb, settle
from tests.benchmarks.texts import Language
from tests.benchmarks.workloads import Spent, measured, tell

from dalsegno.engine.executors.tokens import Tokens
from dalsegno.rpc.tokens import TASK_TOKEN_KEY

ROUNDS = 10
CALLS = 200
"""In each round, of either kind: so both have the same machine."""
AT_ONCE = (1, 10)
"""Callers. When one waits for each answer, processes sleep between calls, and each call costs all of them more."""
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
    for count in AT_ONCE:
        async for result in _compared(services, client, address, execution_id, count):
            yield result
    await _complete(address, await _ask(services, client, FIRST))
    asked = await _ask(services, client, COMPLETED)
    tell(f"W14: {CALLERS} callers complete {COMPLETED:,} by webhook")
    with measured(services) as spent:
        spent.times_s = await _complete(address, asked)
    yield _with_memory(services, spent.result("W14 webhooks", COMPLETED, COMPLETED))


async def _compared(
    services: Services, client: Client, address: str, execution_id: str, count: int
) -> AsyncIterator[Result]:
    """Measure the same call of the api and by the gateway, by so many callers at once."""
    callers = [HttpCaller(address) for _ in range(count)]
    body = json.dumps({"executionId": execution_id}).encode()

    async def by_gateway(place: int) -> None:
        await callers[place].post("/dalsegno.v1.ExecutionService/GetExecution", body)

    async def by_api(place: int) -> None:
        await client.get(execution_id)

    calls = ROUNDS * CALLS
    tell(f"W14: {calls:,} calls each, {count} at once")
    direct, through = Spent(), Spent()
    for _ in range(ROUNDS):
        for spent, call in ((direct, by_api), (through, by_gateway)):
            await _repeated(services, spent, call, count)
    for caller in callers:
        await caller.close()
    told = f"{count} at once" if count > 1 else "one by one"
    yield direct.result(f"W14 calls of the api, {told}", calls, calls)
    yield _with_memory(services, through.result(f"W14 calls by the gateway, {told}", calls, calls))


async def _repeated(services: Services, spent: Spent, call: Callable[[int], Awaitable[None]], count: int) -> None:
    """Add what a round of calls by so many callers took."""

    async def repeat(place: int) -> None:
        for _ in range(CALLS // count):
            began_s = time.perf_counter()
            await call(place)
            spent.times_s.append(time.perf_counter() - began_s)

    with measured(services) as round_spent:
        await asyncio.gather(*map(repeat, range(count)))
    spent.wall_s += round_spent.wall_s
    spent.cpu_s += round_spent.cpu_s


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
