"""ExecutorService: the stream between the engine and each executor (dalsegno/README.md#executors)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import suppress

import grpc

from dalsegno.access.callers import current
from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.batches.handing_out import Receiver
from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.work import DeliverEvent
from dalsegno.engine.executors.delivered import DeliverReport
from dalsegno.engine.executors.dispatcher import Dispatcher
from dalsegno.engine.executors.inventories import TakeInventory
from dalsegno.engine.executors.permissions import NOT_PERMITTED, Read, check_may_serve, find_not_permitted
from dalsegno.engine.executors.progress import Board, read_progress
from dalsegno.engine.executors.refused import FailRefused
from dalsegno.engine.executors.reports import (
    UnfitReport,
    ack_of,
    read_greeting,
    read_inventory,
    read_place,
    read_report,
)
from dalsegno.engine.executors.sessions import CloseSession, Delivery, OpenSession, superseded_by
from dalsegno.engine.executors.streams import ExecutorStream, count_down
from dalsegno.engine.metrics import STREAMS
from dalsegno.engine.settings import Settings
from dalsegno.rpc import convert, sizes
from dalsegno.store.descriptions import read_description
from dalsegno.store.records import Progress, SessionRow
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2_grpc
from dalsegno.workflow.events import DeliveryLost, TaskOutcome, Verdict
from dalsegno.workflow.identity import attempt_id, parse_attempt_id
from dalsegno.workflow.refusals import (
    InvalidRequest,
    Refusal,
    SupersededSession,
    SupersededStream,
    Unavailable,
)

REPORT_BYTES = 1_000
"""Estimated memory of a report without its texts, in bytes."""

LARGE = 65_536
"""After a report of this many characters other tasks of the event loop run."""

HELLO_WITHIN_S = 10.0
"""How long a stream may wait before its Hello."""

REASON_SHOWN = 1_000

SUPERSEDED = "its delivery no longer counts"
SUPERSEDED_BYTES_MAX = 1024 * 1024
"""The limit of the deliveries that a Welcome names, in bytes."""

# A lookup of a member in its class is slow, and every report needs this.
_RUNNING = TaskOutcome.RUNNING

Context = grpc.aio.ServicerContext[wire.ConnectRequest, wire.ConnectResponse]

_log = logging.getLogger(__name__)


class Executors(executor_service_pb2_grpc.ExecutorServiceServicer):
    """All executors that are connected to this engine."""

    def __init__(
        self,
        conductor: Conductor,
        dispatcher: Dispatcher,
        settings: Settings,
        engine_id: str,
        board: Board,
        engine: int,
        read: Read,
    ) -> None:
        """`board`: keeps the progress of actions. `engine`: the number of this engine. `read` reads the store."""
        self._read_store = read
        self._engine = engine
        self._conductor = conductor
        self._dispatcher = dispatcher
        self._board = board
        self._settings = settings
        self._engine_id = engine_id
        self._streams: dict[str, ExecutorStream] = {}
        """By session."""
        self._superseded: dict[str, None] = {}
        """Sessions that newer ones of their executors have replaced. They are refused."""
        self._draining = False
        self._heard_last: list[str] = []
        """Sessions that were heard and then lost their stream. A lease counts from the last message."""
        self._left = asyncio.Event()
        conductor.on_commit.append(self._send)

    @property
    def count(self) -> int:
        """The number of connected executors."""
        return len(self._streams)

    async def Connect(
        self,
        request_iterator: AsyncIterator[wire.ConnectRequest],
        context: Context,
    ) -> AsyncIterator[wire.ConnectResponse]:
        """Serve one executor's stream. A separate task reads it; this one writes it from a queue."""
        hello = await _first(request_iterator)
        if hello is None:
            return
        stream, welcome = await self._open(hello, context.peer())
        yield welcome
        self._enter(stream)
        reading = asyncio.create_task(self._read(stream, request_iterator))
        beating = asyncio.create_task(self._beat(stream))
        reading.add_done_callback(lambda _: stream.end())
        try:
            while not stream.is_ended:
                await stream.wait()
                for message in stream.messages():
                    count_down(message, self._conductor.clock.now_s())
                    yield message
            for message in stream.messages():
                count_down(message, self._conductor.clock.now_s())
                yield message
            if reading.done() and not reading.cancelled():
                reading.result()  # raises what was wrong with a message
            if stream.ending is not None:
                raise stream.ending
        finally:
            beating.cancel()
            reading.cancel()
            with suppress(BaseException):
                await reading
            self._leave(stream)

    async def _open(self, hello: wire.Hello, peer: str) -> tuple[ExecutorStream, wire.ConnectResponse]:
        if self._draining:
            raise Unavailable("the engine is stopping")
        greeting = read_greeting(hello, peer, current.get().name)
        if greeting.session_id in self._superseded:
            raise SupersededSession(f"a newer session of executor {greeting.executor_id!r} has taken this one's place")
        check_may_serve(greeting.descriptions)
        self._replace(greeting.session_id, greeting.principal)
        answered: asyncio.Future[OpenSession] = asyncio.get_running_loop().create_future()

        def answer(work: OpenSession, error: BaseException | None) -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(work)

        self._conductor.request(OpenSession(greeting, self._engine_id, self._settings.lease_s, answer, self._engine))
        opened = await answered
        for session_id in opened.ended:
            self.session_superseded(session_id, opened.session)
        stream = ExecutorStream(
            greeting.session_id,
            greeting.executor_id,
            {name: read_description(text) for name, text in greeting.descriptions.items()},
            greeting.labels,
            hello.credit,
            greeting.slots,
            peer,
            greeting.principal,
            answers_inventory=greeting.answers_inventory,
            told_of=() if greeting.answers_inventory else opened.gone,
        )
        self._ask(stream, opened.gone)
        return stream, self._welcome(opened, stream)

    def _welcome(self, opened: OpenSession, stream: ExecutorStream) -> wire.ConnectResponse:
        """Return the Welcome of a session. Deliveries that do not fit into it are cancelled after it."""
        superseded = _references(opened.superseded)
        fitting = sizes.first_of(superseded, SUPERSEDED_BYTES_MAX)
        _cancel_superseded(stream, superseded[len(fitting) :])
        return wire.ConnectResponse(
            welcome=wire.Welcome(
                engine_id=self._engine_id,
                lease=convert.duration(self._settings.lease_s),
                heartbeat=convert.duration(self._settings.heartbeat_s),
                now=convert.timestamp(self._conductor.clock.now_s()),
                superseded=fitting,
            )
        )

    def session_superseded(self, session_id: str, newer: SessionRow) -> None:
        """End the stream of a session that a newer session of its executor has ended, and say why."""
        self._superseded[session_id] = None
        while len(self._superseded) > 10_000:
            del self._superseded[next(iter(self._superseded))]
        old = self._streams.get(session_id)
        if old is not None:
            _log.warning(
                "executor %s has connected from %s while its session from %s was active: the older session ends",
                *(old.executor_id, newer.peer or "elsewhere", old.peer or "elsewhere"),
            )
            old.end(superseded_by(newer))

    def _replace(self, session_id: str, principal: str) -> None:
        """End the older stream of a session that has said Hello on a new one, and refuse its return. Otherwise the two
        would end each other for ever. A stream of another caller goes on: OpenSession refuses the new one."""
        old = self._streams.get(session_id)
        if old is not None and not (principal and old.principal and old.principal != principal):
            old.end(SupersededStream("a newer stream of this session has taken this one's place"))

    def _enter(self, stream: ExecutorStream) -> None:
        self._replace(stream.session_id, stream.principal)
        self._streams[stream.session_id] = stream
        self._dispatcher.add_stream(stream)
        self._conductor.nudge()
        STREAMS.set(len(self._streams))
        _log.info("executor %s connected, session %s, credit %d", stream.executor_id, stream.session_id, stream.credit)

    def _leave(self, stream: ExecutorStream) -> None:
        self._lose_unsent(stream, stream.close())
        if stream.heard:
            self._heard_last.append(stream.session_id)
        self._dispatcher.remove_stream(stream)
        if self._streams.get(stream.session_id) is stream:
            del self._streams[stream.session_id]
        self._left.set()
        STREAMS.set(len(self._streams))
        _log.info("executor %s disconnected, session %s", stream.executor_id, stream.session_id)

    async def _read(self, stream: ExecutorStream, requests: AsyncIterator[wire.ConnectRequest]) -> None:
        """Read an executor's messages until its side of the stream ends. Raises InvalidRequest."""
        async for request in requests:
            stream.heard = True
            kind = request.WhichOneof("message")  # None: empty, or a kind that only a later version knows
            if kind == "task_done":
                if not request.task_done.outcomes:
                    raise InvalidRequest.of("task_done.outcomes", "must have at least one")
                await self._report_all(stream, request.task_done.outcomes)
            elif kind == "credit":
                if request.credit.more < 1:
                    raise InvalidRequest.of("credit.more", f"must be at least 1, not {request.credit.more}")
                self._dispatcher.give_credit(stream, request.credit.more)
                self._conductor.nudge()
            elif kind == "goodbye":
                _log.info("executor %s says goodbye: %r", stream.executor_id, request.goodbye.reason[:REASON_SHOWN])
                stream.is_open = False
                if request.goodbye.release:
                    self._conductor.put(CloseSession(stream.session_id, stream.executor_id))
                return
            elif kind == "inventory":
                self._take_inventory(stream, request.inventory)
            elif kind == "hello":
                raise InvalidRequest.of("hello", "must come once only, as the first message")

    def engines_ended(self, session_id: str, gone: Mapping[int, str]) -> None:
        """Find out what a session has of engines that have ended: ask, or end its stream, so that it says Hello."""
        stream = self._streams.get(session_id)
        unknown = {number: name for number, name in gone.items() if stream is not None and number not in stream.told_of}
        if stream is None or not unknown:
            return
        if stream.answers_inventory:
            self._ask(stream, unknown)
        else:
            stream.end(Unavailable("another engine has ended: say Hello again, with what you have of it"))

    def _ask(self, stream: ExecutorStream, gone: Mapping[int, str]) -> None:
        for number, name in gone.items():
            if number not in stream.told_of:
                stream.told_of.add(number)
                stream.asked[name] = self._conductor.clock.steady_s()
                stream.send(wire.ConnectResponse(inventory=wire.InventoryRequest(engine_id=name)))

    def _take_inventory(self, stream: ExecutorStream, inventory: wire.Inventory) -> None:
        in_flight = read_inventory(inventory)
        if inventory.engine_id not in stream.asked:
            return

        def done(work: TakeInventory) -> None:
            stream.asked.pop(inventory.engine_id, None)
            _cancel_superseded(stream, _references(work.superseded))

        names = stream.session_id, stream.executor_id, inventory.engine_id
        self._conductor.put(TakeInventory(*names, in_flight, done))

    def end_unanswered(self) -> None:
        """End the sessions of executors that do not say within a lease time what they have of an ended engine."""
        until_s = self._conductor.clock.steady_s() - self._settings.lease_s
        for stream in list(self._streams.values()):
            if stream.is_open and any(at_s < until_s for at_s in stream.asked.values()):
                _log.warning(
                    "executor %s does not say what it has of an engine that has ended: its session %s ends",
                    *(stream.executor_id, stream.session_id),
                )
                self._conductor.put(CloseSession(stream.session_id, stream.executor_id))
                stream.end(Unavailable("it did not answer InventoryRequest within the lease; say Hello again"))

    async def _report_all(self, stream: ExecutorStream, outcomes: Collection[wire.TaskDone]) -> None:
        foreign = await find_not_permitted(outcomes, self._read_store)
        for outcome in outcomes:
            if foreign and read_place(outcome) in foreign:
                named = outcome.action_execution_id, outcome.delivery, outcome.outcome
                stream.acknowledge(ack_of(*named, Verdict.REFUSED, NOT_PERMITTED))
                continue
            if self._report(stream, outcome) > LARGE:
                await asyncio.sleep(0)  # reading it has taken a while
            if stream.is_full:
                await stream.room()

    def _report(self, stream: ExecutorStream, outcome: wire.TaskDone) -> int:
        """Take a report. Return its size: the characters of its texts, and REPORT_BYTES."""
        size = REPORT_BYTES + len(outcome.result) + len(outcome.error)
        unfit: UnfitReport | None = None
        try:
            execution_id, event = read_report(outcome)
        except UnfitReport as error:
            unfit = error
        named = outcome.action_execution_id, outcome.delivery, outcome.outcome
        if unfit is not None and unfit.about is None:
            stream.acknowledge(ack_of(*named, Verdict.REFUSED, str(unfit)))
            return size
        progress: Progress | None = None
        if outcome.HasField("progress"):
            progress = read_progress(outcome.progress, outcome.delivery, self._conductor.clock.now_s())

        # It does not refer to the outcome, which may be large: it is kept until the report is stored.
        def reply(work: DeliverEvent, error: BaseException | None) -> None:
            if isinstance(error, Unavailable):
                self._conductor.put(work)
                return
            stream.settle(size)
            if unfit is not None:
                stream.acknowledge(ack_of(*named, Verdict.REFUSED, str(unfit)))
                return
            if error is not None:
                stream.acknowledge(ack_of(*named, Verdict.REFUSED, _sentence(error)))
                return
            assert work.verdict is not None, "it was carried out"
            stream.acknowledge(ack_of(*named, work.verdict))
            if progress is not None and work.verdict is Verdict.ACCEPTED:
                self._board.note(execution_id, event.key, progress)

        stream.take_in(size)
        if unfit is not None and unfit.about is not None:
            self._dispatcher.report(stream, *unfit.about)
            self._conductor.put(FailRefused(unfit.about, named[1], stream.session_id, unfit.error, reply))
        else:
            if event.outcome is not _RUNNING:
                self._dispatcher.report(stream, execution_id, event.key)
            self._conductor.put(DeliverReport(execution_id, event, stream.session_id, stream.principal, reply))
        return size

    async def _beat(self, stream: ExecutorStream) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            now = convert.timestamp(self._conductor.clock.now_s())
            stream.send(wire.ConnectResponse(heartbeat=wire.Heartbeat(now=now)))

    def _send(self, committed: Committed) -> None:
        """Send what a commit has handed out, and cancel what nobody waits for any more."""
        for stream, actions in committed.outgoing.items():
            if stream.is_open:
                stream.run(actions)
            else:
                self._lose_unsent(stream, actions)
        for cancel in committed.cancels:
            session = self._streams.get(cancel.session_id)
            if session is not None:
                session.send(
                    wire.ConnectResponse(
                        cancel_action=wire.CancelAction(
                            action_execution_id=attempt_id(cancel.execution_id, cancel.command.key),
                            delivery=cancel.command.delivery,
                            reason=cancel.reason,
                        )
                    )
                )

    def _lose_unsent(self, stream: Receiver, actions: list[wire.RunAction]) -> None:
        """Report attempts lost that were handed out and never sent. Another executor may get them, whether they are
        safe or not."""
        for action in actions:
            execution_id, key = parse_attempt_id(action.action_execution_id)
            lost = DeliveryLost(key=key, delivery=action.delivery, executor_id=stream.executor_id, received=False)
            self._conductor.put(DeliverEvent(execution_id, lost))

    def take_heard(self) -> set[str]:
        """Return the sessions that were heard since the last call, or are not read now. Called from the conductor's
        thread."""
        heard = [stream for stream in list(self._streams.values()) if stream.heard or stream.is_held]
        for stream in heard:
            stream.heard = False
        sessions = {stream.session_id for stream in heard}
        while self._heard_last:
            sessions.add(self._heard_last.pop())
        return sessions

    def connected(self) -> dict[str, str]:
        """Return the sessions with a stream here, with their executors. Called from the conductor's thread."""
        return {stream.session_id: stream.executor_id for stream in list(self._streams.values())}

    def sessions_ended(self, session_ids: Collection[str]) -> None:
        """End the streams of these sessions. An executor that is still there says Hello again."""
        for session_id in session_ids:
            stream = self._streams.get(session_id)
            if stream is not None:
                stream.end(Unavailable("the session's lease has ended; say Hello again"))

    async def drain(self, grace_s: float) -> None:
        """Hand out nothing more, and wait for the reports of the executors."""
        self._draining = True
        for stream in self._streams.values():
            stream.is_open = False
            stream.send(wire.ConnectResponse(drain=wire.Drain(grace=convert.duration(grace_s))))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._streams:
                    self._left.clear()
                    await self._left.wait()
        for stream in list(self._streams.values()):
            stream.end(Unavailable("the engine is stopping"))


