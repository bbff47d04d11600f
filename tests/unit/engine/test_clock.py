"""The time that engines count: whoever sets the store's clock moves nothing, and all engines agree."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.unit.engine.test_conductor import Rig, Start

from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.work import Work
from dalsegno.engine.clock import NOTE_EVERY_S, NOTE_IDLE_S, STEP_S, Clock, choose_steady
from dalsegno.engine.timers import Timers
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import NewMessage
from dalsegno.store.store import Transaction
from dalsegno.workflow.events import PauseRequested

HOURS_S = 7200.0
BEGAN_S = 1_700_000_000.0


class World:
    """Machines whose steady clocks run alike, and a store whose clock somebody sets."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.set_by_s = 0.0
        self.store = Store(lambda: BEGAN_S + self.passed_s + self.set_by_s)

    def engine(self, *, booted_s: float = 500.0, is_shared: bool = False) -> Clock:
        """The clock of an engine that starts now, on a machine that has run for so long."""
        clock = Clock(lambda: booted_s + self.passed_s, is_shared=is_shared)
        clock.begin(self.store)
        return clock

    def pass_time(self, seconds: float, *clocks: Clock) -> None:
        """Each second these engines compare, in turn."""
        for _ in range(round(seconds)):
            self.passed_s += 1.0
            for clock in clocks:
                assert clock.is_stale
                clock.measure(self.store)

    @property
    def shift_s(self) -> float:
        with self.store.write() as transaction:
            return transaction.clock_row().shift_s


class Store(MemoryStore):
    """A store whose commits fail when they are told to."""

    fails = False

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with super().write() as transaction:
            yield transaction
            if self.fails:
                self.fails = False
                raise OSError("the store has gone")


@pytest.fixture
def world() -> World:
    return World()


def about(seconds: float) -> object:
    return pytest.approx(BEGAN_S + seconds, abs=1e-3)


def test_it_begins_with_the_stores_time_and_runs_on(world: World) -> None:
    """A new store's time is that of its clock; between two looks the steady clock counts."""
    clock = world.engine()
    assert clock.now_s() == about(0)
    world.passed_s += 0.5
    assert clock.now_s() == about(0.5)
    assert not clock.is_stale


@pytest.mark.parametrize("step_s", [HOURS_S, -HOURS_S, 2.0, -2.0])
def test_a_step_moves_nothing_and_is_told_once(world: World, caplog: pytest.LogCaptureFixture, step_s: float) -> None:
    """Set forward or back while engines run: both continue as before, one says so, and the row has the opposite."""
    caplog.set_level(logging.INFO, "dalsegno")
    one, two = world.engine(is_shared=True), world.engine(booted_s=9e6, is_shared=True)
    world.pass_time(100, one, two)
    world.set_by_s = step_s
    assert (one.now_s(), two.now_s()) == (about(100), about(100))
    world.pass_time(100, two, one)
    assert (one.now_s(), two.now_s()) == (about(200), about(200))
    assert world.shift_s == pytest.approx(-step_s)
    (told,) = caplog.records
    assert f"{step_s:+.1f} s" in told.getMessage()


def test_several_steps_are_undone_together(world: World) -> None:
    """Forward, back, forward again, each seen first by another engine: time runs on evenly for both."""
    one, two = world.engine(is_shared=True), world.engine(is_shared=True)
    for number, step_s in enumerate([HOURS_S, -3 * HOURS_S, 60.0], 1):
        world.set_by_s += step_s
        world.pass_time(10, *((one, two) if number % 2 else (two, one)))
        assert (one.now_s(), two.now_s()) == (about(10 * number), about(10 * number))
    world.set_by_s = 0.0
    world.pass_time(10, one, two)
    assert world.shift_s == pytest.approx(0)


def test_an_engine_that_starts_later_counts_alike(world: World) -> None:
    """What others have put into the row holds for whoever comes, also after all of them have gone."""
    one = world.engine(is_shared=True)
    world.set_by_s = -HOURS_S
    world.pass_time(10, one)
    assert world.engine(booted_s=3.0, is_shared=True).now_s() == about(10)
    world.passed_s += 1000
    assert world.engine(booted_s=3.0).now_s() == about(1010)


