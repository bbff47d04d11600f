"""Clocks of machines are set by hours: nothing with a time limit or a delay begins or ends earlier or later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.engines import ScriptedExecutor, until
from tests.postgres import NoPostgres, run_postgres
from tests.processes import Service, System, state_of

from dalsegno.v1 import execution_pb2

HOURS_S = 7200.0
LENGTH_S = 4.0
SLACK_S = 2.5
"""What a busy machine may add."""

LEASE = ("--lease-s", f"{LENGTH_S:g}", "--heartbeat-s", "0.5")
LAUNCHER = Path(__file__).parents[1] / "settable_clock.py"

TIMED = f"""
version: '2.0'
delayed:
  tasks:
    t: {{action: std.noop, wait-before: {LENGTH_S:g}}}
retried:
  tasks:
    t: {{action: std.fail, retry: {{count: 1, delay: {LENGTH_S:g}}}}}
limited:
  tasks:
    t: {{action: std.sleep seconds=600, timeout: {LENGTH_S:g}, on-error: mend}}
    mend: {{action: std.noop}}
ample:
  tasks:
    t: {{action: std.sleep seconds={LENGTH_S:g}, timeout: 600}}
calm:
  tasks:
    t: {{action: std.sleep seconds={LENGTH_S:g}}}
endless:
  tasks:
    t: {{action: std.sleep seconds=600}}
held:
  tasks:
    t: {{action: test.held, safe-rerun: true}}
"""


class SettableClock:
    """The clock of all machines of a system."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set_by(0)

    def set_by(self, seconds: float) -> None:
        """It shows so much more than it should."""
        replaced = self._file.with_suffix(".new")
        replaced.write_text(f"{seconds}")
        replaced.replace(self._file)

    def keep(self, *services: Service) -> None:
        """These go by it."""
        for service in services:
            service.launcher = (str(LAUNCHER), str(self._file))


@asynccontextmanager
async def timed_system(folder: Path, database: str = "") -> AsyncIterator[tuple[System, SettableClock]]:
    """An engine and an executor whose clocks are set together, and an api."""
    system, clock = System(folder, database=database, engine=LEASE), SettableClock(folder)
    clock.keep(system.engine, system.executor)
    async with system:
        await system.define(TIMED)
        yield system, clock
        assert system.findings() == []


class Course:
    """Executions of every kind of duration, all begun at once."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.ids: dict[str, str] = {}
        self.began_s = 0.0
        self.later_s: dict[str, float] = {}
        """How much later than the first one each was begun."""
        self.took_s: dict[str, float] = {}
        self.ended: dict[str, execution_pb2.Execution] = {}
        self._waiting: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Begin all; and once each waits for its time, time how long that is, by a clock that nobody sets."""
        self.began_s = time.monotonic()
        deadline = Timestamp()
        deadline.FromNanoseconds(time.time_ns() + int(LENGTH_S * 1e9))
        for name in ("endless", "delayed", "retried", "limited", "ample", "calm"):
            self.later_s[name] = time.monotonic() - self.began_s
            more = {"deadline": deadline} if name == "endless" else {}
            self.ids[name] = await self.system.begin(name, **more)
        for name in ("ample", "calm", "limited", "endless"):
            await self.system.until(self.ids[name], lambda change: change.attempt_moved.delivery)
        await self.system.until(self.ids["retried"], lambda change: change.task_moved.HasField("next_at"))
        self._waiting = [asyncio.create_task(self._time(name)) for name in self.ids]

    async def _time(self, name: str) -> None:
        self.ended[name] = await self.system.wait(self.ids[name])
        self.took_s[name] = time.monotonic() - self.began_s

    async def end(self, *, ample: str = "SUCCESS") -> None:
        """Wait for all, and check how each ended."""
        await asyncio.gather(*self._waiting)
        states = {name: state_of(execution) for name, execution in self.ended.items()}
        assert states == {
            "delayed": "SUCCESS",
            "retried": "ERROR",
            "limited": "SUCCESS",
            "ample": ample,
            "calm": "SUCCESS",
            "endless": "ERROR",
        }
        assert "deadline" in self.ended["endless"].state_info
        for name, execution_id in self.ids.items():
            times = [change.at.ToNanoseconds() for change in await self.system.journal(execution_id)]
            assert times == sorted(times), name


