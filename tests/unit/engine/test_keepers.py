"""Several engines on one store: each does its own work, helps where another has no credit, and adopts that of ended
engines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from tests.store.scenes import add_task, start
from tests.unit.engine.test_conductor import CHAIN, NOOP, Rig, Start, answer

from dalsegno.engine import timers
from dalsegno.engine.batches import claims, conductor
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import Copy
from dalsegno.engine.batches.claims import Claims
from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.step_note import StepNote
from dalsegno.engine.batches.work import DeliverEvent
from dalsegno.engine.executors import dispatcher
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.engine.timers import Poll, Timers
from dalsegno.store.journals import WrittenChanges
from dalsegno.store.memory import MemoryStore, MemoryTransaction
from dalsegno.store.records import NewMessage
from dalsegno.store.store import StoreConflict
from dalsegno.workflow.events import PauseRequested
from dalsegno.workflow.states import AttemptState


@contextmanager
def noted_in(read: list[dict[str, int]]) -> Iterator[None]:
    """Note what is read together: for each query the executions, and after which revision of each."""
    written_changes = MemoryTransaction.written_changes

    def note(transaction: MemoryTransaction, after: Mapping[str, int], texts_max: int) -> dict[str, WrittenChanges]:
        read.append(dict(after))
        return written_changes(transaction, after, texts_max)

    with patch.object(MemoryTransaction, "written_changes", note):
        yield


class Life:
    """One of several engines on a store, with an executor of its own."""

    def __init__(self, store: MemoryStore, credit: int) -> None:
        self.number = store.register_engine("engine", "", is_alone=False)
        self.rig = Rig(store, credit, engine=self.number)
        self.delivered: list[str] = []
        self._started = 0
        self._timers = Timers(self.rig.conductor.clock, self._deliver)

    def start(self) -> str:
        """Start an execution here. Return its id."""
        self._started += 1
        start = Start(100 * self.number + self._started)
        self.rig.carry_out(start)
        return start.execution_id

    def poll(self) -> int:
        """Look into the store, as once a second, and hand out what was found. Return how often it has looked."""
        looks: list[Poll] = []

        def look() -> None:
            looks.append(Poll(self._timers, self.rig.dispatcher, look))

        look()
        for poll in looks:
            self.rig.carry_out(poll)
            poll.done()
        self.rig.carry_out()
        return len(looks)

    @property
    def runs(self) -> list[str]:
        """The executions of which it has handed out something."""
        return [run.action_execution_id.partition(".")[0] for run in self.rig.sent]

    def _deliver(self, work: object) -> None:
        assert isinstance(work, DeliverEvent)
        self.delivered.append(work.message_id)


def message(name: str, due_s: float) -> NewMessage:
    """A message that is due then."""
    return NewMessage(name, "e1", PauseRequested(), due_s)


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore()
    Rig(found).define()
    return found


def test_what_another_engine_has_just_made_ready_is_left_to_it(store: MemoryStore) -> None:
    """An engine with credit left does not take over executions of another one that hands them out itself."""
    busy, idle = Life(store, 0), Life(store, 100)
    busy.start()
    idle.poll()
    assert idle.runs == []
    busy.rig.dispatcher.give_credit(busy.rig.stream, 1)
    busy.rig.carry_out()
    assert len(busy.runs) == 1


def test_what_waits_for_another_engine_is_handed_out_where_credit_is_left(store: MemoryStore) -> None:
    """An executor that is connected to one engine only, or has credit left there, serves the executions of all."""
    busy, idle = Life(store, 0), Life(store, 1)
    ids = [busy.start() for _ in range(2)]
    with patch.object(dispatcher, "HELP_AFTER_S", -1.0):
        idle.poll()
        assert len(idle.runs) == 1
        idle.poll()
    assert len(idle.runs) == 1
    busy.rig.dispatcher.give_credit(busy.rig.stream, 2)
    busy.rig.carry_out()
    assert sorted([*idle.runs, *busy.runs]) == sorted(ids)


TARGETED = CHAIN.replace("a: {action: std.noop,", "a: {action: std.noop, target: gpu,")


def test_what_no_executor_may_run_does_not_wander_between_engines() -> None:
    """Attempts with a target that nobody meets are adopted once, by engines that have credit for their action; they
    keep no credit from what others wait for, and an executor that meets the target gets them."""
    store = MemoryStore()
    Rig(store).define(TARGETED)
    without, one, other = Life(store, 0), Life(store, 5), Life(store, 5)
    targeted = [without.start() for _ in range(3)]
    Rig(store).define(CHAIN)
    with patch.object(dispatcher, "HELP_AFTER_S", -1.0):
        for life in (one, other, one, other):
            life.poll()
        keepers = _keepers(store)
        one.poll()
        assert _keepers(store) == keepers
        assert set(keepers) == set(targeted)
        plain = without.start()
        one.poll()
        assert one.runs == [plain]
        met = ExecutorStream("s2", "gpu", {"std.noop": NOOP}, {}, 5, 5)
        without.rig.dispatcher.add_stream(met)
        without.poll()
    assert sorted(without.runs) == sorted(targeted)


def _keepers(store: MemoryStore) -> dict[str, int]:
    """Who keeps the READY attempt of each execution."""
    return {execution_id: keeper for (execution_id, _), (_, keeper) in store._tables.ready.items()}


def test_what_an_ended_engine_keeps_is_adopted_by_one(store: MemoryStore) -> None:
    """READY attempts of an ended engine are handed out by one other engine, each once, at its next look, also where no
    credit is left for them now."""
    gone, one, other = Life(store, 0), Life(store, 0), Life(store, 100)
    ids = [gone.start() for _ in range(3)]
    one.poll()
    other.poll()
    assert one.runs == other.runs == []
    store.end_engine(gone.number)
    one.poll()
    other.poll()
    assert other.runs == []
    one.rig.dispatcher.give_credit(one.rig.stream, 3)
    one.rig.carry_out()
    assert sorted(one.runs) == sorted(ids)


def test_much_that_an_ended_engine_keeps_is_adopted_at_once(store: MemoryStore) -> None:
    """An engine that has adopted as much as one batch may looks again at once, not a second later."""
    gone, one = Life(store, 0), Life(store, 100)
    ids = [gone.start() for _ in range(5)]
    store.end_engine(gone.number)
    with patch.object(dispatcher, "ADOPTED_MAX", 2):
        assert one.poll() == 3
    assert sorted(one.runs) == sorted(ids)


def test_many_messages_of_an_ended_engine_are_adopted_at_once(store: MemoryStore) -> None:
    """Messages are, too."""
    gone, one = Life(store, 0), Life(store, 0)
    with store.write() as transaction:
        due_s = transaction.now_s() - 1.0
        transaction.add_messages([message(f"m{number}", due_s) for number in range(5)], gone.number)
    store.end_engine(gone.number)
    with patch.object(timers, "POLL_LIMIT", 2):
        assert one.poll() == 3
    assert one.delivered == [f"m{number}" for number in range(5)]


def test_what_no_executor_here_serves_is_left_to_engines_that_are_busy(store: MemoryStore) -> None:
    """The executions of an engine without an executor have their turns where all have, though there is never any credit
    left there; it forgets them, and takes them back when an executor connects to it."""
    without, busy = Life(store, 0), Life(store, 0)
    without.rig.dispatcher.remove_stream(without.rig.stream)
    own, others = [busy.start() for _ in range(3)], [without.start() for _ in range(3)]
    without.poll()
    assert without.rig.dispatcher.waiting_count == 0
    busy.poll()
    busy.rig.dispatcher.give_credit(busy.rig.stream, 6)
    busy.rig.carry_out()
    assert sorted(busy.runs) == sorted([*own, *others])
    last = without.start()
    without.poll()
    without.rig.dispatcher.add_stream(ExecutorStream("s2", "x", {"std.noop": NOOP}, {}, 5, 5))
    without.poll()
    assert without.runs == [last]


def test_what_could_not_be_left_to_others_is_not_forgotten(store: MemoryStore) -> None:
    """When the batch that leaves it fails, the engine still has it in memory."""
    without = Life(store, 0)
    Life(store, 0)
    without.rig.dispatcher.remove_stream(without.rig.stream)
    waiting = without.start()
    with patch.object(Batch, "save", side_effect=StoreConflict("twice")):
        without.poll()
    assert without.rig.dispatcher.waiting_count == 1
    without.rig.dispatcher.add_stream(ExecutorStream("s2", "x", {"std.noop": NOOP}, {}, 5, 5))
    without.rig.carry_out()
    assert without.runs == [waiting]


def test_messages_of_an_ended_engine_are_delivered_by_one(store: MemoryStore) -> None:
    """A due message is delivered by the engine that wrote it, and by one other engine after that one has ended."""
    gone, one, other = Life(store, 0), Life(store, 0), Life(store, 0)
    with store.write() as transaction:
        transaction.add_messages([message("m1", transaction.now_s() - 1.0)], gone.number)
    one.poll()
    assert one.delivered == []
    store.end_engine(gone.number)
    one.poll()
    other.poll()
    assert (one.delivered, other.delivered) == (["m1"], [])


@pytest.mark.parametrize("keeper", [0, 99])
def test_what_a_version_without_keepers_leaves_is_adopted(store: MemoryStore, keeper: int) -> None:
    """What it writes has no keeper, and it deletes the row of an ended engine that still keeps something: both are
    handed out and delivered by an engine that knows keepers."""
    older, engine = Life(store, 0), Life(store, 5)
    waiting = older.start()
    store.end_engine(older.number)
    with store.write() as transaction:
        (found,) = transaction.adopt_attempts(keeper, [older.number], ["std.noop"], 2e9, 1)
        transaction.add_messages([message("m1", transaction.now_s() - 1.0)], keeper)
        assert transaction.prune_engines() == 1
    assert found.execution_id == waiting
    engine.poll()
    assert (engine.runs, engine.delivered) == ([waiting], ["m1"])


def test_a_living_engine_that_delivers_nothing_is_helped(store: MemoryStore) -> None:
    """A message that waits long for an engine, which stands still in a step, is delivered by another one."""
    still, other = Life(store, 0), Life(store, 0)
    with store.write() as transaction:
        now_s = transaction.now_s()
        transaction.add_messages([message("m1", now_s - 1.0), message("m2", now_s - 60.0)], still.number)
    other.poll()
    assert other.delivered == ["m2"]


def test_nothing_is_adopted_from_engines_that_keep_nothing(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll beside engines that keep nothing asks the store for none of it: on a distant database each such question
    takes long."""
    engine, asked = Life(store, 5), list[str]()
    idle = Life(store, 5)

    def note(*_: object, **__: object) -> list[object]:
        asked.append("adopts")
        return []

    monkeypatch.setattr(MemoryTransaction, "adopt_attempts", note)
    monkeypatch.setattr(MemoryTransaction, "adopt_messages", note)
    engine.poll()
    idle.poll()
    assert asked == []


