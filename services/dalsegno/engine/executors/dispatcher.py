"""Hands out READY attempts to executors with credit, as part of the batch (dalsegno/README.md#durability), in the
conductor's thread.

READY attempts have three sources: what this batch has made READY, the backlog, and, once a second, the store: those of
this engine that are not in memory, those that a dead engine left, and, while there is credit left, those for which
another engine has none.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from functools import partial

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.care import Part
from dalsegno.engine.batches.handing_out import Outgoing
from dalsegno.engine.batches.staged import StagedExecution
from dalsegno.engine.batches.work import Work
from dalsegno.engine.executors.backlog import Backlog, Entry, Requirement
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.occupancy import Name, Occupancy
from dalsegno.engine.executors.sessions import TakeBack
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.rpc import convert
from dalsegno.secrets.cipher import NO_CIPHERS, NO_KEYS, Ciphers
from dalsegno.store.records import ReadyAttempt
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import AttemptAdded, AttemptMoved, ExecutionMoved
from dalsegno.workflow.events import HandedOut, TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey, attempt_id, parse_attempt_id
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.scope import Suspended
from dalsegno.workflow.secrets import MARK, show_text
from dalsegno.workflow.states import QUIET_EXECUTION, AttemptState, ExecutionState

PICKS_MAX = 500
"""How many attempts are taken from the backlog in one batch. For each an execution may have to be claimed."""

ADOPTED_MAX = 500
"""How many attempts of other engines one batch adopts. For each an execution is locked."""

HELP_AFTER_S = 0.5
"""What waits longer for another engine is handed out by one that has credit left. What can be handed out at once never
waits that long, so that executions stay with their engines."""

NOBODY = 0
"""The keeper of what any engine may hand out."""

UNMET_MAX = 1_000
"""The number of targets without an executor that are remembered."""

SCAN_LIMIT = 1_000
SCAN_LIMIT_MAX = 1_000_000


class Dispatcher:
    """Matches READY attempts with streams that have credit."""

    def __init__(self, callbacks: Callbacks, engine: int = 0, ciphers: Ciphers = NO_CIPHERS) -> None:
        """`engine`: the number of the engine that hands out. `ciphers`: those of the secrets."""
        self._callbacks = callbacks
        self._ciphers = ciphers
        self._engine = engine
        self._streams: list[ExecutorStream] = []
        self._serving: dict[Requirement, deque[ExecutorStream]] = {}
        self._unmet: set[str] = set()
        """Targets of attempts that were found in the store and that no stream fits. Engines would adopt these from each
        other again and again."""
        self._backlog = Backlog()
        self._occupancy = Occupancy()
        self._picks: list[Entry] = []
        self._news: deque[Callable[[], None]] = deque()
        self._reported: deque[tuple[Name, str]] = deque()
        """Reported attempts, with the sessions that reported on them."""
        self._scan_limit = SCAN_LIMIT
        self._more = False
        self._leaves_some = False
        self._given_up: set[Name] = set()
        """What this engine keeps no longer, if the current batch is stored."""
        self.outgoing: dict[ExecutorStream, list[wire.RunAction]] = {}
        """What the current batch hands out. It is sent after the commit."""

    @property
    def waiting_count(self) -> int:
        """The number of attempts that wait for credit."""
        return len(self._backlog)

    # What the event loop calls. It takes effect when the next batch begins.

    def add_stream(self, stream: ExecutorStream) -> None:
        """Add the stream of an executor."""
        self._news.append(lambda: self._add_stream(stream))

    def remove_stream(self, stream: ExecutorStream) -> None:
        """Remove a stream that has ended."""
        self._news.append(lambda: self._remove_stream(stream))

    def give_credit(self, stream: ExecutorStream, more: int) -> None:
        """Add to the credit of a stream."""
        self._news.append(lambda: self._give_credit(stream, more))

    def report(self, stream: ExecutorStream, execution_id: str, key: AttemptKey) -> None:
        """Note that the executor of the stream has reported on an attempt, and no longer runs it."""
        self._reported.append(((execution_id, key), stream.session_id))

    @property
    def has_news(self) -> bool:
        """Whether waiting attempts may be handed out now: there are new facts, or the last batch could not take all."""
        return bool(self._news or self._reported) or self._more

    # What the conductor's thread calls.

    def begin(self) -> bool:
        """Apply what the event loop has called. Return whether anything in the backlog can now be handed out."""
        while self._reported:
            self._occupancy.report(*self._reported.popleft())
        while self._news:
            self._news.popleft()()
        self._more = self._could_give()
        return self._more

    def pick(self, part: Part) -> set[str]:
        """Choose attempts of the backlog for which there is credit. Return the executions to claim for them."""
        self.outgoing = {}
        self._leaves_some = bool(part.avoided)
        credit = {kind: self._credit(kind) for kind in self._backlog.kinds()}
        total = sum(map(self._room, self._streams))
        self._picks += self._backlog.take(credit, min(PICKS_MAX, total), part.may_hand_out)
        return {entry[1] for entry in self._picks}

    def hand_out(self, batch: Batch, load_max_s: float) -> None:
        """Hand out what was picked, then what this batch made READY, to streams with credit. The rest waits, also what
        was picked and comes after loading has taken so long: those who need what is claimed wait for this batch."""
        self._occupancy.recount(batch.held)
        self._occupancy.take_in(batch.staged.values())
        until_s = batch.claims.loading_s + load_max_s
        waiting = [entry for entry in self._picks if batch.claims.loading_s > until_s or not self._give(batch, entry)]
        self._backlog.put_back(waiting)
        fresh: OrderedDict[str, deque[Entry]] = OrderedDict()
        for execution_id, staged in list(batch.staged.items()):
            entries = ready_entries(staged)
            if entries:
                fresh[execution_id] = deque(entries)
        full: set[Requirement] = set()
        while fresh:
            execution_id, entries_left = fresh.popitem(last=False)
            entry = entries_left.popleft()
            if entry[0] in full or not self._give(batch, entry):
                full.add(entry[0])  # credit does not come back within a batch
                self._backlog.add(entry)
            if entries_left:
                fresh[execution_id] = entries_left

    def commit(self, batch: Batch) -> Outgoing:
        """Keep what the batch did: it is stored. Return what to send, by stream."""
        self._occupancy.commit()
        if self._given_up:
            self._backlog.drop(self._given_up)
            self._given_up = set()
        if batch.ended_sessions:
            self._occupancy.forget(batch.ended_sessions)
            for stream in self._streams:
                if stream.session_id in batch.ended_sessions:
                    stream.is_open = False
        outgoing, self.outgoing, self._picks = self.outgoing, {}, []
        self._more = not self._leaves_some and self._could_give()  # otherwise a later batch has to look
        return dict(outgoing.items())

    def take_back(self) -> list[Work]:
        """Return works that withdraw what this batch hands out. A failed commit may have happened, and nothing of it is
        sent."""
        return [
            TakeBack(
                stream.session_id,
                stream.executor_id,
                [(*parse_attempt_id(each.action_execution_id), each.delivery) for each in actions],
            )
            for stream, actions in self.outgoing.items()
        ]

    def roll_back(self) -> None:
        """Undo what the batch did: credit and picks are as before."""
        for stream, actions in self.outgoing.items():
            stream.credit += len(actions)
        self._occupancy.roll_back()
        self._backlog.put_back(self._picks)
        self.outgoing, self._picks, self._more, self._given_up = {}, [], False, set()

    def scan(self, batch: Batch) -> None:
        """Look for READY attempts in the store that this engine keeps and that are not in memory, if there is credit
        left."""
        actions = {name for stream in self._streams if self._room(stream) for name in stream.actions}
        if not actions:
            return
        found = batch.transaction.ready_attempts(self._scan_limit, actions, batch.engine)
        servable = sum(map(self._add_found, found))
        if len(found) < self._scan_limit or servable:
            self._scan_limit = SCAN_LIMIT
        else:  # nobody serves the oldest: look behind them
            self._scan_limit = min(self._scan_limit * 4, SCAN_LIMIT_MAX)

    def adopt(self, batch: Batch, ended: Collection[int], living: Collection[int], *, is_alone: bool) -> bool:
        """Become the keeper of READY attempts of engines that have ended, and of those that have waited for another
        engine while there is credit for them here. Leave to others what no executor here serves, unless it is alone.

        `ended`, `living`: the other engines that keep something. Return whether there may be more.
        """
        adopt = partial(batch.transaction.adopt_attempts, batch.engine, unmet=self._unmet)
        served = {name for stream in self._streams if stream.is_open for name in stream.actions}
        is_full = False
        if served and ended:
            found = adopt(ended, served, math.inf, ADOPTED_MAX)
            is_full = len(found) == ADOPTED_MAX
            for ready in found:
                self._add_found(ready)
        unserved = {kind.action for kind in self._backlog.kinds()} - served
        if unserved and not is_alone:
            left = batch.transaction.adopt_attempts(NOBODY, [batch.engine], unserved, math.inf, ADOPTED_MAX)
            is_full = is_full or len(left) == ADOPTED_MAX
            self._given_up = {(ready.execution_id, ready.key) for ready in left}
        busy = {kind.action for kind in self._backlog.kinds() if self._credit(kind)}
        idle = [stream for stream in self._streams if self._room(stream)]
        actions = {name for stream in idle for name in stream.actions} - busy
        if actions and living:
            room = min(ADOPTED_MAX, sum(map(self._room, idle)))
            for ready in adopt(living, actions, batch.at_s - HELP_AFTER_S, room):
                self._add_found(ready)
        return is_full

    def _add_found(self, ready: ReadyAttempt) -> bool:
        """Add an attempt that the store has to the backlog. Return whether it is new there and can be handed out."""
        if not any(stream.fits(ready.target) for stream in self._streams):
            if len(self._unmet) >= UNMET_MAX:
                self._unmet.clear()
            self._unmet.add(ready.target)
        kind = Requirement(ready.action, ready.target, ready.digest, None)
        return self._backlog.add((kind, ready.execution_id, ready.key)) and self._credit(kind) > 0

    def _add_stream(self, stream: ExecutorStream) -> None:
        self._streams.append(stream)
        self._serving.clear()
        self._unmet.clear()

    def _remove_stream(self, stream: ExecutorStream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            self._serving.clear()

    def _give_credit(self, stream: ExecutorStream, more: int) -> None:
        stream.credit += more

    def _streams_for(self, kind: Requirement) -> deque[ExecutorStream]:
        found = self._serving.get(kind)
        if found is None:
            action, target, digest, given = kind
            found = deque(each for each in self._streams if each.serves(action, digest, given) and each.fits(target))
            if len(self._serving) > 10_000:
                self._serving.clear()
            self._serving[kind] = found
        return found

    def _credit(self, kind: Requirement) -> int:
        return sum(map(self._room, self._streams_for(kind)))

    def _room(self, stream: ExecutorStream) -> int:
        """Return how many more attempts the stream may get: at most its credit, and at most the free slots of its
        session."""
        if not stream.is_open:
            return 0
        return max(0, min(stream.credit, stream.slots - self._occupancy.count(stream.session_id)))

    def _could_give(self) -> bool:
        return any(self._credit(kind) for kind in self._backlog.kinds())

    def _stream_with_credit(self, kind: Requirement, ended: set[str]) -> ExecutorStream | None:
        """Return the next stream with credit, in turn."""
        streams = self._streams_for(kind)
        for _ in range(len(streams)):
            stream = streams[0]
            if len(streams) > 1:
                streams.rotate(-1)
            if stream.session_id not in ended and self._room(stream):
                return stream
        return None

    def _give(self, batch: Batch, entry: Entry) -> bool:
        """Hand out one attempt. Return False when no stream has credit.

        Return True also for an attempt that must not be handed out any more, and for one that now waits for executors
        that accept its input.
        """
        kind, execution_id, key = entry
        stream = self._stream_with_credit(kind, batch.ended_sessions)
        if stream is None:
            return False
        execution = batch.look_at(execution_id)
        if execution is None or execution.state in QUIET_EXECUTION:
            return True
        attempt = execution.attempts.get(key)
        if attempt is None or attempt.state is not _READY:
            return True
        if kind.given is None and stream.actions[attempt.action].digest != attempt.digest and attempt.digest:
            kind = kind._replace(given=_given(attempt))
            stream = self._stream_with_credit(kind, batch.ended_sessions)
            if stream is None:
                self._backlog.add((kind, execution_id, key))
                return True
        given = self._input(execution, attempt)
        if obstacle := self._obstacle(given):
            failed = TaskDone(key=key, outcome=TaskOutcome.FAILED, delivery=attempt.delivery, error=obstacle)
            batch.send(execution_id, failed)  # a message, because its expressions may take long
            return True
        try:
            handed = HandedOut(
                at_s=batch.at_s,
                key=key,
                session_id=stream.session_id,
                executor_id=stream.executor_id,
                engine=self._engine,
            )
            batch.step_for_another(execution_id, handed)
        except Suspended:
            return True  # its definition is being compiled; the next scan finds it
        stream.credit -= 1
        self._occupancy.hand((execution_id, key), stream.session_id)
        self.outgoing.setdefault(stream, []).append(self._message(execution, attempt, given))
        return True

    def _input(self, execution: Execution, attempt: Attempt) -> str:
        """Return the input of an action in clear, as a JSON text."""
        text = attempt.input.text
        return show_text(text, self._ciphers.of(execution.created.namespace)) if MARK in text else text

    def _obstacle(self, given: str) -> str:
        """Return why an action with this input cannot be handed out; empty if it can."""
        if MARK in given and not self._ciphers.hash_key:
            return NO_KEYS
        return self._callbacks.obstacle(given)

    def _message(self, execution: Execution, attempt: Attempt, given: str) -> wire.RunAction:
        task = execution.tasks[attempt.key[0]]
        name = attempt_id(execution.id, attempt.key)
        created = execution.created
        message = wire.RunAction(
            action_execution_id=name,
            delivery=attempt.delivery,
            action=attempt.action,
            input=given,
            has_secrets=given != attempt.input.text,
        )
        context = message.context  # filled in place, because a context that is made first is copied
        context.namespace, context.workflow = created.namespace, created.workflow
        if created.workflow:
            context.execution_id, context.task_name, context.task_number = execution.id, task.name, task.number
        context.route, context.attempt, context.safe_to_rerun = task.route, attempt.key[2], attempt.safe
        if task.progress.item_count is not None:
            context.item = attempt.key[1]
        self._callbacks.add(message)
        deadline = convert.timestamp(attempt.deadline_s)
        if deadline is not None:
            message.deadline.CopyFrom(deadline)
        return message


_GOING = (ExecutionState.RUNNING, ExecutionState.REVERTING)
# A lookup of a member in its class is slow, and every attempt needs this.
_READY = AttemptState.READY


def ready_entries(staged: StagedExecution) -> list[Entry]:
    """Return the attempts that a batch made READY, or that may be handed out again: each once."""
    execution = staged.copy.execution
    if not execution.ready or execution.state in QUIET_EXECUTION:
        return []
    keys: dict[AttemptKey, None] = {}
    for each in staged.changes:
        if (type(each) is AttemptAdded or type(each) is AttemptMoved) and each.state is _READY:
            keys[each.key] = None
        elif type(each) is ExecutionMoved and each.state in _GOING:
            keys = execution.ready  # it begins or continues: everything that waited before
            break
    attempts = (execution.attempts[key] for key in keys if key in execution.ready)
    return [(Requirement(each.action, each.target, each.digest, None), execution.id, each.key) for each in attempts]


def _given(attempt: Attempt) -> tuple[str, ...]:
    """Return the names of the parameters in the input of an attempt."""
    given = attempt.input.data
    return tuple(sorted(given)) if isinstance(given, dict) else ()
