"""One batch, in the conductor's thread: a transaction, the claimed executions, and what is decided about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from dalsegno.engine.batches.answers import BatchAnswers
from dalsegno.engine.batches.cache import Copy, ExecutionCache
from dalsegno.engine.batches.claims import Claims
from dalsegno.engine.batches.inquiries import apply_answer
from dalsegno.engine.batches.outbox import Cancel, MessageIds, Outbox, notice_of
from dalsegno.engine.batches.outside import Lookups, TransactionOutside
from dalsegno.engine.batches.session_rows import SessionRows
from dalsegno.engine.batches.staged import EVENT_NAMES, Journals, StagedExecution
from dalsegno.engine.batches.step_note import StepNote
from dalsegno.store.discards import Left, Removal
from dalsegno.store.outages import is_of_store
from dalsegno.store.records import JournalEntry, Progress, Saved
from dalsegno.store.store import Transaction
from dalsegno.workflow import machine
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.commands import AnyCommand, CreateChild, Notify, Send
from dalsegno.workflow.events import (
    AnyEvent,
    Event,
    HandedOut,
    NoticeDue,
    Poisoned,
    RemovalDue,
    StartRequested,
    TaskDone,
    TaskOutcome,
    TimerFired,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.journal import replay
from dalsegno.workflow.machine import StepResult
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.outside import Given
from dalsegno.workflow.refusals import NotFound, Refusal, TooLarge
from dalsegno.workflow.states import COMPLETED_EXECUTION
from dalsegno.workflow.value import EXECUTION_BYTES_MAX, VALUE_BYTES_MAX, byte_length

DEATHS_MAX = 3
"""After this many deaths of engines in a row an execution is ended, and no event is delivered to it any more."""

REMOVAL_WAIT_S = 30.0
"""How long the removal of what an execution has discarded waits for children that are not at rest."""

_KEEPING_DEATHS = frozenset((EVENT_NAMES[HandedOut], EVENT_NAMES[Poisoned]))


class Batch:
    """The transaction that works read and write through. The engine acts on its results after the commit."""

    def __init__(
        self,
        transaction: Transaction,
        cache: ExecutionCache,
        lookups: Lookups,
        at_s: float,
        message_ids: MessageIds,
        broken: dict[str, str],
        step_note: StepNote,
        *,
        last_resort: bool = False,
        shift_s: float = 0.0,
        engine: int = 0,
    ) -> None:
        """`broken`: the executions that cannot be stepped, with the reason; it outlives the batch. `step_note`: records
        what is stepped. `last_resort`: see `Claims.load`.

        `at_s` is the time as engines count it, `shift_s` is its difference from the store's clock (see clock.py).
        `engine`: the number of the engine, if others share the store; else 0.
        """
        self.transaction, self.at_s, self.shift_s = transaction, at_s, shift_s
        self.engine = engine
        self.claims = Claims(transaction, cache, step_note, last_resort=last_resort)
        self.deaths: Mapping[str, int] = self.claims.deaths
        """The number of deaths of those claimed executions in whose steps engines died. They are stepped with care."""
        self.staged: dict[str, StagedExecution] = {}
        self.journals = Journals(transaction, self.claims, self.staged)
        self.outside = TransactionOutside(lookups, transaction.queries, self.journals.until)
        self.lookups = lookups
        self.outbox = Outbox(message_ids, at_s)
        self.deleted: list[str] = []
        self.sessions = SessionRows()
        self.ended_sessions: set[str] = set()
        """Nothing more is handed out to these."""
        self.progress: dict[tuple[str, AttemptKey], Progress] = {}
        """The progress that actions reported. It is no event, and is written once a second."""
        self.held: dict[str, list[tuple[str, AttemptKey]]] = {}
        """For some sessions, all attempts that they run, as stored before this batch."""
        self.taken: dict[str, AnyEvent] = {}
        self.defined = False
        """Whether definitions or descriptions have changed."""
        self.given = Given(at_s, ())
        """The time, seed and care of the steps of the current work."""
        self.counts: dict[str, int] = {}
        """How many events of each kind were stepped."""
        self.answers = BatchAnswers()
        """The answers to complete after everything is written."""
        self.broken = broken
        self._cache, self._step_note = cache, step_note
        self._last_resort = last_resort
        self._steps = 0
        """How many events the current work has stepped."""
        self._done = self._done_before = 0
        """How many changes all works have made, and how many before the current work."""
        self._stepping = ""
        """The id of the execution that is being stepped."""

    def drop_unused_workflows(self) -> int:
        """Drop the long compiled definitions that are not used. Return how many."""
        return self._cache.drop_unused_workflows()

    def take(self, message_ids: Collection[str]) -> None:
        """Remove stored messages. Those that still existed are in `taken`."""
        if message_ids:
            self.taken = self.transaction.take_messages(message_ids)

    def give_back(self, message_id: str, execution_id: str, event: AnyEvent) -> None:
        """Store a message again that this batch has taken and does not deliver."""
        self.outbox.give_back(message_id, execution_id, event)

    def is_settled(self, execution_id: str) -> bool:
        """Return whether the batch has nothing left to write or to answer about an execution."""
        staged = self.staged.get(execution_id)
        return not (staged is not None and staged.changes) and not self.answers.shows(execution_id)

    def claim(self, execution_ids: Collection[str]) -> float | None:
        """Lock these executions for other engines, and the row of this engine against its end. Return what engines add
        to the store's time; None: this engine has ended."""
        begun = self.claims.add(execution_ids, self.engine, self.lookups.places)
        if begun is None:
            return self.shift_s
        self.lookups.confirm(begun.definition_ids)
        return begun.shift_s

    def exists(self, execution_id: str) -> bool:
        """Return whether a claimed execution exists."""
        assert execution_id in self.claims.ids, f"execution {execution_id} was not claimed"
        return execution_id in self.staged or execution_id in self.claims.revisions

    def has_ended(self, execution_id: str) -> bool:
        """Return whether a claimed execution is completed. Does not load it."""
        row = self.transaction.queries.execution(execution_id)
        return row is None or row.state in COMPLETED_EXECUTION

    def is_given_up(self, execution_id: str) -> bool:
        """Return whether so many engines died in its steps that only requests of people are delivered to it."""
        return self.deaths.get(execution_id, 0) >= DEATHS_MAX

    def open(self, execution_id: str) -> StagedExecution:
        """Return a claimed execution in its current state. Raises NotFound."""
        staged = self.staged.get(execution_id)
        if staged is None:
            if not self.exists(execution_id):
                raise NotFound("execution", execution_id)
            copy = self.claims.load(execution_id)
            staged = self.staged[execution_id] = StagedExecution(copy)
        return staged

    def load_private(self, execution_id: str) -> Copy:
        """Return a copy of a claimed execution for a trial. Raises NotFound."""
        if not self.exists(execution_id):
            raise NotFound("execution", execution_id)
        staged = self.staged.get(execution_id)
        if staged is not None and staged.changes and execution_id not in self.claims.revisions:
            raise NotFound("execution", execution_id)  # created by this very batch: no client knows it
        self._step_note.mark(execution_id, "load")
        if staged is None or staged.discarded is None:
            copy = self._cache.load(execution_id, self.transaction)
            copy.go_on(staged.changes if staged is not None else ())
            return copy
        changes = self.journals.until(execution_id, staged.copy.execution.revision)
        return Copy(replay(changes), None, changes)

    def workflow_of(self, copy: Copy) -> Workflow:
        """Return the workflow of the execution. Raises LookupError, and Suspended while the workflow is being
        compiled."""
        if copy.workflow is None:
            copy.workflow = self.lookups.workflows.of(copy.execution.created, self.transaction.queries)
        return copy.workflow

    def try_step(self, copy: Copy, event: Event) -> StepResult:
        """Step a private copy. Raises Refusal."""
        event = msgspec.structs.replace(event, at_s=max(self.at_s, copy.at_s))
        self._step_note.mark(copy.execution.id, EVENT_NAMES[type(event)])
        return machine.step(self.workflow_of(copy), copy.execution, event, self.outside, self._next_given())

    def step(self, execution_id: str, event: Event) -> StepResult:
        """Step a claimed execution and keep what the step decides. Raises Refusal, and NotFound when it does not
        exist."""
        staged = self.open(execution_id)
        copy = staged.copy
        self._step_note.mark(execution_id, EVENT_NAMES[type(event)])
        at_s = max(self.at_s, copy.at_s)
        if type(event) is TimerFired:
            at_s = max(at_s, event.due_s)  # the clock of the engine that found it due may differ a little
        elif type(event) is TaskDone:
            event = self._check_report(copy, event)
        if event.at_s != at_s:
            event = msgspec.structs.replace(event, at_s=at_s)
        outcome = self._step(staged, event)
        longest = copy.count(outcome.changes, outcome.discarded)
        if longest > VALUE_BYTES_MAX or copy.value_bytes > EXECUTION_BYTES_MAX:
            self._stop_growth(staged, event, longest)
        return outcome

    def begin(self, given: Given) -> None:
        """Begin a work."""
        self.given, self._steps, self._stepping = given, 0, ""
        self._done_before = self._done

    def undo_step(self) -> bool:
        """Undo the incomplete step of a work that waits for values. Return False when the work has done more."""
        if self._done != self._done_before:
            return False
        execution_id = self._stepping
        if not execution_id:
            return True
        if execution_id not in self.claims.revisions:
            return False  # created by this very batch: there is nothing to load
        staged = self.staged[execution_id]
        self._cache.drop(execution_id)
        if staged.changes:
            staged.copy = self.load_private(execution_id)
        else:
            del self.staged[execution_id]
        return True

    def _next_given(self, event: Event | None = None) -> Given:
        """Return what the next event of the work is stepped with. HandedOut belongs to no work and evaluates
        nothing."""
        if type(event) is HandedOut and not self.deaths:
            return self.given
        self._steps += 1
        if self._steps == 1 and not self.deaths:
            return self.given  # most works have one step
        return Given(self.given.now_s, (*self.given.name, self._steps), bool(self.deaths))

    def _check_report(self, copy: Copy, event: TaskDone) -> TaskDone:
        """Check the answers of third parties, and make a result that exceeds the limits a failure. Return the event to
        step."""
        attempt = copy.execution.attempts.get(event.key)
        if attempt is not None and attempt.delegated:
            event = apply_answer(copy.execution, event, self.outside)
        return _within_limits(copy, event)

    def try_create(self, workflow: Workflow, event: StartRequested) -> StepResult:
        """Step the start of a new execution of the workflow, and keep nothing. Raises Refusal."""
        assert event.creation is not None
        # The execution has no row, so no death is counted for it.
        self._step_note.mark(event.creation.execution_id, EVENT_NAMES[type(event)])
        return machine.step(workflow, None, self._now(event), self.outside, self._next_given())

    def look_at(self, execution_id: str) -> Execution | None:
        """Return a claimed execution that the work reads only. None when it does not exist or is broken."""
        if execution_id in self.broken or not self.exists(execution_id):
            return None
        try:
            return self.open(execution_id).copy.execution
        except Exception as error:
            self._mark_broken(execution_id, error)
            raise

    def step_for_another(self, execution_id: str, event: Event) -> StepResult | None:
        """Step an execution that is not the one of the work. Return None when that is impossible.

        An error in this step is no error of the work: the execution is marked as broken, the batch is repeated without
        it, and the execution is ended separately.
        """
        if execution_id in self.broken or not self.exists(execution_id):
            return None
        try:
            return self.step(execution_id, event)
        except Refusal:
            raise
        except Exception as error:
            self._mark_broken(execution_id, error)
            raise

    def _mark_broken(self, execution_id: str, error: Exception) -> None:
        """Mark an execution as broken, unless the store has failed: that says nothing about the execution."""
        if not is_of_store(error):
            self.broken[execution_id] = f"{type(error).__name__}: {error}"

    def create(self, workflow: Workflow, event: StartRequested) -> StagedExecution:
        """Create an execution of a workflow and start it. Raises Refusal, and then creates nothing."""
        return self.adopt(workflow, event, self.try_create(workflow, event))

    def adopt(self, workflow: Workflow, event: StartRequested, outcome: StepResult) -> StagedExecution:
        """Keep the execution that `try_create` has made of this event."""
        staged = StagedExecution(Copy(outcome.execution, workflow, ()))
        longest = staged.copy.count(outcome.changes, outcome.discarded)
        if longest > VALUE_BYTES_MAX:
            raise TooLarge("a value of the execution", longest, VALUE_BYTES_MAX)
        if staged.copy.value_bytes > EXECUTION_BYTES_MAX:
            raise TooLarge("the execution", staged.copy.value_bytes, EXECUTION_BYTES_MAX)
        self.claims.ids.add(outcome.execution.id)
        self.staged[outcome.execution.id] = staged
        self._keep(staged, self._now(event), outcome)
        return staged

    def _now(self, event: StartRequested) -> StartRequested:
        assert event.creation is not None
        creation = msgspec.structs.replace(event.creation, at_s=self.at_s)
        return msgspec.structs.replace(event, creation=creation, at_s=self.at_s)

    def delete(self, execution_id: str) -> None:
        """Delete a claimed execution, with what it has discarded."""
        self._done += 1
        for below in self.transaction.hidden_below(execution_id):
            self.transaction.delete_execution(below)
            self.deleted.append(below)
        self.transaction.delete_execution(execution_id)
        self.staged.pop(execution_id, None)
        self.claims.revisions.pop(execution_id, None)
        self.deleted.append(execution_id)

    def remove_discarded(self, execution_id: str) -> None:
        """Remove the next slice of what a claimed execution has discarded."""
        self._done += 1
        self._removed(execution_id, self.transaction.remove_discarded(execution_id, self.claims.ids))

    def _removed(self, execution_id: str, removal: Removal) -> None:
        """Forget the executions that were removed, and go on later with what is left."""
        self.deleted += removal.executions
        if removal.left is not Left.NOTHING:
            wait_s = 0.0 if removal.left is Left.MORE else REMOVAL_WAIT_S
            self._send(execution_id, RemovalDue(at_s=self.at_s), self.at_s + wait_s)

    def notify(self, execution_id: str, notice: NoticeDue) -> None:
        """Store a notice and post it after the commit. It becomes due again unless the receiver takes it."""
        self._done += 1
        self.outbox.notify(execution_id, notice)

    def delay(self, execution_id: str, notice: NoticeDue, due_s: float) -> None:
        """Store a notice that is posted later."""
        self._done += 1
        self.outbox.delay(execution_id, notice, due_s)

    def end_sessions(self, session_ids: Collection[str]) -> None:
        """Mark sessions of executors as ended."""
        self.sessions.end(session_ids)
        self.defined = True  # the executors of their actions have changed
        self.ended_sessions.update(session_ids)

    @property
    def has_decided(self) -> bool:
        """Whether the batch has decided anything about executions."""
        return self.outbox.has_new or any(staged.changes for staged in self.staged.values())

    def save(self) -> None:
        """Write everything that was decided, and complete the answers from what is written."""
        saved = [
            Saved(staged.copy.execution, staged.changes, staged.entries, self._deaths_left(staged), staged.discarded)
            for staged in self.staged.values()
            if staged.changes
        ]
        if saved:
            for execution_id, removal in self.transaction.save_all(saved, self.claims.ids, self.engine).items():
                self._removed(execution_id, removal)
        for execution_id in self.deaths:
            stepped = self.staged.get(execution_id)
            if stepped is not None and stepped.is_stepped and not (stepped.changes or self.is_given_up(execution_id)):
                self.transaction.set_deaths(execution_id, 0)
        if messages := self.outbox.rows:
            self.transaction.add_messages(messages, self.engine)
        self.answers.complete(self.transaction, self.at_s, self.staged)
        self.sessions.write(self.transaction)

    def _deaths_left(self, staged: StagedExecution) -> int:
        """Return the number of deaths to store.

        Every step that is stored sets it to 0, except two: handing out, which a new engine does before the step that
        kills it, and the end of the execution, because later events might kill as well.
        """
        if self.deaths and all(entry.event in _KEEPING_DEATHS for entry in staged.entries):
            return self.deaths.get(staged.copy.execution.id, 0)
        return 0

    def keep_copies(self) -> None:
        """Keep the copies after the commit: they are what is stored."""
        for execution_id, staged in self.staged.items():
            if self._last_resort:
                self._cache.drop(execution_id)
            else:
                self._cache.put(staged.copy)
        for execution_id in self.deleted:
            self._cache.drop(execution_id)
        if self.defined:
            self.lookups.forget()

    def drop_copies(self) -> None:
        """Drop everything in memory that the batch has touched, after a failure."""
        for execution_id in self.staged:
            self._cache.drop(execution_id)
        for execution_id in self.claims.ids:
            self._cache.drop(execution_id)
        self.lookups.forget()

    def _step(self, staged: StagedExecution, event: Event) -> StepResult:
        execution = staged.copy.execution
        before = execution.revision
        workflow = staged.copy.workflow or self.workflow_of(staged.copy)
        self._stepping = execution.id
        try:
            outcome = machine.step(workflow, execution, event, self.outside, self._next_given(event))
        except Refusal as refusal:
            if execution.revision != before:
                raise RuntimeError(f"refused after {execution.revision - before} changes: {refusal}") from refusal
            raise
        self._keep(staged, event, outcome)
        return outcome

    def _keep(self, staged: StagedExecution, event: Event, outcome: StepResult) -> None:
        self._stepping = ""
        self._done += 1
        name = EVENT_NAMES[type(event)]
        self.counts[name] = self.counts.get(name, 0) + 1
        staged.is_stepped = True
        if outcome.changes:
            staged.changes.extend(outcome.changes)
            staged.entries.append(JournalEntry(name, event.at_s, event.actor, event.comment, len(outcome.changes)))
            if outcome.discarded is not None:
                staged.discarded = outcome.discarded.following(staged.discarded)
        if outcome.commands:
            self._take_commands(staged.copy.execution, outcome.commands)

    def _take_commands(self, execution: Execution, commands: Iterable[AnyCommand]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self._send(command.to, command.event, command.due_s)
            elif isinstance(command, CreateChild):
                self._create_child(command.creation)
            elif isinstance(command, Notify):
                self.notify(execution.id, notice_of(command))
            else:
                self.outbox.cancels.append(Cancel(command.session_id, execution.id, command, execution.info))

    def send(self, execution_id: str, event: Event) -> None:
        """Store a message that delivers the event to an execution in a later batch."""
        self._send(execution_id, event, None)

    def _send(self, to: str, event: Event, due_s: float | None) -> None:
        self._done += 1
        self.outbox.send(to, event, due_s)

    def _create_child(self, creation: ExecutionCreated) -> None:
        """Insert a child as IDLE in the parent's transaction. A message starts it."""
        child = Execution(creation)
        child.revision = 1
        entry = JournalEntry("start_requested", creation.at_s, creation.actor, creation.comment, 1)
        copy = Copy(child, None, [creation])
        self.claims.ids.add(child.id)
        self.staged[child.id] = StagedExecution(copy, [creation], [entry])
        self._send(child.id, StartRequested(at_s=creation.at_s, actor=creation.actor), None)

    def _stop_growth(self, staged: StagedExecution, event: Event, longest: int) -> None:
        """End an execution whose own values (publishes, inputs) exceed the limits, with the reason."""
        if longest > VALUE_BYTES_MAX:
            reason = f"too large: a value of {longest:,} bytes; a value has at most {VALUE_BYTES_MAX:,}"
        else:
            size = staged.copy.value_bytes
            reason = f"too large: values of {size:,} bytes; an execution has at most {EXECUTION_BYTES_MAX:,}"
        outcome = self._step(staged, Poisoned(at_s=event.at_s, reason=reason))
        staged.copy.count(outcome.changes, outcome.discarded)


def _within_limits(copy: Copy, event: TaskDone) -> TaskDone:
    """Replace a result that exceeds the limits by a failure that says so (dalsegno/README.md#contract)."""
    if event.result is None:
        return event
    size = byte_length(event.result.text)
    if size <= VALUE_BYTES_MAX and copy.value_bytes + size <= EXECUTION_BYTES_MAX:
        return event
    reason = f"result too large: {size:,} bytes"
    if size <= VALUE_BYTES_MAX:
        reason += f", and the execution has {copy.value_bytes:,} of at most {EXECUTION_BYTES_MAX:,} already"
    return msgspec.structs.replace(event, outcome=TaskOutcome.FAILED, result=None, error=reason)
