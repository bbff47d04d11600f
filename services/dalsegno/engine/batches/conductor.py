"""The one door: whatever happens is gathered into batches, and each batch is one transaction (DESIGN.md section 4).

    gather (event loop) -> take messages, claim, catch up, step, hand out, write, commit (own thread) -> answer (loop)

While one batch is in its thread the next one gathers. Nothing waits for company: a batch is whatever has arrived.
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

from dalsegno.engine.batches.batch import Batch, MessageIds
from dalsegno.engine.batches.cache import ExecutionCache
from dalsegno.engine.batches.care import CALM_S, WHOLE, Part, Separation, check_alone
from dalsegno.engine.batches.deferred import DeferredWorks, WorkEvaluator
from dalsegno.engine.batches.handing_out import HandOut
from dalsegno.engine.batches.outside import Lookups
from dalsegno.engine.batches.results import Committed, Deferred, DeferredPartway, Failed, Remainder, Result, StoreLost
from dalsegno.engine.batches.step_note import StepNote
from dalsegno.engine.batches.work import DeliverEvent, DropMessage, Work
from dalsegno.engine.clock import Clock
from dalsegno.engine.feed import DELETED, hint_of
from dalsegno.engine.metrics import BATCH_SIZE, COMMIT_SECONDS, EVENTS, POISONED, QUEUE_DEPTH
from dalsegno.expressions import apart
from dalsegno.store.outages import is_outage
from dalsegno.store.store import Store, StoreConflict
from dalsegno.workflow.events import Poisoned
from dalsegno.workflow.outside import Given
from dalsegno.workflow.refusals import NotFound, Overloaded, Refusal, Unavailable
from dalsegno.workflow.scope import Suspended

WORKS_MAX = 500
"""As many works are in one batch."""

QUEUE_MAX = 20_000
"""With more requests of people waiting, further ones are refused; what executors and messages tell is always taken."""

WORK_MAX_S = 0.05
"""After so long a batch begins no further work."""

SLOW_WORK_S = 0.005
"""A work that takes longer is slow."""

SLOW_MAX_S = 0.02
"""After so long a batch with a slow work begins no further work: the next ones are often slow too, and quick works wait
for the whole batch."""

RETRY_AFTER_S = 0.5
"""How long after the store could not be written it is tried again."""

_log = logging.getLogger(__name__)


class Conductor:
    """Gathers works and carries them out in batches."""

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
    ) -> None:
        """`step_note`: where it notes what it steps. `work_max_s`: as long a batch begins works."""
        self.clock = clock
        self._dispatcher = dispatcher
        self.on_commit: list[Callable[[Committed], None]] = []
        """Called on the loop after each commit: timers, feed, executors."""
        self.is_store_lost = False
        self.recovered_s = 0.0
        """When the store could last be written again, by the steady clock; leases do not end soon after."""
        self._store = store
        self._cache = cache
        self._lookups = lookups
        self._works_max = works_max
        self._step_note = step_note or StepNote()
        self._work_max_s = work_max_s
        self._message_ids = MessageIds()
        self._broken: dict[str, str] = {}
        self._queue: deque[Work] = deque()
        self._slices: deque[Work] = deque()
        """Slices of items, of which a batch begins one: nobody waits for as many as others have."""
        self._doubtful: list[Work] = []
        """To be done first: the last commit may have happened, though it was answered by an error."""
        self._inbox: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_busy = False
        self._is_woken = False
        self._behind: set[str] = set()
        """Executions whose works the last batch has left."""
        self._stopping = False
        self._rested = asyncio.Event()
        self._counters: dict[str, Counter] = {}
        self._deferred = DeferredWorks(self._return)
        self._evaluator = WorkEvaluator(self._values_are_there)
        self._calm_s = 0.0
        """From when on, by the monotonic clock, the engine has run for a while."""
        self._seeds = itertools.count()
        self._nonce = os.urandom(12).hex()

    # The event loop's side.

    @property
    def depth(self) -> int:
        """How many works wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._calm_s = time.monotonic() + CALM_S
        self._thread.start()
        self._wake()

    def put(self, work: Work) -> None:
        """Let a work be done in the next batch."""
        self._queue.append(work)
        self._wake()

    def put_slice(self, work: Work) -> None:
        """Let a slice of items be begun when those before it have been, one in a batch."""
        self._slices.append(work)
        self._wake()

    def request(self, work: Work) -> None:
        """Let a work that somebody asks for be done. Raises Overloaded or Unavailable."""
        if self._stopping:
            raise Unavailable("the engine is being stopped")
        if self.is_store_lost:
            raise Unavailable("the store cannot be written at present")
        if len(self._queue) >= QUEUE_MAX and sum(each.is_request for each in self._queue) >= QUEUE_MAX:
            raise Overloaded(f"{len(self._queue)} events wait to be stored; try again later")
        self.put(work)

    def nudge(self) -> None:
        """Executors take more: waiting attempts may be handed out."""
        if self._dispatcher.waiting_count:
            self._wake()

    async def stop(self, grace_s: float) -> None:
        """Finish the running batch and what has been put, then let the thread go."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._is_busy or self._queue or self._slices or self._deferred:
                    self._rested.clear()
                    await self._rested.wait()
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, grace_s)

    def _wake(self) -> None:
        """Begin a batch as soon as whatever is just being read has been read."""
        if not self._is_busy and not self._is_woken and self._loop is not None:
            self._is_woken = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Hand what has arrived to the thread. (No executor and no future: they cost as much as a small batch.)"""
        self._is_woken = False
        if self._is_busy:
            return
        if not self._queue and not self._slices and not (self._dispatcher.waiting_count and self._dispatcher.has_news):
            self._rested.set()
            return
        works = self._next_works()
        QUEUE_DEPTH.set(len(self._queue))
        self._is_busy = True
        self._inbox.put(works)

    def _next_works(self) -> list[Work]:
        """The next works, but those that nobody wants any more and those that wait for another of their execution."""
        works: list[Work] = []
        while self._slices and not works:
            self._gather(self._slices, works)
        while self._queue and len(works) < self._works_max:
            self._gather(self._queue, works)
        if self._behind:
            _take_turns(works, self._behind)
        return works

    def _gather(self, queue: deque[Work], works: list[Work]) -> None:
        work = queue.popleft()
        if not work.is_wanted:
            self._deferred.drop(work)
        elif not self._deferred.holds_back(work):
            works.append(work)

    def _return(self, work: Work) -> None:
        """A work that was put aside is next."""
        self._queue.appendleft(work)
        self._wake()

    def _values_are_there(self, work: Work) -> None:
        """All values are there that the work has asked for. Called from any thread."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self._deferred.take_up, work)

    def _end(self, works: Sequence[Work], results: Sequence[Result], lost: StoreLost | None) -> None:
        """A batch has ended: answer, and go on with what has arrived meanwhile."""
        if lost is not None:
            self._keep(works, lost)
            assert self._loop is not None
            self._loop.call_later(RETRY_AFTER_S, self._go_on)
            return
        if self.is_store_lost and works:
            self.is_store_lost, self.recovered_s = False, self.clock.steady_s()
            _log.warning("the store can be written again")
        for result in results:
            match result:
                case Failed(work, error):
                    self._deferred.forget(work)
                    _call(work.failed, error)
                case Deferred(work, wait_s):
                    if wait_s:
                        self._deferred.postpone(work, wait_s)
                    else:
                        self._deferred.put(work)
                case Committed():
                    self._committed(result)
        self._go_on()

    def _committed(self, committed: Committed) -> None:
        """A batch is stored: keep what it has left, and tell everybody who waits for it."""
        self._behind = {work.execution_id for work in committed.left}
        self._queue.extendleft(reversed(committed.left))
        self._slices.extend(committed.left_slices)
        for execution_id, reason in committed.broken.items():
            self._queue.appendleft(DeliverEvent(execution_id, Poisoned(reason=reason)))
        for act in self.on_commit:
            _call(act, committed)
        for work in committed.works:
            self._deferred.forget(work)
            _call(work.done)

    def _go_on(self) -> None:
        self._is_busy = False
        self._begin()

    def _keep(self, works: Sequence[Work], lost: StoreLost) -> None:
        """Requests are told that nothing is known of them; everything else is kept until the store is back."""
        if not self.is_store_lost:
            _log.error("the store cannot be written: %s", lost)
        self.is_store_lost = True
        kept: deque[Work] = deque()
        for work in [*works, *self._queue]:
            if work.is_request or self._stopping:
                _call(work.failed, Unavailable("the store cannot be written; repeat the request with its request id"))
            elif not work.is_periodic:
                kept.append(work)
        self._queue = kept

    # The thread's side.

    def _run(self) -> None:
        assert self._loop is not None
        loop = self._loop
        apart.use(self._evaluator)
        while (works := self._inbox.get()) is not None:
            results: list[Result] = []
            lost: StoreLost | None = None
            try:
                results = self.carry_out(works)
            except StoreLost as error:
                lost = error
            except BaseException as error:  # whoever waits is answered, and the thread lives on
                _log.critical("the conductor failed", exc_info=error)
                results = [Failed(work, error) for work in works]
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(self._end, works, results, lost)

    def carry_out(self, works: Sequence[Work], part: Part = WHOLE) -> list[Result]:
        """Do these works in one transaction; if that fails twice, find whose fault it is. Raises StoreLost."""
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
                if is_outage(failure) or not self._store.is_available():
                    raise StoreLost(str(failure)) from failure
                error = failure
                _log.warning("a batch of %d failed: %s: %s", len(works), type(failure).__name__, failure)
            tries += len(self._broken) == broken  # else it is known what to leave out
        assert error is not None
        if len(works) > 1:
            half = len(works) // 2
            first = self.carry_out(works[:half], part)
            if any(isinstance(each, Committed) and each.left for each in first):  # what comes after it waits, too
                return [*first, Committed(works=(), left=works[half:]), *deferred]
            return [*first, *self.carry_out(works[half:], part), *deferred]
        if not works:  # handing out alone failed; the attempts stay READY
            _log.error("handing out failed", exc_info=error)
            return deferred
        return [*self._isolate(works[0], error, part), *deferred]

    def _carry_out_parts(self, parts: Sequence[Part]) -> list[Result]:
        """Each in batches of its own, so that executions in whose steps engines died are alone in theirs."""
        results: list[Result] = []
        for number, part in enumerate(parts):
            if any(isinstance(each, Committed) and each.left for each in results):  # what comes after it waits, too
                left = [work for later in parts[number:] for work in later.works]
                return [*results, Committed(works=(), left=left)]
            if part.waits:
                wait_s = max(0.01, self._calm_s - time.monotonic())
                results += [Deferred(work, wait_s) for work in part.works]
                continue
            try:
                results += [self._transact([told], part, last_resort=True) for told in part.ends]
            except Exception as error:
                if is_outage(error) or not self._store.is_available():
                    raise StoreLost(str(error)) from error
                _log.exception("an execution in whose steps engines died cannot be ended")
                results += [Failed(work, Unavailable(f"an execution cannot be ended: {error}")) for work in part.works]
            else:
                results += self.carry_out(part.works, part)
        return results

    def _isolate(self, work: Work, error: Exception, part: Part) -> list[Result]:
        """The culprit: its caller gets the error, its execution ends with the reason."""
        if isinstance(error, StoreConflict):
            return [Failed(work, Unavailable(f"written by another engine meanwhile: {error}"))]
        _log.error("%s cannot be carried out", work.name, exc_info=error)
        POISONED.inc()
        results: list[Result] = [Failed(work, error)]
        if isinstance(work, DeliverEvent):
            reason = f"the event {work.name} could not be handled: {type(error).__name__}: {error}"
            poisoned = DeliverEvent(work.execution_id, Poisoned(reason=reason[:4096]), message_id=work.message_id)
            try:
                results.append(self._transact([poisoned], part, last_resort=True))
            except Exception:
                _log.exception("execution %s cannot be ended either", work.execution_id)
                results.append(self._transact([DropMessage(work.message_id)], part))
        return results

    def _transact(self, works: Sequence[Work], part: Part, *, last_resort: bool = False) -> Committed:
        batch: Batch | None = None
        began, decided = time.perf_counter(), 0.0
        try:
            if self.clock.is_stale:
                self.clock.measure(self._store)
            with self._store.write() as transaction:
                batch = Batch(
                    transaction,
                    self._cache,
                    self._lookups,
                    self.clock.now_s(),
                    self._message_ids,
                    self._broken,
                    self._step_note,
                    last_resort=last_resort,
                    shift_s=self.clock.shift_s,
                )
                rest = self._fill(batch, works, part, began)
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
        put_off = {id(work) for work in rest}
        works = [work for work in works if id(work) not in put_off]
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
            messages=batch.messages,
            outgoing=self._dispatcher.commit(batch),
            cancels=batch.cancels,
            hints=hints,
            broken=broken,
            progress=batch.progress,
            notices=batch.notices,
        )

    def _note(self, batch: Batch, works: Sequence[Work]) -> bool:
        """Note the time of a batch that may have stored something, once a second. Whether it was noted."""
        is_due = self.clock.is_note_due(batch.at_s) and (
            batch.has_decided or not all(work.is_periodic for work in works)
        )
        if is_due:
            batch.transaction.note_time(batch.at_s)
        return is_due

    def _fill(self, batch: Batch, given: Sequence[Work], part: Part, began: float) -> Remainder:
        """Do the works, after those that are in doubt. Return what is left to later batches."""
        works = [*self._doubtful, *given]
        batch.take([work.message_id for work in works if work.message_id])
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
        batch.claim(picked.union(*(ids for _, ids in needs)))
        if batch.deaths:
            # The doubtful go before every batch, and step nothing.
            is_calm = time.monotonic() >= self._calm_s
            check_alone(needs[len(self._doubtful) :], picked, batch, part, is_calm=is_calm)
        rest = self._carry_out_all(batch, works, began)
        for work in rest:
            work.leave(batch)
        self._dispatcher.hand_out(batch)
        return rest

    def _carry_out_all(self, batch: Batch, works: Sequence[Work], began: float) -> Remainder:
        """Do the works until the batch has had its time, and one slice of them. Return the others.

        Raises DeferredPartway.
        """
        rest = Remainder()
        has_slice = False
        before = time.perf_counter()
        until = began + self._work_max_s
        for index, work in enumerate(works):
            now = time.perf_counter()
            if now - before > SLOW_WORK_S:
                until = min(until, began + SLOW_MAX_S)
            before = now
            is_slice = work.is_slice(batch)
            if is_slice and has_slice:
                rest.left_slices.append(work)
            elif work.must_wait(batch) or (now > until and index > len(self._doubtful) and work.can_wait):
                rest.left.append(work)
            elif work.refusal is None:
                has_slice = has_slice or is_slice
                if not self._carry_out_one(batch, work):
                    rest.deferred.append(work)
        return rest

    def _unknown(self, batch: Batch, works: Sequence[Work]) -> set[str]:
        """Which executions that are told of something are not there: one look at the index, for all of them."""
        told = {work.execution_id for work in works if isinstance(work, DeliverEvent) and not work.message_id}
        told = {execution_id for execution_id in told if execution_id not in self._cache}
        return told - batch.transaction.queries.standings(told).keys() if told else told

    def _carry_out_one(self, batch: Batch, work: Work) -> bool:
        """Do one work. False when it must wait for values: then it has done nothing. Raises DeferredPartway."""
        if work.given is None:
            work.given = Given(batch.at_s, (self._nonce, next(self._seeds)))
        batch.begin(work.given)
        self._evaluator.begin(work)
        try:
            work.carry_out(batch)
        except Refusal as refusal:
            work.refusal = refusal.with_traceback(
                None
            )  # its frames refer to the work, and would keep it in memory until the collector runs
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
            told = " ".join(f"{name}={count}" for name, count in batch.counts.items())
            _log.debug(
                "batch of %d: %.1f ms, commit %.1f ms, %s",
                len(works),
                (ended - began) * 1e3,
                (ended - decided) * 1e3,
                told,
            )


def _take_turns(works: list[Work], behind: Collection[str]) -> None:
    """Order works by turns: the first of each execution, then the second of each, and so on. Many works of one
    execution then do not delay the others. Executions that the last batch has left behind, mostly for their slow
    works, come a turn later; the first work of all keeps its place, so that they go on."""
    turns = dict.fromkeys(behind, 0)

    def turn(work: Work) -> int:
        if not work.execution_id:
            return 0
        count = turns[work.execution_id] = turns.get(work.execution_id, -1) + 1
        return count

    works[1:] = sorted(works[1:], key=turn)


def _call(function: Callable[..., None], *arguments: object) -> None:
    """Call back; whatever goes wrong there is not the conductor's concern."""
    try:
        function(*arguments)
    except Exception:
        _log.exception("answering failed")
