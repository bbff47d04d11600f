"""A disk that is full under a SQLite store."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import grpc
from tests.integration.engines import until
from tests.processes import System, state_of

WORKFLOW = """
version: '2.0'
pair:
  tasks:
    a: {action: std.echo output=1, on-success: [b]}
    b: {action: std.noop}
"""


async def test_a_full_disk(tmp_path: Path) -> None:
    """The engine stays up and refuses with UNAVAILABLE while no file can grow, and then goes on with everything that it
    has confirmed."""
    begun: list[str] = []
    refused: list[grpc.StatusCode] = []
    stopped = asyncio.Event()

    async def start_on(system: System) -> None:
        number = 0
        while not stopped.is_set():
            try:
                begun.append(await system.begin("pair", request_id=f"number {number}"))
                number += 1
            except grpc.aio.AioRpcError as error:
                refused.append(error.code())
                await asyncio.sleep(0.05)

    async with System(tmp_path) as system:
        await system.define(WORKFLOW)
        starting = asyncio.create_task(start_on(system))
        await until(lambda: len(begun) > 10)
        before = resource.prlimit(system.engine.pid, resource.RLIMIT_FSIZE)
        size = (await asyncio.to_thread((tmp_path / "store.db-wal").stat)).st_size
        resource.prlimit(system.engine.pid, resource.RLIMIT_FSIZE, (size, before[1]))
        await until(lambda: len(refused) > 5)
        resource.prlimit(system.engine.pid, resource.RLIMIT_FSIZE, before)
        count = len(begun)
        await until(lambda: len(begun) > count + 10)
        stopped.set()
        await starting
        assert set(refused) == {grpc.StatusCode.UNAVAILABLE}
        for each in begun:
            assert state_of(await system.wait(each)) == "SUCCESS"
        assert len(set(begun)) == len(begun)
        assert system.findings() == []
