"""The state of an executor over all its streams: running actions, unacknowledged outcomes, slots.

The session is one run of the executor program. All engines know its id, so that the outcome of an action can be sent to
another engine than the action came from.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from dalsegno.actions.action import AnyAction
from dalsegno.actions.registry import Registry
from dalsegno.v1.definition_pb2 import Parameter
from dalsegno.v1.executor_service_pb2 import (
    ACK_VERDICT_REFUSED,
    ACK_VERDICT_SUPERSEDED,
    TASK_OUTCOME_RUNNING,
    Ack,
    ActionDescription,
    RunAction,
    TaskDone,
)
from dalsegno.worker.metrics import Metrics
from dalsegno.worker.outbox import Key, Outbox
from dalsegno.worker.outcome import WORDS
from dalsegno.worker.pace import HORIZON_S, Pace
from dalsegno.worker.progress_reports import ProgressReports
from dalsegno.worker.runner import Run, Runner
from dalsegno.worker.slots import Slots
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import encode

ENDED_ENGINES_MAX = 1_000
"""How many engines that have ended are remembered."""

_log = logging.getLogger(__name__)


class OpenStream(Protocol):
    """What a session needs of its streams."""

    engine_id: str

    def wake(self) -> None:
        """Send what there is to send."""
        ...

    async def leave(self) -> None:
        """Take nothing more from the engine, and end the stream."""
        ...


class Session:
    """One run of an executor. Use it only on the event loop that created it."""

    def __init__(
        self,
        executor_id: str,
        registry: Registry,
        engines: Iterable[str],
        *,
        slots: int,
        threads: int,
        labels: Mapping[str, str],
        metrics: Metrics,
        pace: Pace | None = None,
    ) -> None:
        """`pace` limits the starts of its actions."""
        self.executor_id = executor_id
        self.id = str(uuid.uuid4())
        self.labels = dict(labels)
        self.actions = [describe(action) for action in registry]
        self.metrics = metrics
        self._pace = pace
        self.slots = Slots(slots, engines, time.monotonic(), None if pace is None else self._ahead)
        self.outbox = Outbox()
        self.telling = ProgressReports(self._wake)
        self.runner = Runner(registry, threads, self._report, self._free, self._tell, pace, self._note_start)
        self.leaving = False
        """Whether the executor stops, and accepts no more actions."""
        self.superseded = asyncio.Event()
        """Whether a newer session of the same executor has replaced this one."""
        self.engines_met: dict[str, str] = {}
        """The ids of the engines with open streams, by address: two addresses may belong to one engine."""
        self._streams: dict[str, OpenStream] = {}
        """The open streams, by address."""
        self._ended_engines: dict[str, None] = {}
        """Engines that have ended, by id: nothing more is taken from them."""
        self._wakers: dict[str, Callable[[], None]] = {}
        self._idle_waiters: list[asyncio.Event] = []

    @property
    def is_idle(self) -> bool:
        """Return whether no action with an awaited outcome runs, and all outcomes are acknowledged."""
        return not len(self.runner) and not len(self.outbox)

    def in_flight(self) -> list[Key]:
        """Return the deliveries for Hello and Inventory: running, or reported but not acknowledged."""
        return [*self.runner.keys(), *self.outbox.keys()]

    def connect(self, engine: str, stream: OpenStream) -> None:
        """Record that the engine has accepted the session."""
        self._streams[engine] = stream
        self._wakers[engine] = stream.wake
        self.outbox.connect(engine)
        stream.wake()

    def has_ended(self, engine_id: str) -> bool:
        """Return whether an engine has ended, as another one said: then nothing more is taken from it."""
        return engine_id in self._ended_engines

    async def leave(self, engine_id: str) -> None:
        """Take nothing more from an engine that has ended, and end the streams to it."""
        self._ended_engines[engine_id] = None
        while len(self._ended_engines) > ENDED_ENGINES_MAX:
            del self._ended_engines[next(iter(self._ended_engines))]
        await asyncio.gather(*(each.leave() for each in self._streams.values() if each.engine_id == engine_id))

    def disconnect(self, engine: str) -> None:
        """Record that the engine's stream has ended, or accepts no more outcomes."""
        self._wakers.pop(engine, None)
        self._streams.pop(engine, None)
        for each in self.outbox.disconnect(engine):
            self._wake(each)

    def accept(self, order: RunAction, engine: str, timeout_s: float | None) -> None:
        """Run an action of an engine, unless it runs already or has an outcome: then send this again."""
        key = order.action_execution_id, order.delivery
        if self.leaving and key not in self.outbox:
            # The next Hello does not list it, so that the engine gives it to another executor.
            _log.debug("%s: %s ignored, the executor is stopping", engine, order.action_execution_id)
            return
        self.slots.take(engine)
        if key in self.outbox:
            self.outbox.repeat(key, engine)
            self.slots.free(engine)
            return
        running = self.runner.delivery_of(order.action_execution_id)
        if running is not None and running >= order.delivery:
            self.slots.free(engine)
            return
        if running is not None:
            self.runner.drop((order.action_execution_id, running))
        self.runner.start(order, engine, timeout_s)

    def acknowledge(self, ack: Ack) -> None:
        """Handle an acknowledgement. Progress reports are not stored, and need none."""
        if ack.outcome == TASK_OUTCOME_RUNNING:
            _log.debug("the progress of %s: %s", ack.action_execution_id, ack.reason or "noted")
            return
        self.outbox.forget((ack.action_execution_id, ack.delivery))
        if ack.verdict == ACK_VERDICT_REFUSED:
            _log.error("the outcome of %s was refused: %s", ack.action_execution_id, ack.reason)
        elif ack.verdict == ACK_VERDICT_SUPERSEDED:
            _log.info("the outcome of %s came too late", ack.action_execution_id)
        self._tell_idle()

    def forget(self, key: Key) -> None:
        """Stop a delivery that is no longer valid, or drop its outcome."""
        self.runner.drop(key)
        self.outbox.forget(key)
        self._tell_idle()

    async def wait_idle(self) -> None:
        """Return when the session is idle."""
        waiter = asyncio.Event()
        self._idle_waiters.append(waiter)
        try:
            self._tell_idle()
            await waiter.wait()
        finally:
            self._idle_waiters.remove(waiter)

    def _tell(self, told: TaskDone, run: Run) -> None:
        is_open = run.engine in self._wakers
        self.telling.add(told, run.engine if is_open else next(iter(self._wakers), run.engine))

    def _report(self, done: TaskDone, run: Run) -> None:
        self.telling.forget((done.action_execution_id, done.delivery))
        word = WORDS[done.outcome]
        elapsed_s = time.monotonic() - run.started_s
        self.metrics.count(run.order.action, word, elapsed_s)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s of %s %s in %.3f s", run.order.action, done.action_execution_id, word, elapsed_s)
        carrier = self.outbox.add(done, run.engine)
        if carrier is not None:
            self._wake(carrier)

    def _free(self, run: Run) -> None:
        self.slots.free(run.engine)
        self._wake_starved()
        self._tell_idle()

    def _ahead(self, at_s: float) -> int:
        assert self._pace is not None
        return self._pace.ahead(at_s) - self.runner.waiting

    def _note_start(self) -> None:
        """Give credit again for what may start after the one that has started now."""
        assert self._pace is not None
        asyncio.get_running_loop().call_later(max(0.0, self._pace.period_s - HORIZON_S), self._wake_starved)

    def _wake_starved(self) -> None:
        for engine in self.slots.starved():
            self._wake(engine)

    def _wake(self, engine: str) -> None:
        if (wake := self._wakers.get(engine)) is not None:
            wake()

    def _tell_idle(self) -> None:
        if self._idle_waiters and self.is_idle:
            for waiter in self._idle_waiters:
                waiter.set()


def describe(action: AnyAction) -> ActionDescription:
    """Return the description of an action for Hello."""
    description = action.description
    return ActionDescription(
        name=description.name,
        parameters=[
            Parameter(
                name=each.name,
                required=each.required,
                default=encode(each.default.value) if isinstance(each.default, Constant) else "",
            )
            for each in description.parameters
        ],
        accepts_any=description.accepts_any,
        safe_to_rerun=description.safe_to_rerun,
        description=description.description,
        answer_schema=description.answer_schema,
        answer_key=description.answer_key,
    )