def test_set_back_while_no_engine_ran(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Time continues from the newest that was counted, and for all that start later; it is told once."""
    world.pass_time(100, world.engine())
    world.passed_s += 10
    world.set_by_s = -HOURS_S
    clock = world.engine()
    assert BEGAN_S + 100 - NOTE_IDLE_S <= clock.now_s() <= BEGAN_S + 100 + NOTE_EVERY_S
    began_s = clock.now_s()
    world.pass_time(10, clock)
    assert world.engine().now_s() == clock.now_s() == pytest.approx(began_s + 10)
    (told,) = caplog.records
    assert "set back while no engine ran" in told.getMessage()


def test_set_forward_while_no_engine_ran(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It looks like a long stop, and counts as one."""
    world.pass_time(100, world.engine())
    world.set_by_s = HOURS_S
    assert world.engine().now_s() == about(100 + HOURS_S)
    assert caplog.records == []


def test_nothing_that_is_stored_is_newer_than_where_time_goes_on(world: World) -> None:
    """Whoever stores something notes its time if the noted one is old, so that it never goes back behind that."""
    clock = world.engine()
    newest_s = 0.0
    for _ in range(50):
        world.passed_s += 0.3
        newest_s = clock.now_s()
        if clock.is_note_due(newest_s):
            with world.store.write() as transaction:
                transaction.note_time(newest_s)
            clock.noted_s = newest_s
    world.set_by_s = -HOURS_S
    assert newest_s <= world.engine().now_s() <= newest_s + NOTE_EVERY_S


@pytest.mark.parametrize("rate", [1.0005, 0.9995, 1.005, 0.995])
def test_a_clock_that_runs_fast_or_slow_is_followed(
    world: World, caplog: pytest.LogCaptureFixture, rate: float
) -> None:
    """What drifts by less than half a second in a minute (NTP slews) is no step: nothing is told or stored."""
    clock = world.engine()
    seen_s = clock.now_s()
    for _ in range(1800):
        world.pass_time(1, clock)
        world.set_by_s += rate - 1
        assert clock.now_s() >= seen_s
        seen_s = clock.now_s()
    assert clock.now_s() == pytest.approx(BEGAN_S + 1800 * rate, abs=STEP_S)
    assert (world.shift_s, caplog.records) == (0, [])


def test_a_slow_answer_is_no_step(world: World) -> None:
    """While the question is under way time passes: an answer is only off by what that cannot explain."""
    clock = world.engine()

    def slow() -> float:
        world.passed_s += 5.0
        return BEGAN_S + world.passed_s - 4.0

    world.passed_s += 1.0
    world.store._clock = slow
    clock.measure(world.store)
    assert world.shift_s == 0


def test_a_step_whose_commit_fails_is_seen_again(world: World) -> None:
    """What was not stored is not believed."""
    clock = world.engine()
    world.pass_time(5, clock)
    world.set_by_s = HOURS_S
    world.store.fails = True
    with pytest.raises(OSError, match="gone"):
        clock.measure(world.store)
    assert world.shift_s == 0
    world.pass_time(5, clock)
    assert (world.shift_s, clock.now_s()) == (-HOURS_S, about(10))


def test_a_machine_that_stood_still_goes_by_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its steady clock did not count while it was suspended: that is no step of the store's clock."""
    suspended_s = 0.0
    one = world.engine(is_shared=True)
    two = Clock(lambda: 70.0 + world.passed_s - suspended_s, is_shared=True)
    two.begin(world.store)
    world.pass_time(10, one, two)
    suspended_s = 600.0
    world.pass_time(600, one)
    world.pass_time(1, one, two)
    assert (one.now_s(), two.now_s(), world.shift_s) == (about(611), about(611), 0)
    assert two.settled_s == pytest.approx(70.0 + 11)
    assert "other engines count a time" in caplog.text


@pytest.mark.parametrize("step_s", [HOURS_S, -HOURS_S])
def test_an_engine_that_starts_just_after_a_step_waits_for_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """It cannot know of a step that nobody has put into the row yet; whoever runs does so within a second."""
    one = world.engine(is_shared=True)
    world.pass_time(10, one)
    world.set_by_s = step_s

    def look() -> None:
        if one.is_stale:
            one.measure(world.store)

    waits = sleeping(world, monkeypatch, look)
    two = world.engine(is_shared=True)
    assert 0 < len(waits) <= 11
    assert two.now_s() == pytest.approx(one.now_s())
    assert world.shift_s == -step_s


def test_an_engine_that_began_with_a_time_of_its_own_stores_nothing_by_it(world: World) -> None:
    """It starts while the clock is set and the others stand still, so that it takes the jump for a long stop. As soon
    as they have seen the jump it counts as they do: a timer would be due hours late."""
    rig = Rig(world.store, engine=world.store.register_engine("late", "", is_alone=False))
    rig.define()
    running = world.engine(is_shared=True)
    world.set_by_s = HOURS_S
    late = rig.conductor.clock = world.engine(booted_s=1.0)
    assert late.now_s() - running.now_s() == pytest.approx(HOURS_S)
    world.passed_s += 0.2
    running.measure(world.store)
    start = Start(1)
    (result,) = rig.carry_out(start)
    assert isinstance(result, Committed)
    assert late.now_s() == pytest.approx(running.now_s())
    with world.store.read() as queries:
        row = queries.execution(start.execution_id)
    assert row is not None
    assert row.created_s == pytest.approx(running.now_s())


def test_the_first_engine_of_several_does_not_wait_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long stop nobody answers, and what the store's clock shows counts."""
    world.pass_time(10, world.engine(is_shared=True))
    world.passed_s += 3600
    waits = sleeping(world, monkeypatch, lambda: None)
    assert world.engine(is_shared=True).now_s() == about(3610 + sum(waits))
    assert 2 < sum(waits) < 3


def sleeping(world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> list[float]:
    """How long was slept, in the world's time."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        world.passed_s += seconds
        meanwhile()

    monkeypatch.setattr(time, "sleep", sleep)
    return waits


def test_the_steady_clock_is_one_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on whatever the machine's wall clock shows; where the system has none for sleep too, the usual one."""
    steady_s = choose_steady()
    before = steady_s()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= steady_s() - before < 5
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert choose_steady() is time.monotonic


async def test_what_a_correction_makes_due_is_delivered(world: World) -> None:
    """A timer that waits for its time is late by no more than a look at the store when an engine finds that the others
    count a later time."""
    world.engine(is_shared=True)
    clock = world.engine(is_shared=True)
    delivered: list[Work] = []
    arrived = asyncio.Event()

    def deliver(work: Work) -> None:
        delivered.append(work)
        arrived.set()

    timers = Timers(clock, deliver)
    timers.add([NewMessage("m", "e", PauseRequested(), clock.now_s() + HOURS_S / 2)])
    async with asyncio.timeout(5):
        running = asyncio.create_task(timers.run())
        timers.add_found([])
        for _ in range(10):
            await asyncio.sleep(0)  # it waits after this
        assert delivered == []
        with world.store.write() as transaction:  # another engine has found that the clock was set
            transaction.shift_clock(HOURS_S)
        world.pass_time(1, clock)
        timers.add_found([])
        await arrived.wait()
        running.cancel()
    assert [each.message_id for each in delivered] == ["m"]
