"""Hands READY attempts to executors with credit, as part of the batch (DESIGN.md section 4). In the conductor's thread.

READY attempts come from three sides: what this batch has just made READY, what waits in the backlog, and, once a
second while there is credit to spare, what the store has (left by an engine that is no more).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from dalsegno.engine.batches.batch import Batch, StagedExecution
from dalsegno.engine.batches.care import Part
from dalsegno.engine.batches.handing_out import Outgoing
from dalsegno.engine.batches.work import Work
from dalsegno.engine.executors.backlog import Backlog, Entry, Requirement
from dalsegno.engine.executors.occupancy import Name, Occupancy
from dalsegno.engine.executors.sessions import TakeBack
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.rpc import convert
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import AttemptAdded, AttemptMoved, ExecutionMoved
from dalsegno.workflow.events import HandedOut
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey, attempt_id, parse_attempt_id
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.scope import Suspended
from dalsegno.workflow.states import QUIET_EXECUTION, AttemptState, ExecutionState

PICKS_MAX = 500
"""As many attempts are taken from the backlog in one batch: each may bring an execution to be claimed."""

SCAN_LIMIT = 1_000
SCAN_LIMIT_MAX = 1_000_000


class Dispatcher:
    """Streams with credit on one side, READY attempts on the other."""

    def __init__(self, make_token: Callable[[str, int], str]) -> None:
        self._make_token = make_token
        self._streams: list[ExecutorStream] = []
        self._serving: dict[Requirement, deque[ExecutorStream]] = {}
        self._backlog = Backlog()
        self._occupancy = Occupancy()
        self._picks: list[Entry] = []
        self._news: deque[Callable[[], None]] = deque()
        self._reported: deque[tuple[Name, str]] = deque()
        """Attempts and the sessions that have reported on them."""
        self._scan_limit = SCAN_LIMIT
        self._more = False
        self._leaves_some = False
        self.outgoing: dict[ExecutorStream, list[wire.RunAction]] = {}
        """What the present batch hands out, to be sent after its commit."""

    @property
    def waiting_count(self) -> int:
        """How many attempts wait for credit."""
        return len(self._backlog)

    # What the event loop tells; it takes effect when the next batch begins.

    def add_stream(self, stream: ExecutorStream) -> None:
        """An executor is there."""
        self._news.append(lambda: self._add_stream(stream))

    def remove_stream(self, stream: ExecutorStream) -> None:
        """It is gone."""
        self._news.append(lambda: self._remove_stream(stream))

    def give_credit(self, stream: ExecutorStream, more: int) -> None:
        """It takes more."""
        self._news.append(lambda: self._give_credit(stream, more))

    def report(self, stream: ExecutorStream, execution_id: str, key: AttemptKey) -> None:
        """Its executor has reported on an attempt, and does not run it any more."""
        self._reported.append(((execution_id, key), stream.session_id))

    @property
    def has_news(self) -> bool:
        """Whether waiting attempts may be handed out now: something was told, or the last batch could not take all."""
        return bool(self._news or self._reported) or self._more

    # What the conductor's thread does.

    def begin(self) -> bool:
        """Take in what was told. Whether anything of the backlog can now be handed out."""
        while self._reported:
            self._occupancy.report(*self._reported.popleft())
        while self._news:
            self._news.popleft()()
        self._more = self._could_give()
        return self._more

    def pick(self, part: Part) -> set[str]:
        """Choose from the backlog what there is credit for; the executions to be claimed for it."""
        self.outgoing = {}
        self._leaves_some = bool(part.avoided)
        credit = {kind: self._credit(kind) for kind in self._backlog.kinds()}
        total = sum(map(self._room, self._streams))
        self._picks += self._backlog.take(credit, min(PICKS_MAX, total), part.may_hand_out)
        return {entry[1] for entry in self._picks}

    def hand_out(self, batch: Batch) -> None:
        """Give what was picked, then what this batch made READY, to streams with credit; the rest waits."""
        self._occupancy.recount(batch.held)
        self._occupancy.take_in(batch.staged.values())
        self._backlog.put_back([entry for entry in self._picks if not self._give(batch, entry)])
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
        """The batch is stored: what is to be sent, by stream."""
        self._occupancy.commit()
        if batch.ended_sessions:
            self._occupancy.forget(batch.ended_sessions)
            for stream in self._streams:
                if stream.session_id in batch.ended_sessions:
                    stream.is_open = False
        outgoing, self.outgoing, self._picks = self.outgoing, {}, []
        self._more = not self._leaves_some and self._could_give()  # else a later batch has to look
        return dict(outgoing.items())

    def take_back(self) -> list[Work]:
        """A commit that failed may have happened all the same; what it would have handed out is then never sent."""
        return [
            TakeBack(
                stream.session_id,
                stream.executor_id,
                [(*parse_attempt_id(each.action_execution_id), each.delivery) for each in actions],
            )
            for stream, actions in self.outgoing.items()
        ]

    def roll_back(self) -> None:
        """The batch has failed: credit and picks are as before it."""
        for stream, actions in self.outgoing.items():
            stream.credit += len(actions)
        self._occupancy.roll_back()
        self._backlog.put_back(self._picks)
        self.outgoing, self._picks, self._more = {}, [], False

    def scan(self, batch: Batch) -> None:
        """Look through the store for READY attempts, if there is credit to spare: what dead engines left."""
        if not any(map(self._room, self._streams)):
            return
        found = batch.transaction.ready_attempts(self._scan_limit)
        servable = 0
        for ready in found:
            kind = Requirement(ready.action, ready.target, ready.digest, None)
            added = self._backlog.add((kind, ready.execution_id, ready.key))
            servable += added and self._credit(kind) > 0
        if len(found) < self._scan_limit or servable:
            self._scan_limit = SCAN_LIMIT
        else:  # the oldest are such that nobody serves: look behind them
            self._scan_limit = min(self._scan_limit * 4, SCAN_LIMIT_MAX)

    def _add_stream(self, stream: ExecutorStream) -> None:
        self._streams.append(stream)
        self._serving.clear()

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
        """How many more may be handed to it: no more than its credit, and no more than its session has free slots."""
        if not stream.is_open:
            return 0
        return max(0, min(stream.credit, stream.slots - self._occupancy.count(stream.session_id)))

    def _could_give(self) -> bool:
        return any(self._credit(kind) for kind in self._backlog.kinds())

    def _stream_with_credit(self, kind: Requirement, ended: set[str]) -> ExecutorStream | None:
        """The next one in turn."""
        streams = self._streams_for(kind)
        for _ in range(len(streams)):
            stream = streams[0]
            if len(streams) > 1:
                streams.rotate(-1)
            if stream.session_id not in ended and self._room(stream):
                return stream
        return None

    def _give(self, batch: Batch, entry: Entry) -> bool:
        """Hand one out. False when nobody has credit. What is no longer to be handed out counts as given, and so does
        what waits from now on for those who take its input."""
        kind, execution_id, key = entry
        stream = self._stream_with_credit(kind, batch.ended_sessions)
        if stream is None:
            return False
        execution = batch.look_at(execution_id)
        if execution is None or execution.state in QUIET_EXECUTION:
            return True
        attempt = execution.attempts.get(key)
        if attempt is None or attempt.state is not AttemptState.READY:
            return True
        if kind.given is None and stream.actions[attempt.action].digest != attempt.digest and attempt.digest:
            kind = kind._replace(given=_given(attempt))
            stream = self._stream_with_credit(kind, batch.ended_sessions)
            if stream is None:
                self._backlog.add((kind, execution_id, key))
                return True
        try:
            batch.step_for_another(
                execution_id, HandedOut(key=key, session_id=stream.session_id, executor_id=stream.executor_id)
            )
        except Suspended:
            return True  # its definition is being compiled; the next scan finds it
        stream.credit -= 1
        self._occupancy.hand((execution_id, key), stream.session_id)
        self.outgoing.setdefault(stream, []).append(self._message(execution, attempt))
        return True

    def _message(self, execution: Execution, attempt: Attempt) -> wire.RunAction:
        task = execution.tasks[attempt.key[0]]
        name = attempt_id(execution.id, attempt.key)
        created = execution.created
        message = wire.RunAction(
            action_execution_id=name,
            delivery=attempt.delivery,
            action=attempt.action,
            input=attempt.input.text,
            task_token=self._make_token(name, attempt.delivery),
            context=wire.ActionContext(
                namespace=created.namespace,
                execution_id=execution.id if created.workflow else "",
                workflow=created.workflow,
                task_name=task.name if created.workflow else "",
                route=task.route,
                task_number=task.number if created.workflow else 0,
                item=None if task.item_count is None else attempt.key[1],
                attempt=attempt.key[2],
                safe_to_rerun=attempt.safe,
            ),
        )
        deadline = convert.timestamp(attempt.deadline_s)
        if deadline is not None:
            message.deadline.CopyFrom(deadline)
        return message


def ready_entries(staged: StagedExecution) -> list[Entry]:
    """What the changes of a batch made READY, or let be handed out again: each attempt once."""
    execution = staged.copy.execution
    if not execution.ready or execution.state in QUIET_EXECUTION:
        return []
    keys: dict[AttemptKey, None] = {}
    for each in staged.changes:
        if (type(each) is AttemptAdded or type(each) is AttemptMoved) and each.state is AttemptState.READY:
            keys[each.key] = None
        elif type(each) is ExecutionMoved and each.state is ExecutionState.RUNNING:
            keys = execution.ready  # it begins, or goes on: all that waited before
            break
    attempts = (execution.attempts[key] for key in keys if key in execution.ready)
    return [(Requirement(each.action, each.target, each.digest, None), execution.id, each.key) for each in attempts]


def _given(attempt: Attempt) -> tuple[str, ...]:
    """The parameters that an attempt gives to its action."""
    given = attempt.input.data
    return tuple(sorted(given)) if isinstance(given, dict) else ()
