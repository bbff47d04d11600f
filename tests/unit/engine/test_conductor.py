"""The batch: what fails, what is poisoned, what is repeated, what a new engine finds."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from tests.integration.engines import until

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.definitions.document import read
from dalsegno.engine.batches import conductor as conductors
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import CompiledWorkflows, ExecutionCache
from dalsegno.engine.batches.compiling import compile_row
from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.batches.losses import StoreLost
from dalsegno.engine.batches.outside import Lookups
from dalsegno.engine.batches.results import Committed, Deferred, Failed
from dalsegno.engine.batches.turns import take_turns
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.clock import Clock
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.dispatcher import Dispatcher
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.engine.executors.tokens import new_key
from dalsegno.store.descriptions import read_description, write_description
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import NewMessage, StoredDocument, StoredMember
from dalsegno.store.store import Transaction
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow import machine
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import PauseRequested, SliceDue, StartRequested, TaskDone, TaskOutcome
from dalsegno.workflow.identity import derived_id, parse_attempt_id
from dalsegno.workflow.journal import replay
from dalsegno.workflow.states import ExecutionState
from dalsegno.workflow.value import Value

CHAIN = """
version: '2.0'
chain:
  output: {done: true}
  tasks:
    a: {action: std.noop, on-success: [b]}
    b: {action: std.noop, on-success: [c]}
    c: {action: std.noop}
"""


UNHURRIED_S = 60.0
NOOP = read_description(write_description(next(each for each in builtin_descriptions() if each.name == "std.noop")))


class Start(Work):
    """Creates an execution of the chain."""

    def __init__(self, number: int) -> None:
        self.refusal = None
        self.execution_id = derived_id(1e9, str(number))

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (self.execution_id,)

    def carry_out(self, batch: Batch) -> None:
        row = batch.transaction.queries.find_definition("workflow", "chain", "")
        assert row is not None
        creation = ExecutionCreated(execution_id=self.execution_id, definition_id=row.definition_id, workflow="chain")
        workflow = batch.lookups.workflows.of(creation, batch.transaction.queries)
        batch.create(workflow, StartRequested(creation=creation))


class Rig:
    """A conductor without a thread and without a loop: the test carries out batches itself."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        credit: int = 100,
        work_max_s: float = UNHURRIED_S,
        slots: int = 1_000,
        engine: int = 0,
    ) -> None:
        """`engine`: its number, where others share the store."""
        self.store = store or FragileStore()
        workflows = CompiledWorkflows(compile_row)
        self.copies = ExecutionCache(64 << 20, workflows)
        self.dispatcher = Dispatcher(Callbacks(new_key()), engine)
        self.lookups = Lookups(workflows, builtin_descriptions(), lasting=True)
        clock = Clock(lambda: 1.0)  # time stands still: nothing is written but what the test does
        clock.begin(self.store)
        parts = self.store, clock, self.copies, self.lookups, self.dispatcher
        self.conductor = Conductor(*parts, work_max_s=work_max_s, engine=engine)
        self.stream = ExecutorStream("s", "x", {"std.noop": NOOP}, {}, credit, slots)
        self.dispatcher.add_stream(self.stream)
        self.sent: list[wire.RunAction] = []
        self.messages: list[DeliverEvent] = []

    def define(self, text: str = CHAIN) -> None:
        document = read(text)
        assert not document.problems
        with self.store.write() as transaction:
            stored = StoredDocument(text, "mistral", "", 0.0)
            transaction.save_document(stored, [StoredMember(derived_id(0, text), "workflow", "chain")])

    def carry_out(self, *works: Work) -> list[Committed | Failed | Deferred]:
        """Carry out works: in one batch, however busy the machine is, unless the rig's batches have a time."""
        is_timed = self.conductor._work_max_s < UNHURRIED_S
        with patch.object(conductors, "SLOW_WORK_S", conductors.SLOW_WORK_S if is_timed else UNHURRIED_S):
            results = self.conductor.carry_out(works)
        for result in results:
            if isinstance(result, Committed):
                for actions in result.outgoing.values():
                    self.sent += actions
                self.messages += [DeliverEvent(each.execution_id, None, None, each.id) for each in result.messages]
        return results

    def carry_out_together(self, *works: Work) -> None:
        """Carry out works in one batch also when the rig's batches have a time."""
        work_max_s, self.conductor._work_max_s = self.conductor._work_max_s, UNHURRIED_S
        self.carry_out(*works)
        self.conductor._work_max_s = work_max_s

    def deliver(self) -> None:
        """Carry out the messages that were written."""
        messages, self.messages = self.messages, []
        self.carry_out(*messages)

    def finish_all(self) -> None:
        """Answer every action until nothing is sent any more."""
        while self.sent:
            runs, self.sent = self.sent, []
            self.dispatcher.give_credit(self.stream, len(runs))
            self.carry_out(*(answer(run) for run in runs))

    def state(self, execution_id: str) -> str:
        with self.store.read() as queries:
            row = queries.execution(execution_id)
        assert row is not None
        return row.state


