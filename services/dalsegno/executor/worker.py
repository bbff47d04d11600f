"""One executor: its streams to all engines share its slots, its actions and its outcomes."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

from dalsegno.actions.registry import Registry
from dalsegno.executor.metrics import Metrics
from dalsegno.executor.outbox import Outbox
from dalsegno.executor.outcome import WORDS
from dalsegno.executor.runner import Run, Runner
from dalsegno.executor.settings import Settings
from dalsegno.executor.slots import Slots
from dalsegno.executor.stream import Stream
from dalsegno.rpc import convert
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1.definition_pb2 import Parameter
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import encode

_log = logging.getLogger("dalsegno.executor")

STARVED_S = 0.5
"""How often engines without credit are looked at: the share of one that stays away becomes theirs."""


class Executor:
    """Serves all its engines. Use it within one event loop."""

    def __init__(self, settings: Settings, registry: Registry, metrics: Metrics) -> None:
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._session_id = str(uuid.uuid4())
        self._outbox = Outbox()
        self._slots = Slots(settings.slots, settings.engines, time.monotonic())
        self._runner = Runner(registry, settings.threads, self._report, self._free)
        self._streams = {engine: Stream(engine, self) for engine in settings.engines}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._idle = asyncio.Event()
        metrics.watch(lambda: len(self._runner), lambda: len(self._outbox))

    @property
    def is_connected(self) -> bool:
        """Whether any engine can send it work."""
        return any(stream.is_open for stream in self._streams.values())

    @property
    def is_superseded(self) -> bool:
        """Whether another process with the same id has taken its place."""
        return any(stream.superseded for stream in self._streams.values())

    def start(self) -> None:
        """Connect to the engines."""
        self._tasks = [asyncio.create_task(stream.run()) for stream in self._streams.values()]
        self._tasks.append(asyncio.create_task(self._feed_starved()))

    async def stop(self) -> None:
        """Take nothing more, let actions end within the grace, bring their outcomes, and leave."""
        self._stopping = True
        ends_s = time.monotonic() + self._settings.grace_s
        while (len(self._runner) or (len(self._outbox) and self.is_connected)) and time.monotonic() < ends_s:
            self._idle.clear()
            try:
                async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
                    await self._idle.wait()
            except TimeoutError:
                break
        for stream in self._streams.values():
            stream.leave()
        streams, feeding = self._tasks[:-1], self._tasks[-1]
        feeding.cancel()
        await asyncio.wait(streams, timeout=3.0)
        for task in streams:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.close(1.0)

    # What streams ask for.

    def hello(self, engine: str) -> wire.Hello:
        """Who we are and what we still have."""
        credit = 0 if self._stopping else self._slots.connect(engine, time.monotonic())
        in_flight = [*self._runner.keys(), *self._outbox.keys()]
        return wire.Hello(
            executor_id=self._settings.id,
            session_id=self._session_id,
            actions=[_described(action.description) for action in self._registry],
            slots=self._settings.slots,
            labels=dict(self._settings.labels),
            in_flight=[
                wire.DeliveryReference(action_execution_id=name, delivery=delivery) for name, delivery in in_flight
            ],
            credit=credit,
        )

    def welcomed(self, engine: str, welcome: wire.Welcome) -> None:
        """The stream is open: what counts no longer is dropped, what was not acknowledged is sent again."""
        for reference in welcome.superseded:
            key = reference.action_execution_id, reference.delivery
            self._runner.drop(key)
            self._outbox.forget(key)
        self._outbox.connect(engine)
        self._metrics.streams.inc()
        self._streams[engine].wake()

    def run(self, engine: str, actions: list[wire.RunAction], clock_offset_s: float) -> None:
        """Run these, unless they run already or have their outcomes waiting."""
        now_s = time.time() + clock_offset_s
        for order in actions:
            key = order.action_execution_id, order.delivery
            if key in self._outbox:
                self._outbox.repeat(key, engine)
                continue
            running = self._runner.delivery_of(order.action_execution_id)
            if running == order.delivery:
                continue
            if running is not None:
                self._runner.drop((order.action_execution_id, running))
            self._slots.take(engine)
            timeout_s = convert.seconds_of(order.deadline) - now_s if order.HasField("deadline") else None
            self._runner.start(order, engine, timeout_s)

    def cancel(self, order: wire.CancelAction) -> None:
        """Nobody waits for this any more: stop it."""
        self._runner.stop((order.action_execution_id, order.delivery), order.reason or "cancelled by the engine")

    def acknowledge(self, acks: list[wire.Ack]) -> None:
        """These outcomes need not be kept."""
        for ack in acks:
            self._outbox.forget((ack.action_execution_id, ack.delivery))
            if ack.verdict == wire.ACK_VERDICT_REFUSED:
                _log.error(
                    "an outcome was refused: %s", ack.reason, extra={"action_execution": ack.action_execution_id}
                )
        self._idle.set()

    def next_messages(self, engine: str) -> list[wire.ConnectRequest]:
        """What there is to write to the engine: all outcomes in batches, then credit for the slots that they freed."""
        messages = []
        while batch := self._outbox.take(engine):
            messages.append(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=batch)))
        more = 0 if self._stopping else self._slots.extend(engine, time.monotonic())
        if more:
            messages.append(wire.ConnectRequest(credit=wire.Credit(more=more)))
        return messages

    def broken(self, engine: str) -> None:
        """The stream has ended: its outcomes go by others, or wait for it to be open again."""
        self._slots.disconnect(engine, time.monotonic())
        for other in self._outbox.disconnect(engine):
            self._streams[other].wake()
        self._metrics.streams.dec()
        self._metrics.reconnects.inc()
        self._idle.set()

    # What the runner tells.

    def _report(self, done: wire.TaskDone, run: Run) -> None:
        engine = self._outbox.add(done, run.engine)
        if engine is not None:
            self._streams[engine].wake()
        elapsed_s = done.elapsed.seconds + done.elapsed.nanos / 1e9
        self._metrics.count(run.order.action, WORDS[done.outcome], elapsed_s)

    def _free(self, run: Run) -> None:
        self._slots.free(run.engine)
        self._streams[run.engine].wake()
        self._idle.set()

    async def _feed_starved(self) -> None:
        """Engines without credit get what has become free, also when nothing of theirs ends."""
        while True:
            await asyncio.sleep(STARVED_S)
            for engine in self._slots.starved():
                self._streams[engine].wake()


def _described(action: ActionDescription) -> wire.ActionDescription:
    return wire.ActionDescription(
        name=action.name,
        parameters=[
            Parameter(
                name=parameter.name,
                required=parameter.required,
                default=encode(parameter.default.value) if isinstance(parameter.default, Constant) else "",
            )
            for parameter in action.parameters
        ],
        safe_to_rerun=action.safe_to_rerun,
        description=action.description,
        accepts_any=action.accepts_any,
    )
