"""The engine as a whole: what it does again and again, what it says of itself, and how it stops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
import pytest_asyncio
from tests.integration.engines import until
from tests.unit.engine.test_conductor import FragileStore, Rig, Start

from dalsegno.engine import service
from dalsegno.engine.batches.work import DropUnusedWorkflows, Work
from dalsegno.engine.desk.requests import PruneRequests
from dalsegno.engine.executors.progress import WriteProgress
from dalsegno.engine.executors.sessions import KeepLeases
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings
from dalsegno.engine.timers import Poll
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import Progress
from dalsegno.store.store import StoreUnreachable
from dalsegno.workflow.refusals import Unavailable

LEASE_S = 15.0


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    """Provide an engine that runs."""
    made = Engine(Settings(listen="127.0.0.1:0", grace_s=0.2, lease_s=LEASE_S), MemoryStore(), is_only_engine=True)
    await made.start()
    yield made
    await made.stop()


async def test_what_is_done_each_second_and_what_more_seldom(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases and messages are looked at each time; orphans, old requests and unused definitions once in a number of
    times, and progress when there is some."""
    put: list[Work] = []
    for task in engine._tasks:
        task.cancel()  # its own look of each second, above all
    monkeypatch.setattr(engine.conductor, "put", put.append)
    monkeypatch.setattr(engine.conductor, "put_first", put.append)
    monkeypatch.setattr(engine.conductor, "has", lambda kind: False)
    for name, count in (("SWEEP", 3), ("PRUNE", 4), ("DROP", 5)):
        monkeypatch.setattr(service, f"{name}_EVERY_TICKS", count)
    monkeypatch.setattr(service, "TICK_S", 0.001)
    engine._board.note("e", (1, 0, 1), Progress("half", 0.5))
    ticking = asyncio.create_task(engine._tick())
    await until(lambda: sum(isinstance(each, KeepLeases) for each in put) >= 10)
    ticking.cancel()
    kinds: list[list[type[Work]]] = []
    for work in put:
        if isinstance(work, KeepLeases):
            kinds.append([])
        kinds[-1].append(type(work))
    expected = [
        [
            *(KeepLeases, WriteProgress, Poll),
            *([PruneRequests] if tick % 4 == 0 else ()),
            *([DropUnusedWorkflows] if tick % 5 == 0 else ()),
        ]
        for tick in range(10)
    ]
    assert kinds[:10] == expected
    sweeps = [each._sweep for each in put if isinstance(each, KeepLeases)]
    assert sweeps[:9] == [False, False, True] * 3


async def test_what_is_repeated_waits_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch takes long, each second adds nothing that waits already: thirty looks at the leases in one batch
    declared each delivery of a dead executor lost thirty times. A sweep that was due is made up for."""
    for task in engine._tasks:
        task.cancel()
    monkeypatch.setattr(service, "SWEEP_EVERY_TICKS", 2)
    monkeypatch.setattr(service, "PRUNE_EVERY_TICKS", 10_000)
    monkeypatch.setattr(service, "DROP_EVERY_TICKS", 10_000)
    monkeypatch.setattr(service, "TICK_S", 0.001)
    ticks: list[float] = []
    monkeypatch.setattr(engine._executors, "end_unanswered", lambda: ticks.append(0.0))
    monkeypatch.setattr(engine, "_may_end", lambda: True)
    engine._board.note("e", (1, 0, 1), Progress("half", 0.5))
    await until(lambda: not (engine.conductor._is_busy or engine.conductor._queue))
    engine.conductor._is_busy = True  # what is put waits
    ticking = asyncio.create_task(engine._tick())
    await until(lambda: len(ticks) >= 10)
    waiting = list(engine.conductor._queue)
    assert sorted(type(each).__name__ for each in waiting if each.is_periodic) == [
        *("DropUnusedWorkflows", "KeepLeases", "Poll", "PruneRequests", "WriteProgress")
    ]
    engine.conductor._begun, seen = waiting, len(ticks)
    engine.conductor._queue.clear()
    await until(lambda: len(ticks) >= seen + 5)
    assert not engine.conductor._queue, "what is carried out is not put again"
    engine.conductor._begun = ()
    await until(lambda: engine.conductor.has(KeepLeases))
    ticking.cancel()
    (leases,) = (each for each in engine.conductor._queue if isinstance(each, KeepLeases))
    assert leases._sweep
    engine.conductor._is_busy = False
    engine.conductor._wake()


async def test_leases_end_when_every_executor_could_be_heard(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a lease time after the start, after an outage, after a jump of the clock, and after a standstill of the
    process; while the store is lost it is not so. Then executors that do not answer are ended."""
    clock, readiness = engine._clock, engine.conductor.readiness
    began_s, now = engine._heard_from_s, [engine._heard_from_s]
    monkeypatch.setattr(clock, "_steady", lambda: now[0])
    for task in engine._tasks:
        task.cancel()

    def may_end(after_s: float) -> bool:
        now[0] = engine._ticked_s = began_s + after_s
        return engine._may_end()

    assert [may_end(LEASE_S - 0.1), may_end(LEASE_S)] == [False, True]
    assert engine._hearing_since_s() == pytest.approx(clock.now_s() - LEASE_S)
    readiness.recovered_s = began_s + 1
    assert [may_end(LEASE_S), may_end(LEASE_S + 1)] == [False, True]
    clock.settled_s = began_s + 2
    assert [may_end(LEASE_S + 1), may_end(LEASE_S + 2)] == [False, True]
    engine._ticked_s -= service.MISSED_S + 1
    assert not engine._may_end()
    readiness.lost = "gone"
    assert not may_end(LEASE_S + 2)
    readiness.lost = ""

    monkeypatch.setattr(service, "TICK_S", 0.001)
    ended: list[float] = []
    monkeypatch.setattr(engine._executors, "end_unanswered", lambda: ended.append(now[0]))
    ticking = asyncio.create_task(engine._tick())
    await until(lambda: ended)
    now[0] += service.MISSED_S + 1
    await until(lambda: engine._heard_from_s == now[0])
    ticking.cancel()
    assert now[0] not in ended


