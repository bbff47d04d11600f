"""Hostile expressions in real services, beside a canary: each ends with a value or with an expression error."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.canary import NAME, TEXT, Canary, singing
from tests.hostile.exam import Case, Outcome, Tally, judge_here
from tests.hostile.texts import cases
from tests.hostile.values import SHORTER
from tests.pool_templates import name_of
from tests.processes import System, state_of

from dalsegno.v1 import execution_pb2

TOGETHER = 5
"""So many expressions are in one execution, each in a task of its own: they share what they work on."""
AT_ONCE = 4
"""So many executions run at the same time."""
END_S = 600.0
LOOK_EVERY_S = 0.5
ENGINE_MIB = 400
POOL_MIB = 1024


@dataclass
class Report:
    """What came of them."""

    tally: Tally = field(default_factory=Tally)
    ends: Counter[str] = field(default_factory=Counter)
    """How many of the expressions gave a value, and how many an error."""
    engine_mib: int = 0
    """The most that the engine had."""
    pool_mib: int = 0
    """The most that its evaluation processes had together, what they share counted once."""
    canary: Canary | None = None
    took_s: float = 0.0

    def canary_s(self, share: float) -> float:
        """The time within which this share of the canaries ended."""
        assert self.canary is not None
        times = sorted(self.canary.times_s)
        return times[min(len(times) - 1, int(len(times) * share))]

    def __str__(self) -> str:
        assert self.canary is not None
        ends = ", ".join(f"{count} {name}" for name, count in sorted(self.ends.items()))
        return (
            f"{self.tally}\nin the engine: {ends} in {self.took_s:.0f} s; {len(self.canary.times_s)} canaries: p50 "
            f"{self.canary_s(0.5):.3f} s, p99 {self.canary_s(0.99):.3f} s, worst {self.canary_s(1):.3f} s; at most "
            f"{self.engine_mib} MiB in the engine, {self.pool_mib} MiB in the pool"
        )


def draw(count: int, start: int) -> list[Case]:
    """So many expressions that can be compiled."""
    drawn: list[Case] = []

    @seed(start)
    @settings(
        max_examples=2 * count + 50,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def take(case: Case) -> None:
        if len(drawn) < count and judge_here(case).kind != "refused":
            drawn.append(case)

    take()
    assert len(drawn) == count
    return drawn


async def run_in_engine(system: System, drawn: Sequence[Case]) -> Report:
    """Run all of them. Raises AssertionError when one ends otherwise, or the engine dies."""
    report = Report()
    for case in drawn:
        report.tally.note(case, judge_here(case))
    await system.define(TEXT)
    groups = await _define(system, drawn)
    gc.collect()
    gc.freeze()  # what was drawn is much: collecting it would stop the process that measures the canary
    pid, began_s = system.engine.pid, time.monotonic()
    room = asyncio.Semaphore(AT_ONCE)

    async def run(name: str, group: Sequence[Case]) -> None:
        async with room:
            execution_id = await system.begin(name, SHORTER)
            execution = await system.wait(execution_id, timeout_s=END_S)
            for case, outcome in zip(group, await _outcomes(system, execution, len(group)), strict=True):
                report.ends[outcome.kind] += 1
                assert outcome.kind in ("value", "error"), f"{outcome}: {case}"

    async with _watched(system, report), singing(lambda: _canary_run(system)) as report.canary:
        await asyncio.gather(*(run(name, group) for name, group in groups.items()))
    report.took_s = time.monotonic() - began_s
    assert system.engine.is_running
    assert system.engine.pid == pid, "the engine has died and was started again"
    return report


async def _canary_run(system: System) -> None:
    execution = await system.run(NAME)
    assert state_of(execution) == "SUCCESS", execution.state_info


async def _define(system: System, drawn: Sequence[Case]) -> dict[str, Sequence[Case]]:
    """A workflow for each group of expressions, of their language, by its name."""
    groups: dict[str, Sequence[Case]] = {}
    for language in ("mistral", "orquesta"):
        chosen = [case for case in drawn if case.language == language]
        for start in range(0, len(chosen), TOGETHER):
            name = f"hostile.{language}{start}"
            groups[name] = chosen[start : start + TOGETHER]
            texts = [f"<% {case.text} %>" if case.notation == "yaql" else case.text for case in groups[name]]
            await system.define(json.dumps(_DOCUMENTS[language](name, texts)), name=name)
    return groups


def _mistral(name: str, texts: Sequence[str]) -> object:
    tasks = {f"t{n}": {"action": "std.noop", "publish": {f"x{n}": text}} for n, text in enumerate(texts)}
    return {"version": "2.0", name: {"input": [*SHORTER], "tasks": tasks}}


def _orquesta(name: str, texts: Sequence[str]) -> object:
    tasks = {
        f"t{n}": {"action": "core.noop", "next": [{"publish": [{f"x{n}": text}], "do": ["noop"]}]}
        for n, text in enumerate(texts)
    }
    return {"version": 1.0, "input": [*SHORTER], "tasks": tasks}


_DOCUMENTS = {"mistral": _mistral, "orquesta": _orquesta}


async def _outcomes(system: System, execution: execution_pb2.Execution, count: int) -> list[Outcome]:
    """What came of each task's expression."""
    assert state_of(execution) in ("SUCCESS", "ERROR"), execution
    tasks = {task.name: task for task in await system.tasks(execution.id)}
    return [_outcome(tasks[f"t{number}"], execution) for number in range(count)]


def _outcome(task: execution_pb2.TaskExecution, execution: execution_pb2.Execution) -> Outcome:
    told = f"{task.state_info} {execution.state_info} {execution.errors}"
    if state_of(task) == "SUCCESS" and task.published:
        return Outcome(kind="value")
    if state_of(execution) == "ERROR" and ("cannot" in told or "too large" in told):
        return Outcome(kind="error", error=told)
    return Outcome(kind=state_of(task), error=told)


@asynccontextmanager
async def _watched(system: System, report: Report) -> AsyncIterator[None]:
    """Note the most memory that the engine and its evaluation processes have meanwhile."""

    async def look() -> None:
        while True:
            report.engine_mib = max(report.engine_mib, resident_mib(system.engine.pid))
            report.pool_mib = max(report.pool_mib, sum(map(proportional_mib, pool_of(system.engine.pid))))
            await asyncio.sleep(LOOK_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def resident_mib(pid: int) -> int:
    """The resident memory of a process, in MiB; 0 when it has ended."""
    return _kib(Path(f"/proc/{pid}/status"), "VmRSS:") // 1024


def proportional_mib(pid: int) -> int:
    """The same, with what it shares with others counted in parts."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") // 1024


def _kib(file: Path, label: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(label)), 0)


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on."""
    try:
        told = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for words in told for child in words]
    return [*children, *(each for child in children for each in descendants(child))]


def pool_of(engine: int) -> list[int]:
    """The evaluation processes of an engine, and their template: its descendants, or those with their name."""
    found = descendants(engine)
    for file in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if file.read_text().strip() == name_of(engine):
                found.append(int(file.parent.name))
    return found
