"""Details of a batch and of what it looks up, each of which a mutation (tests/mutation) had changed unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from tests.integration.engines import ScriptedExecutor
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_conductor import NOOP, Pause, Rig, Scan, Start, answer
from tests.unit.engine.test_occupancy import ONE, handed
from tests.unit.engine.test_requests import TREE
from tests.unit.engine.test_sessions import Executors, greet, keep, let_lease_pass

from dalsegno.engine.batches import batch as batches
from dalsegno.engine.batches import conductor as conductors
from dalsegno.engine.batches import outside as outsides
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import CompiledWorkflows, Copy
from dalsegno.engine.batches.compiling import compile_row
from dalsegno.engine.batches.deferred import DeferredWorks
from dalsegno.engine.batches.outside import Lookups, TransactionOutside
from dalsegno.engine.batches.work import Work
from dalsegno.engine.clock import Clock
from dalsegno.engine.desk import later
from dalsegno.engine.desk.later import LaterAnswers
from dalsegno.engine.executors import dispatcher as dispatchers
from dalsegno.engine.executors import reports
from dalsegno.engine.executors.reports import read_greeting
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.engine.timers import Timers
from dalsegno.store.journals import WrittenChanges
from dalsegno.store.memory import MemoryTransaction
from dalsegno.store.records import NewMessage, ReadyAttempt
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow import machine
from dalsegno.workflow.changes import AttemptMoved, ExecutionCreated, GlobalsPublished
from dalsegno.workflow.events import DeliveryLost, Event, PauseRequested, Poisoned
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.model import Parameter
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Overloaded, Unavailable
from dalsegno.workflow.states import AttemptState
from dalsegno.workflow.value import Value


@pytest.fixture
def rig() -> Rig:
    """With the chain."""
    rig = Rig()
    rig.define()
    return rig


def test_a_work_that_does_not_wait_is_not_taken_up() -> None:
    """When its values come after it was dropped, it is not carried out."""
    given: list[Work] = []
    DeferredWorks(given.append).take_up(Start(0))
    assert given == []


@pytest.mark.parametrize(
    ("limit", "said"), [("VALUE_BYTES_MAX", "a value has"), ("EXECUTION_BYTES_MAX", "an execution")]
)
def test_an_execution_that_grows_too_large_is_ended(rig: Rig, limit: str, said: str) -> None:
    """What it makes of a result that is not too large counts as well, and it says which limit it exceeds."""
    start = Start(1)
    rig.carry_out(start)
    result_bytes = 1
    has_bytes = 0 if limit == "VALUE_BYTES_MAX" else rig.copies._copies[start.execution_id][0].value_bytes
    with patch.object(batches, limit, has_bytes + result_bytes):
        rig.carry_out(answer(rig.sent.pop()))
    with rig.store.read() as queries:
        row = queries.execution(start.execution_id)
    assert row is not None
    assert row.state == "ERROR"
    assert said in row.info


class Asked(Start):
    """A start that a client waits for."""

    @property
    def is_request(self) -> bool:
        return True


def test_too_many_requests_are_refused(rig: Rig) -> None:
    """What no client waits for does not count, and is taken."""
    rig.conductor._queue.extend([Start(0), Asked(1)])
    with patch.object(conductors, "QUEUE_MAX", 2), patch.object(rig.conductor, "put") as put:
        rig.conductor.request(Asked(2))
        assert put.called
        rig.conductor._queue.append(Asked(2))
        with pytest.raises(Overloaded, match="3 events wait"):
            rig.conductor.request(Asked(3))


def test_a_dropped_message_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A message to an execution that is gone has nobody else to tell."""
    works: list[Work] = []
    Timers(Clock(), works.append).add([NewMessage("m", "gone", PauseRequested(), 0.0)])
    (work,) = works
    with caplog.at_level(logging.INFO):
        work.failed(NotFound("execution", "gone"))
    assert "message to execution gone dropped" in caplog.text


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[DeliveryLost]:
    """What batches say of lost deliveries."""
    lost: list[DeliveryLost] = []
    send = Batch.send

    def note(batch: Batch, execution_id: str, event: Event, *more: Any) -> None:
        if isinstance(event, DeliveryLost):
            lost.append(event)
        send(batch, execution_id, event, *more)

    monkeypatch.setattr(Batch, "send", note)
    return lost


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_a_lost_session_had_may_have_run(rig: Rig, lost: list[DeliveryLost], comes_back: bool) -> None:
    """The executor had received it, whether its lease ends or it comes back as another session: told at once."""
    greet(rig)
    rig.carry_out(Start(1))
    if comes_back:
        greet(rig, "newer")
    else:
        let_lease_pass(rig)
        keep(rig, Executors())
    assert [(event.delivery, event.received) for event in lost] == [(1, True)]