def test_works_of_executions_to_be_loaded_are_not_slow(store: MemoryStore) -> None:
    """An engine that takes over executions of another one goes on with its batch while it loads them."""
    gone, one = Life(store, 100), Life(store, 100)
    for _ in range(3):
        gone.start()
    reports = [answer(run) for run in gone.rig.sent]
    load = Claims._load

    def load_slowly(claimed: Claims, execution_id: str) -> Copy:
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.15:
            pass
        return load(claimed, execution_id)

    with (
        patch.object(Claims, "_load", load_slowly),
        patch.object(conductor, "SLOW_WORK_S", 0.1),
        patch.object(conductor, "SLOW_MAX_S", 0.0),
    ):
        (result,) = one.rig.conductor.carry_out(reports)
    assert isinstance(result, Committed)
    assert not result.left


def test_few_journals_are_read_for_what_a_batch_has_no_time_to_step(store: MemoryStore) -> None:
    """A batch that meets many executions of another engine reads the journals of some at a time: those that it leaves
    would be read again by each batch after it."""
    gone, one = Life(store, 100), Life(store, 100)
    for _ in range(50):
        gone.start()
    reports = [answer(run) for run in gone.rig.sent]
    read: list[dict[str, int]] = []
    with noted_in(read):
        one.rig.carry_out(*reports)
    counts = [len(each) for each in read]
    assert max(counts) <= claims.LOADED_TOGETHER
    assert sum(counts) == len(reports)


