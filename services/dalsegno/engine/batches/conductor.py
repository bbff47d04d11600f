"""Collects all works into batches. Each batch is one transaction (dalsegno/README.md#durability).

    collect (event loop) -> take messages, claim, catch up, step, hand out, write, commit (own thread) -> answer (loop)

While the thread carries out one batch, the event loop collects the next one. A batch contains everything that has
arrived: no work waits for others.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import SimpleQueue

from prometheus_client import Counter

from dalsegno.engine.batches.answering import answer, call_back
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import ExecutionCache
from dalsegno.engine.batches.care import CALM_S, WHOLE, Part, Separation, check_alone
from dalsegno.engine.batches.deferred import DeferredWorks, WorkEvaluator
from dalsegno.engine.batches.durations import Durations
from dalsegno.engine.batches.handing_out import HandOut
from dalsegno.engine.batches.losses import StoreLost, check_answers, keep_results, raise_causes, remaining
from dalsegno.engine.batches.outbox import MessageIds
from dalsegno.engine.batches.outside import Lookups
from dalsegno.engine.batches.readiness import Readiness
from dalsegno.engine.batches.results import Committed, Deferred, DeferredPartway, Failed, Remainder, Result
from dalsegno.engine.batches.step_note import StepNote
from dalsegno.engine.batches.turns import FEW, next_window, pick, take_turns
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.clock import Clock
from dalsegno.engine.feed import DELETED, hint_of
from dalsegno.engine.metrics import BATCH_SIZE, COMMIT_SECONDS, EVENTS, POISONED, QUEUE_DEPTH
from dalsegno.expressions import pool_client
from dalsegno.store.store import Store, StoreConflict, StoreUnreachable
from dalsegno.workflow.events import Poisoned
from dalsegno.workflow.outside import Given
from dalsegno.workflow.refusals import NotBegun, NotFound, Overloaded, Refusal, Unavailable
from dalsegno.workflow.scope import Suspended

WORKS_MAX = 500
"""The maximum number of works in a batch."""

QUEUE_MAX = 20_000
"""When more requests of people wait, further ones are refused. Events of executors and messages are always accepted."""

WORK_MAX_S = 0.05
"""So long after its first work a batch begins no further one, in seconds."""

SLOW_WORK_S = 0.005
"""A work that takes longer is slow, in seconds of processor time: on a busy machine each would be slow by the clock."""

SLOW_MAX_S = 0.02
"""After this time a batch with a slow work begins no further work: the next ones are often slow too, and quick works
wait for the whole batch."""

RETRY_AFTER_S = 0.5
"""How long the engine waits before it tries again to write the store."""

_REPEAT = "the store cannot be written; repeat the request with its request id"

_log = logging.getLogger(__name__)


class Conductor:
    """Collects works and carries them out in batches."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        cache: ExecutionCache,
        lookups: Lookups,
        dispatcher: HandOut,
        works_max: int = WORKS_MAX,
        step_note: StepNote | None = None,
        work_max_s: float = WORK_MAX_S,
        engine: int = 0,
    ) -> None:
        """`step_note`: records what is stepped. `work_max_s`: how long a batch begins works. `engine`: the number of
        the engine, if another one may end it; else 0."""
        self.clock = clock
        self._dispatcher = dispatcher
        self.on_commit: list[Callable[[Committed], None]] = []
        """Called on the loop after each commit, for timers, feed and executors."""
        self.readiness = Readiness(clock.steady_s)
        self.on_ended: Callable[[], None] = lambda: None
        """Called on the loop when it has found that another engine has ended this one: it writes nothing more."""
        self._engine = engine
        self._has_ended = False
        self._transactions = Durations()
        self._store = store
        self._cache = cache
        self._lookups = lookups
        self._works_max = self._window = works_max
        self._step_note = step_note or StepNote()
        self._work_max_s = work_max_s
        self._message_ids = MessageIds()
        self._broken: dict[str, str] = {}
        self._queue: deque[Work] = deque()
        self._slices: deque[Work] = deque()
        """Slices of items. A batch begins one of them, so that no other work waits for a large fan-out."""
        self._doubtful: list[Work] = []
        """The works to do first, because the last commit may have happened although it failed."""
        self._inbox: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_busy = False
        self._begun: Sequence[Work] = ()
        """The works of the present batch."""
        self._is_woken = False
        self._does_few = False
        """Whether the last batch has done few works, and left others."""
        self._behind: set[str] = set()
        """The turns of the works that the last batch has left."""
        self._stopping = False
        self._rested = asyncio.Event()
        self._counters: dict[str, Counter] = {}
        self._deferred = DeferredWorks(self.put_first)
        self._evaluator = WorkEvaluator(self._values_are_there)
        self._calm_s = 0.0
        """From this time on, by the monotonic clock, the engine has run for a while."""
        self._seeds = itertools.count()
        self._nonce = os.urandom(12).hex()

    # The methods on the event loop.

    @property
    def depth(self) -> int:
        """The number of works that wait."""
        return len(self._queue)

    def look_at_store(self) -> None:
        """Note whether the store hangs. What hangs is never cancelled: it may be stored, and ends some time.

        Requests are refused meanwhile, also those that have begun: callers learn the answer when they repeat them.
        Everything else waits.
        """
        self.readiness.look(self._store.stall())
        if self.readiness.stall:
            for work in [*self._begun, *self._queue]:
                if work.is_request:
                    call_back(work.failed, Unavailable(_REPEAT))

    def start(self) -> None:
        """Start the thread. Call this on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._calm_s = time.monotonic() + CALM_S
        self._thread.start()
        self._wake()

    def put(self, work: Work) -> None:
        """Add a work to the next batch."""
        self._queue.append(work)
        self._wake()

    def put_first(self, work: Work) -> None:
        """Make a quick work the first of the next batch, however many wait."""
        self._queue.appendleft(work)
        self._wake()

    def has(self, kind: type[Work]) -> bool:
        """Return whether a work of this kind waits or is carried out."""
        return any(type(each) is kind for each in (*self._begun, *self._queue))

    def put_slice(self, work: Work) -> None:
        """Add a slice of items. Each batch begins one slice, in order."""
        self._slices.append(work)
        self._wake()

    def request(self, work: Work) -> None:
        """Add a work that a client waits for. Raises Overloaded or NotBegun."""
        if self._stopping:
            raise NotBegun("the engine is stopping")
        if not self.readiness.is_ready:
            raise NotBegun(f"the store cannot be written at present{self.readiness.told}")
        if len(self._queue) >= QUEUE_MAX and sum(each.is_request for each in self._queue) >= QUEUE_MAX:
            raise Overloaded(f"{len(self._queue)} events wait to be stored; try again later")
        self.put(work)

    def nudge(self) -> None:
        """Begin a batch if attempts wait, because executors take more."""
        if self._dispatcher.waiting_count:
            self._wake()

    def take_longest_s(self) -> float:
        """Return how long the longest transaction since the last call took, or takes. Called from any thread."""
        return self._transactions.take_longest_s()

    async def stop(self, grace_s: float) -> None:
        """Finish the running batch and the works in the queue, then end the thread."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._is_busy or self._queue or self._slices or self._deferred:
                    self._rested.clear()
                    await self._rested.wait()
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, grace_s)

    def _wake(self) -> None:
        """Begin a batch after the current callback of the event loop."""
        if not self._is_busy and not self._is_woken and self._loop is not None:
            self._is_woken = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Pass the works that have arrived to the thread. (An executor or a future would cost as much as a small
        batch.)"""
        self._is_woken = False
        if self._is_busy:
            return
        if not self._queue and not self._slices and not (self._dispatcher.waiting_count and self._dispatcher.has_news):
            self._rested.set()
            return
        works = self._next_works()
        QUEUE_DEPTH.set(len(self._queue))
        self._is_busy, self._begun = True, works
        self._inbox.put(works)

    def _next_works(self) -> list[Work]:
        """Return the next works, without those that nobody wants any more and those that wait for another work of their
        execution."""
        works: list[Work] = []
        queue = pick(self._queue, self._window, self._behind) if self._does_few else self._queue
        while queue and len(works) < self._window:
            self._gather(queue, works)
        if self._behind:
            take_turns(works, self._behind)
        slices: list[Work] = []
        while self._slices and not slices:
            self._gather(self._slices, slices)
        return [*slices, *works]

    def _gather(self, queue: deque[Work], works: list[Work]) -> None:
        work = queue.popleft()
        if not work.is_wanted:
            self._deferred.drop(work)
        elif not self._deferred.holds_back(work):
            works.append(work)

    def _values_are_there(self, work: Work) -> None:
        """Continue a work: all values that it asked for exist. Called from any thread."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self._deferred.take_up, work)

    def _end(self, works: Sequence[Work], results: Sequence[Result], lost: StoreLost | None) -> None:
        """End a batch: begin the next one, then answer the callers of this one. The thread does not wait for that."""
        self._begun = ()
        ended = results if lost is None else lost.results
        for result in ended:
            match result:
                case Failed(work, _):
                    self._deferred.forget(work)
                case Deferred(work, wait_s):
                    if wait_s:
                        self._deferred.postpone(work, wait_s)
                    else:
                        self._deferred.put(work)
                case Committed():
                    self._committed(result)
        if lost is None:
            self.readiness.note_end(wrote=bool(works))
            self._go_on()
        else:
            self._wait_for_store(remaining(works, lost.results), lost)
        for result in ended:
            answer(result)

    def _wait_for_store(self, works: Sequence[Work], lost: StoreLost) -> None:
        """Keep these works until the store is available, or end: another engine has ended this one."""
        self._keep(works, lost)
        if self._has_ended:
            call_back(self.on_ended)
            return
        assert self._loop is not None
        self._loop.call_later(RETRY_AFTER_S, self._go_on)

    def _committed(self, committed: Committed) -> None:
        """Keep what a stored batch has left, and notify everybody who waits for it."""
        self._behind = {work.turn for work in committed.left}
        self._does_few = bool(committed.left) and len(committed.works) < FEW
        done = None if committed.is_slow or not committed.left else len(committed.works)
        self._window = next_window(self._window, self._works_max, done)
        self._queue.extendleft(reversed(committed.left))
        self._slices.extend(committed.left_slices)
        for execution_id, reason in committed.broken.items():
            self._queue.appendleft(DeliverEvent(execution_id, Poisoned(reason=reason)))
        for act in self.on_commit:
            call_back(act, committed)
        for work in committed.works:
            self._deferred.forget(work)

    def _go_on(self) -> None:
        self._is_busy = False
        self._begin()

    def _keep(self, works: Sequence[Work], lost: StoreLost) -> None:
        """Refuse requests, because nothing is known of them; keep everything else until the store is available."""
        self.readiness.lose(str(lost))
        kept: deque[Work] = deque()
        for work in [*works, *self._queue]:
            if work.is_request or self._stopping:
                call_back(work.failed, Unavailable(_REPEAT))
            elif not work.is_periodic:
                kept.append(work)
        self._queue = kept

    # The methods in the thread.

    def _run(self) -> None:
        assert self._loop is not None
        loop = self._loop
        pool_client.use(self._evaluator)
        while (works := self._inbox.get()) is not None:
            results: list[Result] = []
            lost: StoreLost | None = None
            try:
                results = self.carry_out(works)
            except StoreLost as error:
                lost = error
            except BaseException as error:  # the callers get the error, and the thread continues
                _log.critical("the conductor failed", exc_info=error)
                results = [Failed(work, error) for work in works]
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(self._end, works, results, lost)

    def carry_out(self, works: Sequence[Work], part: Part = WHOLE) -> list[Result]:
        """Do these works in one transaction. If that fails twice, find the work that causes it. Raises StoreLost."""
        can_give = self._dispatcher.begin()
        if not works and not can_give:
            return []
        error: Exception | None = None
        deferred: list[Result] = []
        tries = 0
        while tries < 2:
            broken = len(self._broken)
            try:
                committed = self._transact(works, part)
                return [committed, *map(Deferred, committed.deferred), *deferred]
            except DeferredPartway as suspension:
                deferred.append(Deferred(suspension.work))
                works = [work for work in works if work is not suspension.work]
                continue
            except Separation as separation:
                return [*self._carry_out_parts(separation.parts), *deferred]
            except StoreConflict as conflict:
                error = conflict
            except Exception as failure:
                check_answers(self._store, failure)
                error = failure
                _log.warning("a batch of %d failed: %s: %s", len(works), type(failure).__name__, failure)
            tries += len(self._broken) == broken  # otherwise it is known which execution to leave out
        assert error is not None
        if len(works) > 1:
            half = len(works) // 2
            first = self.carry_out(works[:half], part)
            if any(isinstance(each, Committed) and each.left for each in first):  # the works after it wait, too
                return [*first, Committed(works=(), left=works[half:]), *deferred]
            with keep_results(first):
                return [*first, *self.carry_out(works[half:], part), *deferred]
        if not works:  # only handing out failed; the attempts stay READY
            _log.error("handing out failed", exc_info=error)
            return deferred
        return [*self._isolate(works[0], error, part), *deferred]

    def _carry_out_parts(self, parts: Sequence[Part]) -> list[Result]:
        """Do each part in its own batches, so that executions in whose steps engines died are alone in theirs."""
        results: list[Result] = []
        for number, part in enumerate(parts):
            if any(isinstance(each, Committed) and each.left for each in results):  # the parts after it wait, too
                left = [work for later in parts[number:] for work in later.works]
                return [*results, Committed(works=(), left=left)]
            if part.waits:
                wait_s = max(0.01, self._calm_s - time.monotonic())
                results += [Deferred(work, wait_s) for work in part.works]
                continue
            with keep_results(results):
                try:
                    results.extend(self._transact([end], part, last_resort=True) for end in part.ends)
                except Exception as error:
                    check_answers(self._store, error)
                    _log.exception("an execution in whose steps engines died cannot be ended")
                    refusal = Unavailable(f"an execution cannot be ended: {error}")
                    results += [Failed(work, refusal) for work in part.works]
                else:
                    results += self.carry_out(part.works, part)
        return results

    def _isolate(self, work: Work, error: Exception, part: Part) -> list[Result]:
        """Answer the caller of a work that fails with the error, and end its execution with the reason."""
        if isinstance(error, StoreConflict):
            return [Failed(work, Unavailable(f"written by another engine meanwhile: {error}"))]
        _log.error("%s cannot be carried out", work.name, exc_info=error)
        POISONED.inc()
        if not isinstance(work, DeliverEvent):
            return [Failed(work, error)]
        reason = f"the event {work.name} could not be handled: {type(error).__name__}: {error}"
        poisoned = DeliverEvent(work.execution_id, Poisoned(reason=reason[:4096]), message_id=work.message_id)
        try:
            return [Failed(work, error), self._transact([poisoned], part, last_resort=True)]
        except Exception as failure:
            check_answers(self._store, failure)
            _log.exception("execution %s cannot be ended either; all is tried again", work.execution_id)
            return [Deferred(work, RETRY_AFTER_S)]

    def _transact(self, works: Sequence[Work], part: Part, *, last_resort: bool = False) -> Committed:
        batch: Batch | None = None
        began, decided = time.perf_counter(), 0.0
        try:
            if self.clock.is_stale:
                self.clock.measure(self._store, notes=all(work.is_periodic for work in works))
            with self._transactions, self._store.write() as transaction, raise_causes():
                batch = Batch(
                    *(transaction, self._cache, self._lookups, self.clock.now_s(), self._message_ids, self._broken),
                    self._step_note,
                    last_resort=last_resort,
                    shift_s=self.clock.shift_s,
                    engine=self._engine,
                )
                rest = self._fill(batch, works, part)
                decided = time.perf_counter()
                batch.save()
                is_noted = self._note(batch, works)
        except BaseException:
            if decided:
                self._doubtful += self._dispatcher.take_back()
            self._dispatcher.roll_back()
            if batch is not None:
                batch.drop_copies()
            raise
        finally:
            self._step_note.clear()
        self._doubtful = []
        if is_noted:
            self.clock.noted_s = batch.at_s
        batch.keep_copies()
        rest_ids = {id(work) for work in rest}
        if rest_ids:
            works = [work for work in works if id(work) not in rest_ids]
        self._observe(batch, works, began, decided)
        hints = {
            execution_id: hint_of(staged.copy.execution)
            for execution_id, staged in batch.staged.items()
            if staged.changes
        }
        hints.update(dict.fromkeys(batch.deleted, DELETED))
        broken, self._broken = self._broken, {}
        return Committed(
            works=works,
            left=rest.left,
            left_slices=rest.left_slices,
            deferred=rest.deferred,
            is_slow=rest.is_slow,
            messages=batch.outbox.messages,
            outgoing=self._dispatcher.commit(batch),
            cancels=batch.outbox.cancels,
            hints=hints,
            broken=broken,
            progress=batch.progress,
            notices=batch.outbox.notices,
        )

    def _check(self, shift_s: float | None) -> None:
        """Check by what the claim has returned that this engine may write. Raise StoreUnreachable if another engine has
        ended it, since others may do its work now. Raise StoreConflict if other engines have corrected the time since
        this one has compared it."""
        if not self._engine:
            return
        if shift_s is None:
            self._has_ended = True
            raise StoreUnreachable("another engine has ended this one")
        if shift_s != self.clock.shift_s:
            self.clock.forget_measure()
            raise StoreConflict("the store's clock was set")

    def _note(self, batch: Batch, works: Sequence[Work]) -> bool:
        """Store the time of a batch that may have stored something, once a second. Return whether it was stored."""
        is_due = self.clock.is_note_due(batch.at_s) and (
            batch.has_decided or not all(work.is_periodic for work in works)
        )
        if is_due:
            batch.transaction.note_time(batch.at_s)
        return is_due

    def _fill(self, batch: Batch, given: Sequence[Work], part: Part) -> Remainder:
        """Do the works, first those of a doubtful commit. Return the works that later batches do."""
        works = [*self._doubtful, *given]
        batch.take([message_id for work in works if (message_id := work.message_id)])
        unknown = self._unknown(batch, works)
        needs: list[tuple[Work, Collection[str]]] = []
        for work in works:
            work.refusal = None
            if isinstance(work, DeliverEvent) and work.execution_id in unknown:
                work.refusal = NotFound("execution", work.execution_id)
                needs.append((work, ()))
                continue
            try:
                needs.append((work, work.needs(batch)))
            except Refusal as refusal:
                work.refusal = refusal.with_traceback(None)
                needs.append((work, ()))
        picked = self._dispatcher.pick(part)
        self._check(batch.claim(picked.union(*(ids for _, ids in needs))))
        if batch.deaths:
            # The doubtful works come before every batch, and step nothing.
            is_calm = time.monotonic() >= self._calm_s
            check_alone(needs[len(self._doubtful) :], picked, batch, part, is_calm=is_calm)
        rest = self._carry_out_all(batch, works)
        for work in rest:
            work.leave(batch)
        self._dispatcher.hand_out(batch, self._work_max_s)
        return rest

    def _carry_out_all(self, batch: Batch, works: Sequence[Work]) -> Remainder:
        """Do the works until the time of the batch is over, then one slice. Return the others.

        Raises DeferredPartway.
        """
        rest = Remainder()
        slices: list[Work] = []
        # Without what the store took until now: else a batch on a slow store would do one work, and fall behind.
        began, used_s = time.perf_counter(), batch.claims.stepping_s()
        now, read, until = began, began, began + self._work_max_s
        for index, work in enumerate(works):
            before, now = now, time.perf_counter()
            if now - read > SLOW_WORK_S / 5:  # not each time, because reading the processor time is a system call
                others_s, read = used_s + before - read, now  # the works before the last one took less than that
                used_s = batch.claims.stepping_s()
                if used_s - others_s > SLOW_WORK_S:
                    until, rest.is_slow = min(until, began + SLOW_MAX_S), True
            if work.refusal is None and work.is_slice(batch):
                slices.append(work)
            elif work.must_wait(batch) or (now > until and index > len(self._doubtful) and work.can_wait):
                rest.left.append(work)
            elif work.refusal is None and not self._carry_out_one(batch, work):
                rest.deferred.append(work)
            if work.is_periodic:  # it waited for the store, which is no reason to leave the works after it
                waited_s = time.perf_counter() - now
                began, until = began + waited_s, until + waited_s
        # A slice may take all the time of a batch. Where many wait, other works have theirs all the same.
        if slices and not self._carry_out_one(batch, slices[0]):
            rest.deferred.append(slices[0])
        rest.left_slices += slices[1:]
        return rest

    def _unknown(self, batch: Batch, works: Sequence[Work]) -> set[str]:
        """Return which executions do not exist, of all that events are delivered to, with one query."""
        ids = {work.execution_id for work in works if isinstance(work, DeliverEvent) and not work.message_id}
        ids = {execution_id for execution_id in ids if execution_id not in self._cache}
        return ids - batch.transaction.queries.standings(ids).keys() if ids else ids

    def _carry_out_one(self, batch: Batch, work: Work) -> bool:
        """Do one work. Return False when it must wait for values; then it has done nothing. Raises DeferredPartway."""
        if work.given is None:
            work.given = Given(batch.at_s, (self._nonce, next(self._seeds)))
        batch.begin(work.given)
        self._evaluator.begin(work)
        try:
            work.carry_out(batch)
        except Refusal as refusal:
            # Its frames refer to the work, and would keep it in memory until the collector runs.
            work.refusal = refusal.with_traceback(None)
            _log.info("%s refused: %s", work.name, refusal)
        except Suspended:
            if not batch.undo_step():
                raise DeferredPartway(work) from None
            return False
        finally:
            self._evaluator.end()
        return True

    def _observe(self, batch: Batch, works: Sequence[Work], began: float, decided: float) -> None:
        ended = time.perf_counter()
        BATCH_SIZE.observe(len(works))
        COMMIT_SECONDS.observe(ended - decided)
        for name, count in batch.counts.items():
            counter = self._counters.get(name)
            if counter is None:
                counter = self._counters[name] = EVENTS.labels(name)
            counter.inc(count)
        if _log.isEnabledFor(logging.DEBUG):
            counts = " ".join(f"{name}={count}" for name, count in batch.counts.items())
            _log.debug(
                "batch of %d: %.1f ms, commit %.1f ms, %s",
                len(works),
                (ended - began) * 1e3,
                (ended - decided) * 1e3,
                counts,
            )
