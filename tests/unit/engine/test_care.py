"""What killed engines is stepped alone and with care, and ended after three deaths; nothing else notices."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future

import pytest
from tests.unit.engine.test_conductor import Rig, Start, answer

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.deferred import DeferredWorks
from dalsegno.engine.batches.evaluations import STALE_MAX, Evaluations
from dalsegno.engine.batches.results import Committed, Deferred, Failed
from dalsegno.engine.batches.step_note import Mark, StepNote, count_death
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.executors.sessions import Greeting, OpenSession
from dalsegno.expressions.pool_client import POOL
from dalsegno.store.memory import MemoryTransaction
from dalsegno.workflow import machine
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import (
    CancelRequested,
    Event,
    HandedOut,
    Poisoned,
    RerunRequested,
    TaskChoice,
    TaskDone,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.outside import Given
from dalsegno.workflow.refusals import Unavailable


class Stepped:
    """Which executions were stepped by which events, whether with care, and what was in the note meanwhile."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, type[Event], bool]] = []
        self.marks: list[Mark | None] = []
        rig.conductor._step_note = self.note = StepNote()
        step = machine.step

        def recorded(workflow: object, execution: Execution | None, event: Event, *rest: object) -> machine.StepResult:
            given = rest[1]
            assert isinstance(given, Given)
            self.marks.append(self.note.read())
            if execution is not None:
                self.seen.append((execution.id, type(event), given.careful))
            return step(workflow, execution, event, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(machine, "step", recorded)


def died(rig: Rig, execution_id: str, times: int = 1) -> None:
    for _ in range(times):
        with rig.store.write() as transaction:
            count_death(transaction, Mark(execution_id, "task_done"))


def deaths(rig: Rig, *execution_ids: str) -> list[int]:
    with rig.store.write() as transaction:
        return [transaction.claim([each])[each].deaths for each in execution_ids]


class Again(Work):
    """A person has an execution run again."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (self.execution_id,)

    def carry_out(self, batch: Batch) -> None:
        batch.step(self.execution_id, RerunRequested(choices=(TaskChoice(task="a"),)))


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.define()
    return made


def started(rig: Rig, count: int) -> list[Start]:
    starts = [Start(number) for number in range(count)]
    rig.carry_out(*starts)
    assert len(rig.sent) == count
    return starts


def test_page_tells_what_is_stepped_until_it_is_stored(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is in the note with its event; a batch that is stored, or fails without a death, leaves it clear."""
    stepped = Stepped(rig, monkeypatch)
    start = Start(0)
    rig.carry_out(start)
    assert stepped.marks == [Mark(start.execution_id, "start_requested"), Mark(start.execution_id, "handed_out")]
    assert stepped.note.read() is None
    monkeypatch.setattr(rig.store, "failures", [ValueError("first"), ValueError("second")])
    (answered,) = [answer(run) for run in rig.sent]
    results = rig.carry_out(answered)
    assert isinstance(results[0], Failed)
    assert Mark(start.execution_id, "task_done") in stepped.marks
    assert stepped.note.read() is None


def test_execution_with_a_death_is_stepped_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its works have batches with nothing else in them and are stepped with care; the others keep their order and are
    stepped as ever. What is stored sets its deaths back."""
    one, bad, two = (each.execution_id for each in started(rig, 3))
    died(rig, bad, 2)
    stepped = Stepped(rig, monkeypatch)
    works = [answer(run) for run in rig.sent]
    works.sort(key=lambda work: [one, bad, two].index(work.execution_id))
    results = rig.carry_out(*works)
    committed = [result for result in results if isinstance(result, Committed)]
    assert [list(each.works) for each in committed] == [[works[0]], [works[1]], [works[2]]]
    assert [set(each.hints) for each in committed] == [{one}, {bad}, {two}]
    assert {(each, care) for each, event, care in stepped.seen if event is TaskDone} == {
        (one, False),
        (bad, True),
        (two, False),
    }
    assert deaths(rig, one, bad, two) == [0, 0, 0]
    rig.finish_all()
    assert [rig.state(each) for each in (one, bad, two)] == ["SUCCESS"] * 3


def test_handing_out_is_done_alone_too_and_sets_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that waits for an executor is handed out in a batch of its own: it comes before what killed the
    engine at each start, so that it must not count as having got over that."""
    rig = Rig(credit=0)
    rig.define()
    starts = [Start(number) for number in range(3)]
    rig.carry_out(*starts)
    bad = starts[1].execution_id
    died(rig, bad, 2)
    stepped = Stepped(rig, monkeypatch)
    rig.dispatcher.give_credit(rig.stream, 10)
    results = rig.carry_out()
    assert [set(each.hints) for each in results if isinstance(each, Committed)] == [
        {bad},
        {starts[0].execution_id, starts[2].execution_id},
    ]
    assert {(each, care) for each, _, care in stepped.seen} >= {(bad, True), (starts[0].execution_id, False)}
    assert deaths(rig, bad) == [2]
    assert len(rig.sent) == 3
    rig.finish_all()
    assert deaths(rig, bad) == [0]
    assert [rig.state(each.execution_id) for each in starts] == ["SUCCESS"] * 3


def test_after_three_deaths_it_is_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not its event but its end is stepped, whichever engine meets it; what others do in the batch is done."""
    one, bad, two = (each.execution_id for each in started(rig, 3))
    died(rig, bad, 3)
    stepped = Stepped(rig, monkeypatch)
    rig.carry_out(*(answer(run) for run in rig.sent))
    assert (bad, Poisoned) in {(each, event) for each, event, _ in stepped.seen}
    with rig.store.read() as queries:
        row = queries.execution(bad)
    assert row is not None
    assert (row.state, row.deaths) == ("ERROR", 3)
    assert "died 3 times in a row" in row.info
    assert [event for each, event, _ in stepped.seen if each == bad] == [Poisoned]
    rig.sent = [run for run in rig.sent if bad not in run.action_execution_id]
    rig.finish_all()
    assert [rig.state(each) for each in (one, two)] == ["SUCCESS", "SUCCESS"]


def test_what_has_ended_for_its_deaths_is_told_nothing_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What killed the engines comes again from its executor: it is answered as too late, and not looked at. A person
    who has the execution run again is heard, and with that it is as any other."""
    (bad,) = (each.execution_id for each in started(rig, 1))
    died(rig, bad, 3)
    rig.carry_out(answer(rig.sent[0]))
    stepped = Stepped(rig, monkeypatch)
    again = answer(rig.sent[0])
    rig.carry_out(again)
    assert (again.verdict, stepped.seen, deaths(rig, bad)) == ("superseded", [], [3])

    rig.carry_out(Again(bad))
    assert (bad, RerunRequested, True) in stepped.seen
    assert deaths(rig, bad) == [0]
    rig.sent = rig.sent[1:]
    rig.finish_all()
    assert rig.state(bad) == "SUCCESS"


def test_it_is_ended_without_its_definition(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What killed the engines may be in its compiled workflow: that is not looked at."""
    (bad,) = (each.execution_id for each in started(rig, 1))
    died(rig, bad, 3)

    def fail(*_: object) -> object:
        raise AssertionError("the workflow is not loaded")

    rig.copies.drop(bad)
    monkeypatch.setattr(rig.copies, "load", fail)
    monkeypatch.setattr(rig.copies, "catch_up", fail)
    results = rig.carry_out(answer(rig.sent[0]))
    assert isinstance(results[0], Committed)
    assert rig.state(bad) == "ERROR"


def test_an_engine_that_dies_while_it_loads_has_noted_the_execution(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal itself may be what kills engines: the note says so before it is read, also at the last resort."""
    (start,) = started(rig, 1)
    stepped = Stepped(rig, monkeypatch)
    read: list[Mark | None] = []
    changes_after = MemoryTransaction.changes_after

    def noted(
        self: MemoryTransaction, execution_id: str, revision: int, until: int | None = None
    ) -> list[AnyChange | Consolidated]:
        read.append(stepped.note.read())
        return changes_after(self, execution_id, revision, until)

    monkeypatch.setattr(MemoryTransaction, "changes_after", noted)
    rig.copies.drop(start.execution_id)
    rig.carry_out(answer(rig.sent[0]))
    assert read == [Mark(start.execution_id, "load")]
    died(rig, start.execution_id, 3)
    rig.carry_out(answer(rig.sent[1]))
    assert rig.state(start.execution_id) == "ERROR"
    assert read == [Mark(start.execution_id, "load")] * 2


def test_what_cannot_be_ended_stops_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even then the works of others are done, and whoever asks for this one is told to come again."""
    one, bad = (each.execution_id for each in started(rig, 2))
    died(rig, bad, 3)
    step = machine.step

    def failing(workflow: object, execution: Execution | None, event: Event, *rest: object) -> machine.StepResult:
        if isinstance(event, Poisoned):
            raise ValueError("cannot be")
        return step(workflow, execution, event, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(machine, "step", failing)
    works = {work.execution_id: work for work in (answer(run) for run in rig.sent)}
    results = rig.carry_out(*works.values())
    failed = [each for each in results if isinstance(each, Failed)]
    assert [each.work for each in failed] == [works[bad]]
    assert isinstance(failed[0].error, Unavailable)
    assert [work for each in results if isinstance(each, Committed) for work in each.works] == [works[one]]


def test_what_changes_nothing_sets_the_deaths_back(rig: Rig) -> None:
    """A report that comes twice was stepped without a death: the execution is over it."""
    (start,) = started(rig, 1)
    (run,) = rig.sent
    rig.carry_out(answer(run))
    died(rig, start.execution_id, 2)
    again = answer(run)
    rig.carry_out(again)
    assert again.verdict == "duplicate"
    assert deaths(rig, start.execution_id) == [0]


def test_the_last_try_waits_until_the_engine_has_run_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who kills engines one soon after the other does not come to the third death of anybody. Meanwhile the works of
    others are done, nothing of it is handed out, and nobody turns round and round for it."""
    rig = Rig(credit=3)
    rig.define()
    one, bad, ready, two = (each.execution_id for each in (Start(number) for number in range(4)))
    rig.carry_out(*(Start(number) for number in (0, 1, 3)))
    rig.carry_out(Start(2))
    for each in (bad, ready):
        died(rig, each, 2)
    rig.conductor._calm_s = time.monotonic() + 60
    stepped = Stepped(rig, monkeypatch)
    rig.dispatcher.give_credit(rig.stream, 10)
    works = {work.execution_id: work for work in (answer(run) for run in rig.sent)}
    results = rig.carry_out(works[one], works[bad], works[two])
    (deferred,) = [each for each in results if isinstance(each, Deferred)]
    assert deferred.work is works[bad]
    assert 50 < deferred.wait_s <= 60
    assert [work for each in results if isinstance(each, Committed) for work in each.works] == [works[one], works[two]]
    assert {each for each, _, _ in stepped.seen} == {one, two}
    assert not rig.dispatcher.has_news
    assert deaths(rig, bad, ready) == [2, 2]

    rig.conductor._calm_s = 0
    rig.carry_out(works[bad])
    assert (bad, TaskDone, True) in stepped.seen
    assert (ready, HandedOut, True) in stepped.seen
    assert deaths(rig, bad, ready) == [0, 2]


def test_the_second_try_waits_for_nothing(rig: Rig) -> None:
    """One death may be anybody's: it is stepped alone, at once."""
    (start,) = started(rig, 1)
    died(rig, start.execution_id)
    rig.conductor._calm_s = time.monotonic() + 60
    (result, *_) = rig.carry_out(answer(rig.sent[0]))
    assert isinstance(result, Committed)
    assert deaths(rig, start.execution_id) == [0]


def test_an_executor_that_comes_back_is_welcome_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has work of an execution with deaths: that is not looked at for it, and the executor continues with it."""
    one, bad = (each.execution_id for each in started(rig, 2))
    died(rig, bad, 2)
    rig.conductor._calm_s = time.monotonic() + 60
    loaded = rig.copies.catch_up

    def catch_up(execution_id: str, *rest: object) -> object:
        assert execution_id != bad
        return loaded(execution_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.copies, "catch_up", catch_up)
    held = frozenset((*parse_attempt_id(run.action_execution_id), run.delivery) for run in rig.sent)
    assert {each[0] for each in held} == {one, bad}
    works = [OpenSession(Greeting("x", "s", {}, 1, {}, held), "engine", 10.0, lambda *_: None)]
    results = rig.carry_out(*works)
    assert [work for each in results if isinstance(each, Committed) for work in each.works] == works
    assert works[0].superseded == []


async def test_what_waits_for_a_time_comes_back_in_order() -> None:
    """All of it with the first, before all others, but what nobody wants any more."""
    back: list[Work] = []
    aside = DeferredWorks(lambda work: back.insert(0, work))
    works: list[Work] = [Again(str(number)) for number in range(3)]
    gone = Gone("gone")
    for work in (works[0], gone, *works[1:]):
        aside.postpone(work, 0.01)
    assert aside
    await asyncio.sleep(0.05)
    assert (back, bool(aside)) == (works, False)


async def test_what_is_done_keeps_no_values() -> None:
    """A work and its values refer to each other: large ones would stay until the collector runs."""
    works = DeferredWorks(lambda work: None)
    work = Again("e")
    work.evaluations = Evaluations(POOL, "e", lambda: None)
    works.forget(work)
    assert work.evaluations is None


async def test_a_work_that_nobody_wants_is_dropped_when_its_values_are_there() -> None:
    """It is not given back, and what waited for it continues."""
    back: list[Work] = []
    works = DeferredWorks(back.append)
    gone, behind = Gone("e"), Again("e")
    gone.evaluations = Evaluations(POOL, "e", lambda: None)
    gone.evaluations.stale_count = STALE_MAX
    gone.evaluations.wait(Future())
    works.put(gone)
    assert works.holds_back(behind)
    works.take_up(gone)
    assert back == [behind]
    assert not works
    assert gone.evaluations is None


async def test_works_wait_for_the_one_of_their_execution_only() -> None:
    """A work whose values change again and again goes before all others of its execution, but those that end it by
    force; another one that is done frees nobody else's."""
    back: list[Work] = []
    works = DeferredWorks(back.append)
    first, behind, other = Again("e"), Again("e"), Again("f")
    first.evaluations = Evaluations(POOL, "e", lambda: None)
    first.evaluations.stale_count = STALE_MAX
    first.evaluations.wait(Future())
    works.put(first)
    assert [works.holds_back(each) for each in (first, other, behind)] == [False, False, True]
    assert not works.holds_back(DeliverEvent("e", Poisoned(reason="no")))
    assert works.holds_back(DeliverEvent("e", CancelRequested()))
    works.forget(other)
    works.forget(behind)
    assert back == []
    works.take_up(first)
    assert back == [first]
    works.forget(first)
    assert back[-1] is behind
    assert not works.holds_back(behind)


@pytest.mark.parametrize(("stale", "is_first"), [(STALE_MAX - 1, False), (STALE_MAX, True)])
async def test_a_work_waits_like_any_other_at_first(stale: int, is_first: bool) -> None:
    """Only after some passes with stale values do others wait for it; it continues at once when its values are there
    already."""
    back: list[Work] = []
    works = DeferredWorks(back.append)
    work = Again("e")
    work.evaluations = Evaluations(POOL, "e", lambda: None)
    work.evaluations.stale_count = stale
    works.put(work)
    assert back == [work]
    assert works.holds_back(Again("e")) == is_first


class Gone(Again):
    """Nobody waits for it."""

    @property
    def is_wanted(self) -> bool:
        return False