def answer(run: wire.RunAction) -> DeliverEvent:
    execution_id, key = parse_attempt_id(run.action_execution_id)
    return DeliverEvent(
        execution_id, TaskDone(key=key, outcome=TaskOutcome.SUCCEEDED, delivery=run.delivery, result=Value(text="1"))
    )


class FragileStore(MemoryStore):
    """A store whose commits fail when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception | None] = []
        self.available = True
        self.commits = 0

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with super().write() as transaction:
            yield transaction
            if self.failures and (failure := self.failures.pop(0)) is not None:
                raise failure
        self.commits += 1

    def is_available(self) -> bool:
        return self.available


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.define()
    return rig


def test_batch_is_one_transaction(rig: Rig) -> None:
    """Many works, what they hand out and what they save are one commit (dalsegno/README.md#durability)."""
    assert isinstance(rig.store, FragileStore)
    before = rig.store.commits
    starts = [Start(number) for number in range(50)]
    rig.carry_out(*starts)
    assert rig.store.commits == before + 1
    assert len(rig.sent) == 50
    assert rig.stream.credit == 50


def test_failed_batch_is_stepped_again_from_the_store(rig: Rig) -> None:
    """After a failure no copy is believed: the same events are stepped again, and everything happens once."""
    assert isinstance(rig.store, FragileStore)
    start = Start(1)
    rig.carry_out(start)
    run = rig.sent.pop()
    rig.store.failures = [RuntimeError("commit failed")]
    rig.carry_out(answer(run))
    assert [each.action_execution_id for each in rig.sent] == [f"{start.execution_id}.2.0.1"]
    assert rig.stream.credit == 98
    rig.finish_all()
    assert rig.state(start.execution_id) == "SUCCESS"
    with rig.store.write() as transaction:
        replayed = replay(transaction.changes_after(start.execution_id, 0))
    assert [attempt.state for attempt in replayed.attempts.values()] == ["SUCCESS"] * 3


def test_poison_event_stands_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The culprit's caller gets the error, its execution ends in ERROR with the reason, all others are committed."""
    starts = [Start(number) for number in range(8)]
    rig.carry_out(*starts)
    poison = starts[5].execution_id
    real = machine.step

    def step(workflow: Any, execution: Any, event: Any, outside: Any, given: Any) -> machine.StepResult:
        outcome = real(workflow, execution, event, outside, given)
        if isinstance(event, TaskDone) and execution.id == poison:
            raise ZeroDivisionError(f"after {len(outcome.changes)} changes")
        return outcome

    monkeypatch.setattr(machine, "step", step)
    runs, rig.sent = rig.sent, []
    answers = [answer(run) for run in runs]
    results = rig.carry_out(*answers)
    failed = [result for result in results if isinstance(result, Failed)]
    assert [result.work for result in failed] == [answers[5]]
    assert isinstance(failed[0].error, ZeroDivisionError)
    monkeypatch.undo()
    rig.finish_all()
    states = [rig.state(start.execution_id) for start in starts]
    assert states == ["SUCCESS"] * 5 + ["ERROR"] + ["SUCCESS"] * 2
    with rig.store.read() as queries:
        row = queries.execution(poison)
    assert row is not None
    assert "ZeroDivisionError" in row.info


def test_execution_that_cannot_be_loaded_is_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even its definition can be read an execution still ends in ERROR, and says why."""
    start = Start(1)
    rig.carry_out(start)
    run = rig.sent.pop()
    heir = Rig(rig.store)
    monkeypatch.setattr(heir.copies.workflows, "_compile_row", unreadable)
    heir.carry_out(answer(run))
    assert rig.state(start.execution_id) == "ERROR"
    with rig.store.read() as queries:
        row = queries.execution(start.execution_id)
    assert row is not None
    assert "not to be read" in row.info


def unreadable(row: object) -> Any:
    raise ValueError("a definition that is not to be read")


def test_broken_execution_in_the_backlog_harms_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is picked for handing out and cannot be loaded is left out, ended on its own, and blames no work."""
    poor = Rig(rig.store, credit=0)
    broken = Start(1)
    poor.carry_out(broken)
    heir = Rig(rig.store)
    healthy = Start(2)
    heir.carry_out(healthy)
    run = heir.sent.pop()
    monkeypatch.setattr(heir.copies.workflows, "of", only_of(healthy.execution_id, heir.copies.workflows.of))
    told = answer(run)
    (committed,) = heir.carry_out(Scan(heir.dispatcher), told)
    assert isinstance(committed, Committed)
    assert told.verdict == "accepted"
    assert list(committed.broken) == [broken.execution_id]
    assert [run.action_execution_id for run in heir.sent] == [f"{healthy.execution_id}.2.0.1"]


def only_of(execution_id: str, real: Any) -> Any:
    def of(created: ExecutionCreated, queries: Any) -> Any:
        if created.execution_id != execution_id:
            raise ValueError("a definition that is not to be read")
        return real(created, queries)

    return of


def test_outage_poisons_nobody(rig: Rig) -> None:
    """When the database is gone, full or read-only nothing is anybody's fault: the works are to be kept."""
    assert isinstance(rig.store, FragileStore)
    start = Start(1)
    rig.carry_out(start)
    run = rig.sent.pop()
    rig.store.failures = [sqlite3.OperationalError("database or disk is full")]
    with pytest.raises(StoreLost):
        rig.carry_out(answer(run))
    rig.store.failures, rig.store.available = [RuntimeError("connection lost")], False
    with pytest.raises(StoreLost):
        rig.carry_out(answer(run))
    rig.store.available = True
    rig.carry_out(answer(run))
    rig.finish_all()
    assert rig.state(start.execution_id) == "SUCCESS"


def test_repeated_report_changes_nothing(rig: Rig) -> None:
    """The same outcome twice in one batch and again later is a duplicate (P24)."""
    start = Start(1)
    rig.carry_out(start)
    run = rig.sent.pop()
    first, second, third = answer(run), answer(run), answer(run)
    rig.carry_out(first, second)
    rig.carry_out(third)
    assert [told.verdict for told in (first, second, third)] == ["accepted", "duplicate", "duplicate"]
    assert len(rig.sent) == 1


def test_message_takes_effect_once(rig: Rig) -> None:
    """A message that is met twice, or whose execution is gone, is applied once or not at all."""
    start = Start(1)
    rig.carry_out(start)
    pause = Pause(start.execution_id)
    rig.carry_out(pause)
    (message,) = rig.messages
    again = DeliverEvent(message.execution_id, None, None, message.message_id)
    rig.carry_out(message, again)
    assert (message.verdict, again.verdict) == ("accepted", "superseded")
    later = DeliverEvent(message.execution_id, None, None, message.message_id)
    rig.carry_out(later)
    assert later.verdict == "superseded"


class Pause(Work):
    """Writes a message that asks for a pause. `parent_revision`: that of the parent, if it is an order of it."""

    def __init__(self, execution_id: str, parent_revision: int = 0) -> None:
        self.refusal = None
        self.execution_id = execution_id
        self.parent_revision = parent_revision

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return ()

    def carry_out(self, batch: Batch) -> None:
        batch.send(self.execution_id, PauseRequested(parent_revision=self.parent_revision))


def test_new_engine_goes_on_from_the_store(rig: Rig) -> None:
    """A second engine over the same store replays the journal and completes what the first began."""
    starts = [Start(number) for number in range(3)]
    rig.carry_out(*starts)
    heir = Rig(rig.store)
    heir.carry_out(*(answer(run) for run in rig.sent))
    heir.finish_all()
    assert {rig.state(start.execution_id) for start in starts} == {"SUCCESS"}


def test_stale_copy_is_caught_up(rig: Rig) -> None:
    """An engine whose copy is behind applies what another one has written before it steps."""
    start = Start(1)
    rig.carry_out(start)
    other = Rig(rig.store)
    other.carry_out(answer(rig.sent.pop()))
    rig.carry_out(answer(other.sent.pop()))
    assert len(rig.sent) == 1
    assert rig.sent[0].action_execution_id.endswith(".3.0.1")


def test_without_credit_attempts_wait_and_are_found_by_others(rig: Rig) -> None:
    """What finds no credit stays READY; credit or another engine's scan hands it out."""
    poor = Rig(rig.store, credit=0)
    start = Start(1)
    poor.carry_out(start)
    assert poor.sent == []
    assert poor.dispatcher.waiting_count == 1
    poor.dispatcher.give_credit(poor.stream, 1)
    poor.carry_out()
    assert [run.delivery for run in poor.sent] == [1]
    assert not poor.dispatcher.has_news, "nothing is left to hand out, so no further batch begins for it"
    second = Start(2)
    poor.carry_out(second)
    rich = Rig(rig.store)
    rich.carry_out(Scan(rich.dispatcher))
    assert [run.action_execution_id for run in rich.sent] == [f"{second.execution_id}.1.0.1"]


class Scan(Work):
    """Looks for READY attempts."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.refusal = None
        self.dispatcher = dispatcher

    def needs(self, batch: Batch) -> tuple[str, ...]:
        self.dispatcher.scan(batch)
        return ()

    def carry_out(self, batch: Batch) -> None:
        pass


def test_nothing_of_a_quiet_execution_is_handed_out() -> None:
    """READY attempts of a paused execution wait until it continues (O4)."""
    rig = Rig(credit=0)
    rig.define()
    start = Start(1)
    rig.carry_out(start)
    rig.carry_out(DeliverEvent(start.execution_id, PauseRequested()))
    rig.dispatcher.give_credit(rig.stream, 10)
    rig.carry_out()
    assert rig.sent == []
    assert rig.state(start.execution_id) == ExecutionState.PAUSED


def test_what_stores_something_notes_its_time() -> None:
    """In the same transaction, so that an engine that starts later never goes back behind it (see clock.py)."""
    rig = Rig()
    rig.define()
    rig.carry_out(Start(1))
    with rig.store.write() as transaction:
        assert transaction.clock_row().latest_s == rig.conductor.clock.now_s() == rig.conductor.clock.noted_s


async def test_requests_are_answered_while_the_store_is_lost() -> None:
    """Who asks is told UNAVAILABLE; what executors told is kept and done when the store is back."""
    rig = Rig()
    rig.define()
    assert isinstance(rig.store, FragileStore)
    conductor = rig.conductor
    conductor.start()
    told: list[BaseException | None] = []
    start = Start(1)
    conductor.put(start)
    await settled(conductor)
    rig.store.failures = [sqlite3.OperationalError("disk full")]
    run_id = f"{start.execution_id}.1.0.1"
    event = TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1)
    conductor.put(DeliverEvent(start.execution_id, event, lambda work, error: told.append(error)))
    await until(lambda: told)
    assert told == [None], run_id
    assert not conductor.readiness.lost
    assert conductor.readiness.recovered_s > 0
    await conductor.stop(1.0)


async def settled(conductor: Conductor) -> None:
    """Once nothing is waiting and no batch runs."""
    await asyncio.sleep(0)
    while conductor.depth or conductor._is_busy:
        conductor._rested.clear()
        await conductor._rested.wait()


class Timed(DeliverEvent):
    """An event that takes its time."""

    TAKES_S = 0.003

    def carry_out(self, batch: Batch) -> None:
        until_s = time.thread_time() + self.TAKES_S
        while time.thread_time() < until_s:
            pass
        super().carry_out(batch)


class Slow(Timed):
    """One that takes long."""

    TAKES_S = 0.03


# In 0.05 s sixteen works of 0.003 s fit, and a seventeenth begins in it.
@pytest.mark.parametrize(("kind", "done_most"), [(Timed, 17), (Slow, 1)])
def test_a_batch_ends_after_its_time(kind: type[Timed], done_most: int) -> None:
    """No further work is begun after it, and sooner after a slow one; what is left keeps its order."""
    rig = Rig(work_max_s=0.05)
    rig.define()
    starts = [Start(number) for number in range(30)]
    rig.carry_out_together(*starts)
    works = [kind(start.execution_id, PauseRequested()) for start in starts]
    result, *others = rig.carry_out(*works)
    assert isinstance(result, Committed)
    assert not others
    assert [*result.works, *result.left] == works
    done = len(result.works)
    assert 1 <= done <= done_most
    rig.carry_out(*result.left[:1])
    states = [rig.state(start.execution_id) for start in starts]
    assert states.count("PAUSING") == done + 1


def test_those_left_behind_come_a_turn_later() -> None:
    """The first of them keeps its place; then the first of each other execution, then theirs, then the second ones."""
    named = ["slow", "slow", "slower", "quick", "quick", ""]
    works: list[Work] = [DeliverEvent(name, PauseRequested()) for name in named]
    taken = list(works)
    take_turns(taken, {"slow", "slower"})
    assert [works.index(work) for work in taken] == [0, 3, 5, 1, 2, 4]


def test_a_message_that_a_batch_has_not_come_to_stays() -> None:
    """Its row is there until it has been applied, so that no kill of the engine loses it."""
    rig = Rig(work_max_s=0.0)
    rig.define()
    starts = [Start(number) for number in range(2)]
    for start in starts:
        rig.carry_out(start)
    with rig.store.write() as transaction:
        transaction.add_messages(
            [NewMessage(f"m{n}", start.execution_id, PauseRequested(), 0.0) for n, start in enumerate(starts)]
        )
    (result,) = rig.carry_out(*(DeliverEvent(each.execution_id, None, None, f"m{n}") for n, each in enumerate(starts)))
    assert isinstance(result, Committed)
    assert [work.message_id for work in result.left] == ["m1"]
    with rig.store.write() as transaction:
        assert [each.id for each in transaction.due_messages(2e9, 10)] == ["m1"]
    rig.carry_out(*result.left)
    assert [rig.state(start.execution_id) for start in starts] == ["PAUSING", "PAUSING"]


def test_who_tells_of_what_is_not_there_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports for ids that name no execution are refused after one look at the index, for all of them."""
    rig = Rig()
    rig.define()
    claimed: list[str] = []
    claim = Batch.claim

    def claim_and_note(batch: Batch, execution_ids: Collection[str]) -> float | None:
        claimed.extend(execution_ids)
        return claim(batch, execution_ids)

    monkeypatch.setattr(Batch, "claim", claim_and_note)
    works = [
        DeliverEvent(f"nobody-{n}", TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1))
        for n in range(3)
    ]
    rig.carry_out(*works)
    assert [str(work.refusal) for work in works] == [f"execution 'nobody-{n}' does not exist" for n in range(3)]
    assert claimed == []


