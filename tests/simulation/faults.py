"""The faults of a seed: what happens, when, and to whom.

All are drawn before the simulation begins, so that any of them can be left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from tests.simulation.engine_life import WITH_DELIVERIES, EngineLife
from tests.simulation.executor_script import ScriptedExecutor
from tests.simulation.stepped import Timeline

KINDS = (
    *("die before commit", "die after commit", WITH_DELIVERIES, "die now", "die in step"),
    *("commit lost before", "commit lost after", "commit conflicts", "commit breaks"),
    *("stand still", "stand still for long"),
    *("stop", "leave", "cut", "part"),
    *("executor dies", "executor stands still", "executor leaves", "executor answers twice"),
    *(
        "clock step",
        "database away",
        "database slow",
        "database hangs",
        "slow work",
        "slow messages",
        "slow definitions",
    ),
)
_SURE = (
    *("executor dies", "executor stands still", "executor leaves", "executor answers twice"),
    *("clock step", "database slow", "database hangs", "slow work", "slow messages", "slow definitions"),
)
"""These happen whenever they are due."""
_OFTEN = (
    "die before commit",
    "die after commit",
    WITH_DELIVERIES,
    "die now",
    "commit lost after",
    "stand still for long",
    "cut",
)


@dataclass(frozen=True)
class Fault:
    """One fault."""

    number: int
    kind: str
    at_s: float
    seed: str
    is_reserve: bool = False
    """Whether it happens only if few others have: a fault at a commit may find none."""


class Stage(Protocol):
    """What faults befall."""

    timeline: Timeline

    def alive(self) -> list[EngineLife]:
        """Return the engines that run."""
        ...

    @property
    def executors(self) -> list[ScriptedExecutor]:
        """Return all executors."""
        ...

    def give_up(self, address: int) -> None:
        """Have no engine start there again, unless executors need it."""
        ...

    def address_of(self, life: EngineLife) -> int:
        """Return the address at which an engine listens."""
        ...

    def note(self, kind: str) -> None:
        """Count a fault that has happened."""
        ...

    def set_database(self, *, is_absent: bool = False, slow_s: float = 0.0) -> None:
        """Have the database be away, or slow."""
        ...

    def hang(self, duration_s: float) -> None:
        """Have commits hang for a while."""
        ...

    def set_share(self, name: str, share: float) -> None:
        """Set how often something is slow."""
        ...


COUNT_MAX = 18
"""The most faults that are drawn for a seed, without the reserve."""
LEAST = 10
"""How many faults happen at least."""
RESERVE_S = 3.0
"""How long before the end of all faults the reserve begins."""


def faults_of(seed: int, count: int, from_s: float, until_s: float) -> list[Fault]:
    """Return the faults of a seed: `count` of them, and the reserve."""
    chance = random.Random(f"faults {seed}")
    times = sorted(from_s + chance.random() * (until_s - from_s) for _ in range(count))
    kinds = [*KINDS, *_OFTEN * 2]
    drawn = [Fault(number, chance.choice(kinds), at_s, f"fault {seed} {number}") for number, at_s in enumerate(times)]
    for number in range(COUNT_MAX, COUNT_MAX + LEAST):
        at_s = until_s - RESERVE_S * chance.random()
        drawn.append(Fault(number, chance.choice(_SURE), at_s, f"fault {seed} {number}", is_reserve=True))
    return drawn


def befall(fault: Fault, stage: Stage) -> None:
    """Have a fault happen."""
    chance = random.Random(fault.seed)
    lives = stage.alive()
    if fault.kind in _OF_ENGINES:
        if lives:
            _befall_engine(fault.kind, chance.choice(lives), chance, stage)
        return
    executor = chance.choice(stage.executors)
    later = stage.timeline.later
    match fault.kind:
        case "cut" | "part":
            if not executor.links:
                return
            link = chance.choice(executor.links)
            executor.part(link, chance.uniform(3.0, 12.0) if fault.kind == "part" else 0.0)
        case "executor dies":
            executor.restart(chance.uniform(0.1, 4.0))
        case "executor stands still":
            executor.freeze(chance.choice([1.0, 4.0, 12.0]))
        case "executor leaves":
            executor.say_goodbye(chance.uniform(0.1, 2.0))
        case "executor answers twice":
            executor.forgets_acks = 0.5
            later(chance.uniform(2.0, 6.0), lambda: setattr(executor, "forgets_acks", 0.0))
        case "clock step":
            stage.timeline.wall_shift_s += chance.choice([-3600.0, -20.0, -1.5, 0.8, 5.0, 60.0, 3600.0])
        case "database away":
            stage.set_database(is_absent=True)
            later(chance.choice([0.3, 2.0, 8.0]), stage.set_database)
        case "database slow":
            stage.set_database(slow_s=chance.choice([0.2, 2.0]))
            later(chance.choice([2.0, 6.0]), stage.set_database)
        case "database hangs":
            stage.hang(chance.choice([0.5, 3.0, 8.0]))
        case _:
            name = fault.kind.removeprefix("slow ")
            stage.set_share(name, 0.3)
            later(chance.uniform(1.0, 3.0), lambda: stage.set_share(name, -1.0))
    stage.note(fault.kind)


_OF_ENGINES = frozenset(KINDS[: KINDS.index("cut")])


def _befall_engine(kind: str, life: EngineLife, chance: random.Random, stage: Stage) -> None:
    match kind:
        case "die now":
            life.die("killed")
        case "die with deliveries":
            life.dies_with_deliveries = True
            return  # counted when it happens
        case "die in step":
            life.note.died = lambda: stage.note(kind)
            life.note.die_at = chance.randint(1, 6)
            return  # counted when it happens
        case "stand still":
            life.freeze(chance.uniform(0.1, 2.5))
        case "stand still for long":
            life.freeze(chance.choice([4.0, 5.0, 10.0, 20.0]))
        case "stop":
            life.stop()
        case "leave":
            stage.give_up(stage.address_of(life))
            if chance.random() < 0.5:
                life.die("killed")
            else:
                life.stop()
        case "commit breaks":
            life.store.faults += [""] * chance.randint(0, 3) + ["break before"] * chance.randint(1, 3)
            return  # counted when it happens
        case "commit conflicts":
            life.store.faults += [""] * chance.randint(0, 3) + ["conflict before"] * chance.randint(1, 2)
            return  # counted when it happens
        case _:
            life.store.faults += [""] * chance.randint(0, 3)
            life.store.faults.append(kind.replace("commit lost", "lose").removesuffix(" commit"))
            return  # counted when it happens
    stage.note(kind)