async def _first(requests: AsyncIterator[wire.ConnectRequest]) -> wire.Hello | None:
    """Return the Hello of a stream. None: the stream ended before. Raises InvalidRequest and TimeoutError."""
    try:
        async with asyncio.timeout(HELLO_WITHIN_S):
            async for request in requests:
                kind = request.WhichOneof("message")
                if kind == "hello":
                    return request.hello
                if kind is not None:
                    raise InvalidRequest.of("hello", "must be the first message")
    except TimeoutError:
        raise TimeoutError(f"no Hello came within {HELLO_WITHIN_S:g} s") from None
    return None


def _references(deliveries: Iterable[Delivery]) -> list[wire.DeliveryReference]:
    return [
        wire.DeliveryReference(action_execution_id=attempt_id(execution_id, key), delivery=delivery)
        for execution_id, key, delivery in deliveries
    ]


def _cancel_superseded(stream: ExecutorStream, superseded: Iterable[wire.DeliveryReference]) -> None:
    for each in superseded:
        cancel = wire.CancelAction(
            action_execution_id=each.action_execution_id, delivery=each.delivery, reason=SUPERSEDED
        )
        stream.send(wire.ConnectResponse(cancel_action=cancel))


def _sentence(error: BaseException) -> str:
    """Return why an outcome was refused, for its executor. Errors of the engine are in its log only."""
    return str(error) if isinstance(error, Refusal) else "the engine could not handle it; its log says why"
