"""What goes wrong, and when: each kind of fault has a chance of its own, made from the seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass

from tests.chaos.cluster import LEASE_S, Cluster, Kind
from tests.chaos.databases import Database

FREEZES_S = 9.0
"""The mean time between two freezes; and so on."""
HOLDS_S = 11.0
CLOCK_STEPS_S = 15.0
CUT_BYTES = 50_000
"""A connection that breaks does so after at most so many bytes."""
STEP_S = 900.0
AWAY_S = 1.0
"""How long a killed process is away, at most."""


@dataclass(frozen=True)
class Plan:
    """How much goes wrong."""

    seed: str
    lasts_s: float
    kills_s: float
    """The mean time between two kills of the same kind of process."""
    failovers: int = 3


class Faults:
    """Disturbs a cluster and its database."""

    def __init__(self, plan: Plan, cluster: Cluster, database: Database) -> None:
        self._plan = plan
        self._cluster = cluster
        self._database = database
        self.kills: Counter[Kind] = Counter()
        self.others: Counter[str] = Counter()
        """All other faults, by their names."""

    @property
    def failovers(self) -> int:
        """How often the primary was lost."""
        return sum(count for name, count in self.others.items() if name.startswith("failovers"))

    @property
    def told(self) -> str:
        """What was done so far, in one line."""
        kinds = ", ".join(f"{kind} {self.kills[kind]}" for kind in Kind)
        cuts = sum(each.cuts for each in self._cluster.cutters)
        others = "".join(f", {count} {name}" for name, count in self.others.items())
        return f"{self.kills.total()} kills ({kinds}), {cuts} cuts{others}"

    async def run(self) -> None:
        """Disturb until cancelled."""
        faults: list[Coroutine[None, None, None]] = [self._kill(kind) for kind in Kind]
        faults += [self._freeze(), self._hold(), self._step_clock(), self._lose_database()]
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(fault)

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed}/{name}")

    async def _kill(self, kind: Kind) -> None:
        chance = self._chance(f"kill {kind}")
        while True:
            await asyncio.sleep(chance.uniform(0.4, 1.6) * self._plan.kills_s)
            victim, away_s = chance.choice(self._cluster.of(kind)), chance.uniform(0, AWAY_S)
            if victim.is_frozen or not victim.is_running:
                continue
            victim.kill()
            self.kills[kind] += 1
            await asyncio.sleep(away_s)
            victim.start()

    async def _freeze(self) -> None:
        """Stop a process for longer than its lease, or than engines are patient with each other."""
        chance = self._chance("freeze")
        while True:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * FREEZES_S)
            victim, lasts_s = chance.choice(self._cluster.processes), LEASE_S + chance.uniform(0.5, 2.5)
            if not victim.is_running:
                continue
            victim.freeze()
            self.others[f"freezes of {victim.kind}s"] += 1
            await asyncio.sleep(lasts_s)
            victim.thaw()

    async def _hold(self) -> None:
        """Hold back what an engine sends to some."""
        chance = self._chance("hold")
        for each in self._cluster.cutters:
            each.bytes_max = CUT_BYTES
        while True:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * HOLDS_S)
            cutter, lasts_s = chance.choice(self._cluster.cutters), chance.uniform(0.5, 2 * LEASE_S)
            cutter.flows.clear()
            self.others["held connections"] += 1
            await asyncio.sleep(lasts_s)
            cutter.flows.set()

    async def _step_clock(self) -> None:
        chance = self._chance("clock")
        while True:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * CLOCK_STEPS_S)
            self._cluster.clock.write_text(str(round(chance.uniform(-STEP_S, STEP_S), 3)))
            self.others["clock steps"] += 1

    async def _lose_database(self) -> None:
        """Fail over at equal intervals, every second time from a primary that goes on; restart it in between."""
        chance, plan, database = self._chance("database"), self._plan, self._database
        every_s = plan.lasts_s / (plan.failovers + 1)
        for number in range(plan.failovers if database.can_be_lost else 0):
            await asyncio.sleep(chance.uniform(0.4, 0.6) * every_s)
            if number:
                await database.restart()
                self.others["restarts of the database"] += 1
            await asyncio.sleep(chance.uniform(0.4, 0.5) * every_s)
            is_cut = number % 2 == 1
            await database.fail_over(is_cut=is_cut)
            self.others["failovers from a cut primary" if is_cut else "failovers from a killed primary"] += 1
        await asyncio.Event().wait()
