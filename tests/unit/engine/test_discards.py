"""Discards in the engine: what a copy counts, who removes what is left, and what another engine sees (C19-C24)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from tests.unit.engine.test_conductor import FragileStore, Rig, answer

from dalsegno.definitions.document import read
from dalsegno.engine.batches.answers import Answer, ShownAction, ShownExecution
from dalsegno.engine.batches.batch import REMOVAL_WAIT_S, Batch
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.store import memory_discards, removal
from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.store.records import NewMessage, StoredDocument, StoredMember
from dalsegno.store.store import Store
from dalsegno.v1 import action_service_pb2, execution_pb2, execution_service_pb2
from dalsegno.v1.executor_service_pb2 import RunAction
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import DiscardRequested, RemovalDue, StartRequested, TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import derived_id, parse_attempt_id
from dalsegno.workflow.value import EXECUTION_BYTES_MAX, Value

POLLER = """
version: '2.0'
poller:
  vars: {last: none}
  tasks:
    begin: {action: std.noop, on-success: [poll]}
    poll:
      workflow: round
      publish: {last: <% task(poll).result %>}
      checkpoint: {name: polled, when: after, keep: {count: 2}}
      on-success: [poll]
round:
  output: {found: <% task(fetch).result %>}
  tasks:
    fetch: {action: std.noop}
"""
POLLER_ID = derived_id(1e9, "poller")


class StartPoller(Work):
    """Creates the poller."""

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (POLLER_ID,)

    def carry_out(self, batch: Batch) -> None:
        row = batch.transaction.queries.find_definition("workflow", "poller", "")
        assert row is not None
        creation = ExecutionCreated(execution_id=POLLER_ID, definition_id=row.definition_id, workflow="poller")
        batch.create(batch.lookups.workflows.of(creation, batch.transaction.queries), StartRequested(creation=creation))


class Look(Work):
    """Looks at an execution within a batch."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.seen: tuple[int, int, int] | None = None

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (self.execution_id,)

    def carry_out(self, batch: Batch) -> None:
        copy = batch.open(self.execution_id).copy
        self.seen = (copy.execution.revision, copy.execution.first_sequence, copy.value_bytes)