async def test_a_store_that_cannot_be_read_is_unavailable_to_callers(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who checks a caller's token gets what was read, or learns to come again."""
    assert await engine._read(lambda queries: queries.sessions()) == []

    def fail() -> object:
        raise StoreUnreachable("it is gone")

    monkeypatch.setattr(engine._store, "read", fail)
    with pytest.raises(Unavailable, match="the store cannot be read"):
        await engine._read(lambda queries: queries.sessions())


async def test_health_says_why_the_store_is_not_written(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each change; and when the engine stops it is not ready, whatever the store does."""
    told: list[tuple[bool, str]] = []

    async def set_ready(is_ready: bool, reason: str = "") -> None:
        told.append((is_ready, reason))

    monkeypatch.setattr(engine._server, "set_ready", set_ready)
    monkeypatch.setattr(service, "LOOK_S", 0.001)
    for task in engine._tasks:
        task.cancel()
    looking = asyncio.create_task(engine._keep_readiness())
    await until(lambda: told)
    engine.conductor.readiness.lost = "the disk is full"
    await until(lambda: len(told) == 2)
    engine.conductor.readiness.lost = ""
    await until(lambda: len(told) == 3)
    await asyncio.sleep(0.01)
    looking.cancel()
    await engine.stop()
    assert told == [(True, ""), (False, "the disk is full"), (True, ""), (False, "")]
    assert not engine.conductor._thread.is_alive()


async def test_an_engine_that_was_ended_waits_for_nobody(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """It says so once, and stops without the time that executors have otherwise."""
    engine._note_end()
    engine._note_end()
    assert [record.levelno for record in caplog.records if "has ended engine" in record.getMessage()] == [
        logging.CRITICAL
    ]
    graces: list[float] = []

    async def drain(grace_s: float) -> None:
        graces.append(grace_s)

    with patch.object(engine._executors, "drain", drain):
        await engine.stop()
    assert graces == [0.0]


async def test_an_answer_that_cannot_be_given_is_no_concern_of_others(caplog: pytest.LogCaptureFixture) -> None:
    """What fails while the callers of a batch are answered is in the log, and the other callers get their answers.
    What killed engines waits until an engine has run for a while, from its start on."""
    rig = Rig(FragileStore())
    rig.define()
    answered: list[Work] = []

    class Answered(Start):
        def done(self) -> None:
            answered.append(self)
            if len(answered) == 1:
                raise ValueError("no")

    rig.conductor.start()
    assert rig.conductor._calm_s > time.monotonic()
    for number in range(2):
        rig.conductor.put(Answered(number))
    await until(lambda: len(answered) == 2)
    await rig.conductor.stop(5.0)
    assert "a callback failed" in caplog.text
    assert not rig.conductor._thread.is_alive()