def test_an_attempt_that_has_ended_is_held_by_nobody() -> None:
    """When it is handed to another session later, the first one has no less to do."""
    occupancy = handed(ONE)
    staged: Any = SimpleNamespace(
        copy=SimpleNamespace(execution=SimpleNamespace(id="e", attempts={})),
        changes=[AttemptMoved(at_s=0.0, key=(1, 0, 1), state=AttemptState.READY)],
    )
    occupancy.take_in([staged])
    occupancy.commit()
    occupancy.hand(ONE, "other")
    occupancy.commit()
    assert (occupancy.count("s"), occupancy.count("other")) == (0, 1)


def test_executors_take_turns(rig: Rig) -> None:
    """Two that serve the same action get as much as each other, also in one batch."""
    other = ExecutorStream("t", "y", {"std.noop": NOOP}, {}, 100, 1_000)
    rig.dispatcher.add_stream(other)
    rig.carry_out(*map(Start, range(4)))
    assert (rig.stream.credit, other.credit) == (98, 98)


def test_an_attempt_of_no_known_description_goes_to_whoever_serves_its_action(rig: Rig) -> None:
    """An engine that knew no descriptions has made it, so that its input is not compared with any."""
    builtin = rig.conductor._lookups._builtin
    builtin["std.noop"] = replace(builtin["std.noop"], digest="")
    own = replace(NOOP, parameters=(Parameter("needed"),), accepts_any=False, digest="d")
    rig.stream.actions = {"std.noop": own}
    rig.carry_out(Start(1))
    assert len(rig.sent) == 1