def test_a_batch_has_one_slice() -> None:
    """Slices of others are left to later batches, whether it was known that they are slices or not."""
    rig = Rig()
    rig.define()
    starts = [Start(number) for number in range(3)]
    rig.carry_out(*starts)
    due = SliceDue(task=1, attempt=1, begun=0)
    works = [DeliverEvent(start.execution_id, due) for start in starts]
    (result,) = rig.carry_out(*works)
    assert isinstance(result, Committed)
    assert (result.works, result.left_slices, result.left) == (works[:1], works[1:], [])


def test_a_slice_takes_no_time_of_other_works() -> None:
    """It is done after them, however long it takes: where many slices wait, other works are done in every batch."""
    rig = Rig(work_max_s=0.05)
    rig.define()
    starts = [Start(number) for number in range(2)]
    rig.carry_out(*starts)
    slices: list[Work] = [SlowSlice(start.execution_id) for start in starts]
    others = [Start(number) for number in range(2, 5)]
    (result,) = rig.carry_out(*slices, *others)
    assert isinstance(result, Committed)
    assert (result.works, result.left_slices, result.left) == ([slices[0], *others], [slices[1]], [])


class SlowSlice(DeliverEvent):
    """A slice that uses more processor time than a batch has."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(execution_id, SliceDue(task=1, attempt=1, begun=0))

    def carry_out(self, batch: Batch) -> None:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        super().carry_out(batch)
