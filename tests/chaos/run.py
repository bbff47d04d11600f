"""A run of the chaos: load and faults for some minutes, then peace, then the checker."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.checker import Verdict, check
from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster, Kind
from tests.chaos.databases import Database
from tests.chaos.faults import Faults, Plan
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.records import LEDGER
from tests.chaos.third_party import ThirdParty

REPORT_S = 10.0
PEACE_S = 60.0
"""When nothing goes wrong any more, an execution must come to rest at least this often, until all have."""
WATCH_S = 0.2


@dataclass(frozen=True)
class Quota:
    """What a run must have done before it ends, also if its time is over."""

    kills: int = 0
    """Of each kind of process."""
    failovers: int = 0


class Chaos:
    """One run, in a folder."""

    def __init__(self, plan: Plan, quota: Quota, database: Database, folder: Path, at_once: int) -> None:
        self._plan = plan
        self._quota = quota
        self._database = database
        self._folder = folder
        self._began_s = time.monotonic()
        self._ledger = Ledger(folder / LEDGER)
        self._cluster = Cluster(folder, database.url, engines=database.engines, seed=plan.seed)
        self._clients = Clients(self._cluster, self._ledger, random.Random(f"{plan.seed}/clients"))
        self._load = Load(self._clients, plan.seed, at_once)
        gateway = f"http://{self._cluster.gateway.address}"
        self._third_party = ThirdParty(self._clients, self._cluster.side_logs, gateway, plan.seed)
        self.faults = Faults(plan, self._cluster, database)

    async def run(self) -> Verdict:
        """Run it; what the checker finds."""
        async with self._cluster, self._clients, _beside(self._watch, self._report, self._third_party.follow):
            await self._load.define()
            await self._disturb()
        self._ledger.close()
        self._tell("checking")
        return await asyncio.to_thread(check, self._database.url, self._folder)

    async def _disturb(self) -> None:
        load = asyncio.create_task(self._load.run())
        async with _beside(self.faults.run):
            while not load.done() and not self._is_enough():
                await asyncio.wait([load], timeout=WATCH_S)
        await self._database.settle()
        self._tell("nothing goes wrong any more")
        self._cluster.heal()
        self._load.end()
        ended = -1
        while not load.done() and ended < self._load.ended:
            ended = self._load.ended
            await asyncio.wait([load], timeout=PEACE_S)
        if load.done():
            return load.result()
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        waiting = "; ".join(list(self._load.waits_for.values())[:5])
        self._tell(f"{len(self._load.waits_for)} executions do not come to rest within {PEACE_S:g} s: {waiting}")

    def _is_enough(self) -> bool:
        faults, quota = self.faults, self._quota
        is_over = time.monotonic() - self._began_s > self._plan.lasts_s
        return (
            is_over and all(faults.kills[kind] >= quota.kills for kind in Kind) and faults.failovers >= quota.failovers
        )

    async def _watch(self) -> None:
        while True:
            self._cluster.start_what_ended()
            await asyncio.sleep(WATCH_S)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            load = self._load
            self._tell(f"{load.begun} begun, {load.ended} ended, {self._third_party.lines} lines; {self.faults.told}")

    def _tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._began_s:6.0f} s  {text}", flush=True)

    def summary(self) -> str:
        """What was done, in lines."""
        lives = ", ".join(f"{count} {life}" for life, count in self._load.lives.items())
        trouble = ", ".join(f"{count} {name}" for name, count in self._clients.trouble.most_common())
        ended = ", ".join(f"{count} {name}" for name, count in self._cluster.by_themselves.items())
        return "\n".join(
            [
                f"faults      {self.faults.told}",
                f"lives       {lives}",
                f"asked again {trouble or 'never'}",
                f"ended by themselves and started again: {ended or 'none'}",
            ]
        )


@contextlib.asynccontextmanager
async def _beside(*works: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Do all of these beside the block; an error of one ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for work in works]
        yield
        for task in tasks:
            task.cancel()