@pytest.mark.parametrize("step_s", [HOURS_S, -HOURS_S])
async def test_clocks_are_set_while_all_run(tmp_path: Path, step_s: float) -> None:
    """A delay, a retry's delay, a task's timeout, an action's own time, a deadline: each lasts what it should."""
    async with timed_system(tmp_path) as (system, clock):
        course = Course(system)
        await course.begin()
        clock.set_by(step_s)
        await course.end()
        for name, took_s in course.took_s.items():
            assert LENGTH_S - 0.2 <= took_s <= LENGTH_S + SLACK_S, (name, course.took_s)
        for name, execution in course.ended.items():
            counted_s = (execution.ended_at.ToNanoseconds() - execution.started_at.ToNanoseconds()) / 1e9
            assert counted_s == pytest.approx(course.took_s[name] - course.later_s[name], abs=1), name
        log = system.engine.log.read_text()
        assert log.count("clock was set") == 1
        assert f"{step_s:+.0f}." in log or f"{step_s - 1:+.0f}." in log

        # What begins now goes by the same time, and a deadline by what clocks show now.
        before = course.ended["ample"].ended_at.ToNanoseconds()
        deadline = Timestamp()
        deadline.FromNanoseconds(time.time_ns() + int((step_s + 3.0) * 1e9))
        began_s = time.monotonic()
        late = await system.run("endless", deadline=deadline)
        assert 2.8 <= time.monotonic() - began_s <= 3.0 + SLACK_S
        assert before < late.created_at.ToNanoseconds() < before + 60e9


async def test_clocks_are_set_back_while_the_engine_is_stopped(tmp_path: Path) -> None:
    """What was left is left: time continues from the newest that was counted."""
    async with timed_system(tmp_path) as (system, clock):
        course = Course(system)
        await course.begin()
        system.engine.kill()
        clock.set_by(-HOURS_S)
        await system.engine.start()
        again_s = time.monotonic() - course.began_s
        await course.end()
        for name, took_s in course.took_s.items():
            assert took_s <= again_s + LENGTH_S + SLACK_S, (name, course.took_s)
            assert took_s >= LENGTH_S - 1.2, (name, course.took_s)
        assert "set back while no engine ran" in system.engine.log.read_text()


async def test_clocks_are_set_forward_while_the_engine_is_stopped(tmp_path: Path) -> None:
    """That is a long stop: what was due in it is due at once, and nobody loses his lease for it."""
    async with timed_system(tmp_path) as (system, clock):
        course = Course(system)
        await course.begin()
        system.engine.kill()
        clock.set_by(HOURS_S)
        await system.engine.start()
        again_s = time.monotonic() - course.began_s
        await course.end(ample="ERROR")
        for name in ("delayed", "retried", "limited", "ample", "endless"):
            assert course.took_s[name] <= again_s + SLACK_S, (name, course.took_s)
        (attempt,) = await system.attempts(course.ids["calm"])
        assert attempt.delivery == 1


@pytest.mark.parametrize("step_s", [HOURS_S, -HOURS_S])
async def test_a_lease_lasts_what_it_should(tmp_path: Path, step_s: float) -> None:
    """The clock is set after an executor was last heard: its work goes to another when the lease is over."""
    async with timed_system(tmp_path) as (system, clock):
        actions = (("test.held", True),)
        address = system.engine.address
        async with ScriptedExecutor(address, lambda run: None, executor_id="one", actions=actions) as one:
            await until(lambda: one.welcomes)
            execution_id = await system.begin("held")
            await until(lambda: one.received)
            await asyncio.sleep(LENGTH_S + 1)  # the engine has run for longer than a lease: it may end one
            await one.die()
            began_s = time.monotonic()
            clock.set_by(step_s)
            async with ScriptedExecutor(address, executor_id="two", actions=actions) as two:
                await until(lambda: two.received, timeout_s=20)
                assert LENGTH_S - 1.5 <= time.monotonic() - began_s <= LENGTH_S + SLACK_S
                assert two.received[0].delivery == 2
                assert state_of(await system.wait(execution_id)) == "SUCCESS"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    try:
        with run_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("step_s", [HOURS_S, -HOURS_S])
async def test_the_clock_of_postgres_is_set(tmp_path: Path, postgres_url: str, step_s: float) -> None:
    """Two engines go by it; each is killed and comes back, one of them at once: all these lives count alike."""
    async with timed_system(tmp_path, postgres_url) as (system, clock):
        (tmp_path / "other").mkdir()
        other = Service("engine", tmp_path / "other", ["--database", postgres_url, "--grace-s", "2", *LEASE])
        clock.keep(other)
        await other.start()
        try:
            course = Course(system)
            await course.begin()
            clock.set_by(step_s)
            other.kill()
            await other.start()
            system.engine.kill()
            await system.engine.start()
            await course.end()
        finally:
            other.stop()
        for name, took_s in course.took_s.items():
            assert LENGTH_S - 0.2 <= took_s <= LENGTH_S + 2 * SLACK_S, (name, course.took_s)
        logs = system.engine.log.read_text() + other.log.read_text()
        assert logs.count("clock was set") == 1