def test_what_others_have_added_to_cached_executions_is_read_together(store: MemoryStore) -> None:
    """When work moves from one engine to another and back, old copies are in memory: they are brought up to date by few
    queries, and only what they lack is read."""
    one, other = Life(store, 100), Life(store, 100)
    for _ in range(10):
        one.start()
    first = [answer(run) for run in one.rig.sent]
    other.rig.carry_out(*first)
    second = [answer(run) for run in other.rig.sent]
    read: list[dict[str, int]] = []
    with noted_in(read):
        one.rig.carry_out(*second)
    assert [len(each) for each in read] == [10]
    assert all(after > 1 for after in read[0].values())
    assert len(one.rig.sent) == 20, "it has handed out the next task of each"


def test_handing_out_stops_when_loading_takes_long(store: MemoryStore) -> None:
    """What is picked is claimed, and events of other engines for it wait for the batch. The rest is handed out by the
    batches after it."""
    gone, one = Life(store, 0), Life(store, 100)
    for _ in range(6):
        gone.start()
    store.end_engine(gone.number)
    load = Claims._load

    def load_slowly(claimed: Claims, execution_id: str) -> Copy:
        time.sleep(0.02)
        return load(claimed, execution_id)

    handed: list[int] = []
    with patch.object(Claims, "_load", load_slowly), patch.object(one.rig.conductor, "_work_max_s", 0.03):
        one.poll()
        handed.append(len(one.rig.sent))
        while one.rig.carry_out():
            handed.append(len(one.rig.sent))
    assert 1 <= handed[0] <= 2
    assert handed[-1] == 6
    assert len(set(one.runs)) == 6


def test_long_executions_are_loaded_together_too(store: MemoryStore) -> None:
    """An engine that takes over executions with hundreds of changes reads several journals by one query, and fewer than
    of short ones: the changes that it reads at once are bounded."""
    names = [f"e{number}" for number in range(20)]
    cache = Life(store, 0).rig.copies
    with store.write() as transaction:
        for name in names:
            scene = start(name)
            for task in range(1, 101):
                add_task(scene, task, AttemptState.RUNNING)
            transaction.save_all([scene.saved()])
    read: list[dict[str, int]] = []
    with store.write() as transaction, noted_in(read):
        loaded = Claims(transaction, cache, StepNote(), last_resort=False)
        loaded.add(names)
        tasks = [len(loaded.load(name).execution.tasks) for name in names]
    assert tasks == [100] * 20
    assert [len(each) for each in read] == [4] * 5