async def test_tasks_are_looked_up_across_executions(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below an execution or everywhere, in one namespace, of one state, of all or those without sub-workflows; a page
    ends at its size, with one at least."""
    await desk.create(TREE)
    async with ScriptedExecutor(desk.address):
        parent = await desk.start("parent")
        await desk.wait(parent.id, "SUCCESS")
    lookups = Lookups(CompiledWorkflows(compile_row), (), lasting=False)

    def names(*which: Any) -> list[object]:
        with desk.store.read() as queries:
            found = TransactionOutside(lookups, queries, lambda *_: ()).tasks(*which)
        return [each["name"] for each in found]

    assert names(parent.id, "", False, None, False) == ["call", "after"]
    assert names(parent.id, "", True, None, False) == ["call", "after", "work"]
    assert names(parent.id, "", True, None, True) == ["after", "work"]
    assert names(parent.id, "", True, "SUCCESS", True) == ["after", "work"]
    assert names(parent.id, "", True, "ERROR", False) == []
    assert names(parent.id, "elsewhere", True, None, False) == []
    assert sorted(map(str, names(None, "", False, None, False))) == ["after", "call", "work"]
    monkeypatch.setattr(outsides, "PAGE_BYTES_MAX", 1)
    assert names(parent.id, "", True, None, False) == ["call"]


def test_a_description_that_is_too_long_is_refused() -> None:
    """Its action and its size are named."""
    hello = wire.Hello(
        executor_id="x",
        session_id="01890a5d-ac96-774b-bcce-b302099a8057",
        slots=1,
        actions=[wire.ActionDescription(name="pack.a", description="x" * 200)],
    )
    with patch.object(reports, "DESCRIPTION_BYTES_MAX", 100), pytest.raises(InvalidRequest) as caught:
        read_greeting(hello)
    assert [each.subject for each in caught.value.violations] == ["hello.actions[0]"]


async def test_an_answer_that_nobody_asks_for_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it is cancelled, and its name means nothing any more."""
    monkeypatch.setattr(later, "UNCLAIMED_S", 0.0)
    answers = LaterAnswers()
    name, future = answers.open()
    await asyncio.wait([future], timeout=5)
    assert future.cancelled()
    with pytest.raises(Unavailable):
        await answers.take(name)


class Steps(Work):
    """Pauses executions, and notes what each step is given."""

    def __init__(self, *execution_ids: str) -> None:
        self._ids = execution_ids

    def needs(self, batch: Batch) -> Sequence[str]:
        return self._ids

    def carry_out(self, batch: Batch) -> None:
        for each in self._ids:
            batch.step(each, PauseRequested())


def test_each_step_of_a_work_has_a_seed_of_its_own(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two executions that one work steps draw different random numbers; what the work was given is the first seed."""
    starts = [Start(number) for number in range(3)]
    rig.carry_out(*starts)
    seeds: list[tuple[object, ...]] = []
    step = machine.step

    def noted(*arguments: Any) -> machine.StepResult:
        seeds.append(arguments[4].name)
        return step(*arguments)

    monkeypatch.setattr(machine, "step", noted)
    work = Steps(*(each.execution_id for each in starts))
    rig.carry_out(work)
    assert work.given is not None
    assert seeds == [work.given.name, (*work.given.name, 2), (*work.given.name, 3)]


def test_what_was_looked_up_is_forgotten_when_definitions_change(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that defines something, or that fails, forgets it; any other keeps it."""
    forgotten: list[None] = []
    monkeypatch.setattr(Lookups, "forget", lambda lookups: forgotten.append(None))
    rig.carry_out(Start(1))
    assert forgotten == []
    monkeypatch.setattr(rig.store, "failures", [RuntimeError("no")])
    rig.carry_out(Start(2))
    assert len(forgotten) == 1
    greet(rig)
    assert len(forgotten) == 2


def test_values_are_counted_in_bytes() -> None:
    """A letter outside of ASCII counts as what it takes."""
    created = ExecutionCreated(execution_id="e", definition_id="d", workflow="w")
    copy = Copy(Execution(created), None, [created])
    before = copy.value_bytes
    assert copy.count([GlobalsPublished(values={"a": Value(text='"\u00e4x"'), "b": Value(text='"x"')})]) == 5
    assert copy.value_bytes - before == 8


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_copy_that_is_ahead_of_the_store_is_not_believed(rig: Rig, ahead: int) -> None:
    """A commit that was seen to succeed is lost: the execution is loaded anew."""
    start = Start(1)
    rig.carry_out(start)
    copy, _ = rig.copies._copies[start.execution_id]
    revision = copy.execution.revision
    known = rig.copies.known(start.execution_id, revision - ahead, 1)
    assert known == (0 if ahead else revision)
    with rig.store.write() as transaction:
        found = rig.copies.catch_up(start.execution_id, known, transaction.changes_after(start.execution_id, known))
    assert (found is copy, found.execution.revision) == (not ahead, revision)
    assert (start.execution_id in rig.copies) == (not ahead)


def test_small_journals_are_read_together_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executions that are not in memory cost one query for all of them; what is in memory is not read."""
    starts = [Start(number) for number in range(4)]
    rig.carry_out(*starts)
    for each in starts[1:]:
        rig.copies.drop(each.execution_id)
    read: list[list[str]] = []
    written_changes = MemoryTransaction.written_changes

    def noted(transaction: MemoryTransaction, after: Mapping[str, int], texts_max: int) -> dict[str, WrittenChanges]:
        read.append(list(after))
        return written_changes(transaction, after, texts_max)

    monkeypatch.setattr(MemoryTransaction, "written_changes", noted)
    rig.carry_out(*(answer(run) for run in rig.sent))
    assert [sorted(each) for each in read] == [sorted(each.execution_id for each in starts[1:])]


def test_attempts_behind_many_that_nobody_serves_are_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look into the store takes the oldest: when no executor may have any of them, the next one looks at more, until
    somebody may."""
    rig.stream.is_open = False
    rig.carry_out(*(Start(number) for number in range(3)))
    other = Rig(rig.store)
    monkeypatch.setattr(dispatchers, "SCAN_LIMIT", 2)
    other.dispatcher._scan_limit = 2
    limits: list[int] = []
    ready_attempts = MemoryTransaction.ready_attempts

    def noted(transaction: MemoryTransaction, limit: int, *rest: Any) -> list[ReadyAttempt]:
        limits.append(limit)
        found = ready_attempts(transaction, limit, *rest)
        return [replace(each, target="nobody") if place < 2 else each for place, each in enumerate(found)]

    monkeypatch.setattr(MemoryTransaction, "ready_attempts", noted)
    for _ in range(3):
        other.carry_out(Scan(other.dispatcher))
        other.carry_out()
    assert limits == [2, 8, 2]
    assert len(other.sent) == 1


def test_a_report_makes_room_at_once() -> None:
    """Whoever has reported on an action no longer runs it, also while the report is not stored yet."""
    rig = Rig(slots=1)
    rig.define()
    rig.carry_out(Start(1), Start(2))
    assert len(rig.sent) == 1
    assert not rig.dispatcher.has_news
    rig.dispatcher.report(rig.stream, *parse_attempt_id(rig.sent[0].action_execution_id))
    assert rig.dispatcher.has_news
    rig.carry_out()
    assert len(rig.sent) == 2


def test_what_is_stepped_in_place_of_an_order_of_the_parent_answers_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent waits for an answer to this order, and takes none that is older."""
    start = Start(1)
    rig.carry_out(start, Pause(start.execution_id, parent_revision=7))
    step, stepped = machine.step, list[Event]()

    def failing(workflow: Any, execution: Any, event: Event, *rest: Any) -> machine.StepResult:
        stepped.append(event)
        if isinstance(event, PauseRequested):
            raise ZeroDivisionError
        return step(workflow, execution, event, *rest)

    monkeypatch.setattr(machine, "step", failing)
    rig.deliver()
    assert isinstance(stepped[-1], Poisoned)
    assert stepped[-1].parent_revision == 7
    assert rig.state(start.execution_id) == "ERROR"