class Polled:
    """The poller, whose every round is answered with a value of this size."""

    def __init__(self, store: Store, size: int = 10, text: str = POLLER) -> None:
        self.store, self.size, self.text = store, size, text
        self.rig = Rig(store)  # type: ignore[arg-type]

    def define(self) -> None:
        document = read(self.text)
        assert not document.problems
        with self.store.write() as transaction:
            members = [StoredMember(derived_id(0, name), "workflow", name) for name in ("poller", "round")]
            transaction.save_document(StoredDocument(self.text, "mistral", "", 0.0), members)

    def begin(self) -> None:
        self.define()
        self.rig.carry_out(StartPoller())

    def rounds(self, count: int) -> None:
        """So many actions are answered, one after the other."""
        for _ in range(count):
            self.settle()
            run = self.rig.sent.pop()
            self.rig.dispatcher.give_credit(self.rig.stream, 1)
            done = answer(run)
            event = done.event
            assert isinstance(event, TaskDone)
            large = TaskDone(key=event.key, outcome=event.outcome, delivery=event.delivery, result=self.value)
            self.rig.carry_out(DeliverEvent(done.execution_id, large))
        self.settle()

    def settle(self) -> None:
        """The messages that are due are delivered until there are none."""
        while self.rig.messages:
            with self.store.write() as transaction:
                due = {each.id for each in transaction.due_messages(self.rig.conductor.clock.now_s(), 1000)}
            self.rig.messages = [each for each in self.rig.messages if each.message_id in due]
            self.rig.deliver()

    def fail_round(self) -> RunAction:
        """The first action of the round fails; the other one runs on. Returns it, once the checkpoint is reached."""
        self.settle()
        fails, stays = sorted(self.rig.sent, key=lambda run: run.action_execution_id)
        self.rig.sent = []
        execution_id, key = parse_attempt_id(fails.action_execution_id)
        failed = TaskDone(key=key, outcome=TaskOutcome.FAILED, delivery=fails.delivery, error="broken")
        self.rig.carry_out(DeliverEvent(execution_id, failed))
        self.rounds(1)  # the task with the checkpoint
        return stays

    @property
    def value(self) -> Value:
        return Value(data=["x" * 1_000] * (self.size // 1_000) or "x" * self.size)

    def look(self, rig: Rig | None = None) -> tuple[int, int, int]:
        look = Look(POLLER_ID)
        (rig or self.rig).carry_out(look)
        assert look.seen is not None
        return look.seen

    def counts(self) -> tuple[int, ...]:
        """How much is shown of the poller and below it."""
        with self.store.read() as queries:
            tasks = queries.tasks(POLLER_ID, size=1000).rows
            attempts = queries.attempts(POLLER_ID, size=1000).rows
            journal = queries.journal(POLLER_ID, limit=10_000)
            return len(queries.execution_ids()), len(tasks), len(attempts), len(journal)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store, in memory and on disk."""
    opened: Store = FragileStore() if request.param == "memory" else open_store(f"sqlite:///{tmp_path}/store.db")
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def polled(store: Store) -> Polled:
    """The poller over a store."""
    poller = Polled(store)
    poller.begin()
    return poller


@contextmanager
def small_slices(rows: int) -> Iterator[None]:
    """A slice has so many rows."""
    with patch.object(removal, "SLICE_ROWS", rows), patch.object(memory_discards, "SLICE_ROWS", rows):
        yield


def test_an_endless_execution_does_not_grow(polled: Polled) -> None:
    """After each round there are as many executions, tasks, attempts, changes and bytes of values as before, and a new
    copy counts the same bytes (C19)."""
    polled.size = 100_000
    polled.rounds(10)
    counts, (_, _, size) = polled.counts(), polled.look()
    copy_memory = len(polled.rig.copies._copies)
    weight = polled.rig.copies._copies[POLLER_ID][0].weight
    polled.rounds(20)
    assert (polled.counts(), polled.look()[2]) == (counts, size)
    assert polled.rig.copies._copies[POLLER_ID][0].weight == weight
    assert size < 20 * polled.size
    assert len(polled.rig.copies._copies) == copy_memory  # those of removed children are dropped
    heir = Rig(polled.store)  # type: ignore[arg-type]
    assert polled.look(heir) == polled.look()
    copy = polled.rig.copies._copies[POLLER_ID][0]
    assert heir.copies._copies[POLLER_ID][0].weight == weight
    assert len(copy._long) + len(copy._long_base) < 30
    assert list(check(polled.store)) == []


@pytest.mark.long("thousands of tasks")
def test_what_was_discarded_does_not_count_for_the_limit(polled: Polled) -> None:
    """An execution publishes more in all than an execution may have at once, and goes on."""
    polled.size = 3_000_000
    polled.rounds(30)
    revision, first, size = polled.look()
    assert 30 * polled.size > EXECUTION_BYTES_MAX > size
    assert polled.rig.state(POLLER_ID) == "RUNNING"
    assert revision - first < 100


def test_a_large_discard_goes_on_by_messages(polled: Polled) -> None:
    """Slices follow each other by messages of the execution to itself; in the end nothing is left, and no message."""
    with small_slices(4):
        polled.rounds(10)
        shown = polled.counts()
    with polled.store.write() as transaction:
        assert transaction.due_messages(1e12, 10) == []
        assert transaction.hidden_below(POLLER_ID) == []
    small = Polled(FragileStore())
    small.begin()
    small.rounds(10)
    assert shown == small.counts()
    assert list(check(polled.store)) == []


def test_a_new_engine_goes_on_with_the_slices(polled: Polled) -> None:
    """Who dies between two slices leaves a message, which another engine finds; meanwhile only what is left in the end
    is shown."""
    with small_slices(4):
        polled.rounds(4)
        polled.rig.carry_out(DeliverEvent(POLLER_ID, DiscardRequested(name="polled")))
        shown, polled.rig.messages = polled.counts(), []
        heir = Rig(polled.store)  # type: ignore[arg-type]
        for _ in range(30):
            with polled.store.write() as transaction:
                due = transaction.due_messages(1e12, 10)
            if not due:
                break
            heir.carry_out(*(DeliverEvent(each.execution_id, None, None, each.id) for each in due))
            assert polled.counts()[1:] == shown[1:]
            assert list(check(polled.store)) == []
    assert not due


def test_one_message_at_a_time_removes(polled: Polled) -> None:
    """While a discard is being removed, later ones write no messages: their rows are removed by the same message."""
    with small_slices(2):
        polled.rounds(1)
        seen = []
        for _ in range(12):
            # Only the removal waits.
            while others := [each for each in polled.rig.messages if not removes(polled.store, each)]:
                polled.rig.messages = [each for each in polled.rig.messages if each not in others]
                polled.rig.carry_out(*others)
            if polled.rig.sent:
                run = polled.rig.sent.pop()
                polled.rig.dispatcher.give_credit(polled.rig.stream, 1)
                polled.rig.carry_out(answer(run))
            seen.append(len([each for each in polled.rig.messages if removes(polled.store, each)]))
        assert max(seen) == 1
        polled.settle()
    assert list(check(polled.store)) == []


def removes(store: Store, work: DeliverEvent) -> bool:
    """Whether the message removes what is discarded."""
    with store.write() as transaction:
        event = transaction.take_messages([work.message_id]).get(work.message_id)
        if event is not None:
            transaction.add_messages([NewMessage(work.message_id, work.execution_id, event, 0.0)])
    return isinstance(event, RemovalDue)


def test_another_engine_loads_a_discarded_execution_anew(polled: Polled) -> None:
    """A copy from before a discard is never caught up: another engine loads what is left, and it is the same."""
    other = Rig(polled.store)  # type: ignore[arg-type]
    polled.look(other)
    polled.rounds(6)
    assert polled.look(other) == polled.look()
    mine, theirs = (rig.copies._copies[POLLER_ID][0].execution for rig in (polled.rig, other))
    assert records(mine) == records(theirs)


def records(execution: Execution) -> tuple[object, ...]:
    return (execution.revision, execution.attempts, list(execution.tasks), dict(execution.globals), execution.entries)


def test_a_failed_commit_of_a_discard_is_stepped_again() -> None:
    """After a failure nothing of the discard has happened; the event is stepped again, and all of it happens once."""
    store = FragileStore()
    polled = Polled(store)
    polled.begin()
    polled.rounds(4)
    before = polled.look()
    store.failures = [RuntimeError("commit failed")]
    polled.rig.carry_out(DeliverEvent(POLLER_ID, DiscardRequested(name="polled")))
    after = polled.look()
    assert after[0] == before[0] + 1  # HistoryDiscarded
    assert after[1] > before[1]
    assert list(check(polled.store)) == []


def test_two_discards_in_one_batch_leave_what_the_last_one_leaves(polled: Polled) -> None:
    """Steps of one batch that discard one after the other see what the former left."""
    polled.rounds(4)
    with polled.store.read() as queries:
        entries = sorted(each.sequence for each in queries.checkpoints(POLLER_ID).rows)
    newest = [DeliverEvent(POLLER_ID, DiscardRequested(sequence=each)) for each in entries[-2:]]
    polled.rig.carry_out(*newest)
    assert polled.look()[1] == entries[-1]
    with polled.store.read() as queries:
        assert [each.sequence for each in queries.checkpoints(POLLER_ID).rows] == entries[-1:]
    assert list(check(polled.store)) == []
    polled.rounds(3)
    assert list(check(polled.store)) == []


def test_records_that_the_first_of_two_discards_alters_are_written() -> None:
    """A task that two discards of one batch keep, as its result is read later, is stored as the first one leaves it."""
    text = POLLER.replace(", keep: {count: 2}", "").replace(
        "  tasks:\n    begin", "  output: {first: <% task(begin).result %>}\n  tasks:\n    begin"
    )
    polled = Polled(FragileStore(), text=text)
    polled.begin()
    polled.rounds(4)
    with polled.store.read() as queries:
        entries = sorted(each.sequence for each in queries.checkpoints(POLLER_ID).rows)
    polled.rig.carry_out(*(DeliverEvent(POLLER_ID, DiscardRequested(sequence=each)) for each in entries[-2:]))
    assert polled.look()[1] == entries[-1]
    assert list(check(polled.store)) == []


class TryAfter(Work):
    """Loads the poller for a trial before and after it discards within the batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (POLLER_ID,)

    def carry_out(self, batch: Batch) -> None:
        batch.step(POLLER_ID, DiscardRequested(name="polled"))
        for copy in (batch.open(POLLER_ID).copy, batch.load_private(POLLER_ID)):
            execution = copy.execution
            self.seen.append((execution.revision, execution.first_sequence, copy.value_bytes))


def test_a_trial_after_a_discard_sees_what_is_left(polled: Polled) -> None:
    """Also in the same batch, where the store has everything still; its values are counted without what is gone."""
    polled.rounds(3)
    work = TryAfter()
    polled.rig.carry_out(work)
    left, tried = work.seen
    assert tried == left


class Delete(Work):
    """Deletes the poller with what is below it."""

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (POLLER_ID, *batch.transaction.queries.descendants(POLLER_ID))

    def carry_out(self, batch: Batch) -> None:
        for execution_id in self.needs(batch):
            batch.delete(execution_id)


def test_a_deleted_execution_takes_along_what_it_discards(polled: Polled) -> None:
    """Who is deleted between two slices leaves no children that nobody sees, and its message finds nothing."""
    with small_slices(2):
        polled.rounds(4)
        polled.rig.carry_out(DeliverEvent(POLLER_ID, DiscardRequested(name="polled")))
        with polled.store.write() as transaction:
            hidden = transaction.hidden_below(POLLER_ID)
        assert hidden
        polled.rig.carry_out(Delete())
        polled.settle()
    assert set(polled.rig.copies._copies).isdisjoint({POLLER_ID, *hidden})
    with polled.store.write() as transaction:
        assert transaction.claim([POLLER_ID, *hidden]) == {}
        assert transaction.hidden_below(POLLER_ID) == []
        assert transaction.due_messages(1e12, 10) == []
        # Nothing is left under their ids either.
        assert [transaction.changes_after(each, 0) for each in (POLLER_ID, *hidden)] == [
            [] for _ in range(len(hidden) + 1)
        ]


BRANCHING = """
version: '2.0'
poller:
  tasks:
    begin: {action: std.noop, on-success: [poll]}
    poll: {workflow: round, on-error: [mark]}
    mark:
      checkpoint: {name: marked, keep: {count: 1}}
      on-success: [poll]
round:
  tasks:
    fails: {action: std.noop, on-error: [fail]}
    stays: {action: std.noop}
"""


def test_a_child_with_a_running_action_is_removed_when_it_rests() -> None:
    """A child that has ended while an action of it still runs is shown and takes the answer; the removal looks again
    after a while, and then removes the child."""
    polled = Polled(FragileStore(), text=BRANCHING)
    polled.begin()
    polled.rounds(1)
    first, *_ = staying = [polled.fail_round() for _ in range(2)]
    rig, child = polled.rig, parse_attempt_id(first.action_execution_id)[0]
    with polled.store.read() as queries:
        assert child in queries.descendants(POLLER_ID)
    with polled.store.write() as transaction:
        (due,) = transaction.due_messages(1e12, 10)
    wait_s = due.due_s - rig.conductor.clock.now_s()
    assert REMOVAL_WAIT_S / 2 < wait_s <= REMOVAL_WAIT_S
    remove = DeliverEvent(POLLER_ID, None, None, due.id)
    rig.carry_out(answer(first))
    with polled.store.read() as queries:
        assert child not in queries.descendants(POLLER_ID)
        assert queries.execution(child) is None
    rig.carry_out(remove)
    with polled.store.write() as transaction:
        assert transaction.hidden_below(POLLER_ID) == []
        assert transaction.due_messages(1e12, 10) == []
    assert len(staying) == 2
    assert list(check(polled.store)) == []


class Tell(Work):
    """Delivers an event, and answers with the execution and the action execution as they are then."""

    def __init__(self, done: DeliverEvent) -> None:
        self.done_event = done.event
        self.execution_id = done.execution_id
        self.told = execution_service_pb2.CancelExecutionResponse()
        self.action = action_service_pb2.CompleteActionResponse()

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (self.execution_id,)

    def carry_out(self, batch: Batch) -> None:
        event = self.done_event
        assert isinstance(event, TaskDone)
        batch.step(self.execution_id, event)
        batch.answers.give(Answer(self.told, ShownExecution(self.execution_id, self.told.execution)))
        action = ShownAction(self.execution_id, event.key, self.action.action_execution)
        batch.answers.give(Answer(self.action, action))


def test_who_ends_a_discarded_child_is_answered(store: Store) -> None:
    """A request after which a discarded child is at rest is carried out; only its answer shows the child."""
    polled = Polled(store, text=BRANCHING)
    polled.begin()
    polled.rounds(1)
    first, _ = polled.fail_round(), polled.fail_round()
    tell = Tell(answer(first))
    polled.rig.carry_out(tell)
    assert tell.told.execution.id == tell.execution_id
    assert tell.told.execution.state == execution_pb2.EXECUTION_STATE_ERROR
    assert tell.action.action_execution.state == execution_pb2.ACTION_STATE_SUCCESS
    with store.read() as queries:
        assert queries.execution(tell.execution_id) is None
