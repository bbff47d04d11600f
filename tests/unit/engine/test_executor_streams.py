"""What the engine tells executors, and what becomes of what it cannot tell them, without a wire."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from tests.unit.engine.test_streams import EXECUTION, SlowConductor, make_executors, make_stream

from dalsegno.engine.batches.outbox import Cancel
from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.work import DeliverEvent
from dalsegno.engine.executors import server
from dalsegno.engine.executors.delivered import DeliverReport
from dalsegno.engine.executors.inventories import TakeInventory
from dalsegno.engine.executors.server import Executors
from dalsegno.engine.executors.sessions import CloseSession, OpenSession
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.rpc import convert
from dalsegno.store.records import SessionRow
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.commands import CancelAction
from dalsegno.workflow.events import DeliveryLost, TaskDone, Verdict
from dalsegno.workflow.refusals import NotFound, SupersededSession, Unavailable

ACTION = f"{EXECUTION}.1.0.1"
SESSION = "01890a5d-ac96-774b-bcce-b302099a8057"


class Conductor(SlowConductor):
    """Has a clock that stands, and counts how often it is nudged."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.clock = SimpleNamespace(now_s=lambda: self.now, steady_s=lambda: self.now)
        self.nudges = 0

    def nudge(self) -> None:
        self.nudges += 1

    def request(self, work: Any) -> None:
        self.put(work)


@pytest.fixture
def conductor() -> Conductor:
    return Conductor()


@pytest.fixture
def executors(conductor: Conductor) -> Executors:
    return make_executors(conductor)


def hello(**more: Any) -> wire.Hello:
    return wire.Hello(executor_id="x", session_id=SESSION, slots=1, **more)


def reasons(stream: ExecutorStream) -> list[tuple[int, str]]:
    """Return the verdicts and reasons of the acknowledgements that the stream has to write."""
    stream.end()
    return [(ack.verdict, ack.reason) for message in stream.messages() for ack in message.ack.acks]


async def test_what_was_not_sent_is_lost(executors: Executors, conductor: Conductor) -> None:
    """Actions that wait when their stream ends, or that a commit hands to a stream that has ended, were not received:
    another executor may get them."""
    stream = make_stream()
    executors._enter(stream)
    assert (executors.count, executors.connected(), conductor.nudges) == (1, {"s": "x"}, 1)
    run = wire.RunAction(action_execution_id=ACTION, delivery=3)
    executors._send(Committed((), outgoing={stream: [run]}))
    assert conductor.works == []
    executors._leave(stream)
    executors._send(Committed((), outgoing={stream: [run]}))
    assert executors.connected() == {}
    lost = DeliveryLost(key=(1, 0, 1), delivery=3, executor_id="x", received=False)
    assert [(work.execution_id, work.event) for work in conductor.works] == [(EXECUTION, lost)] * 2


async def test_a_cancel_goes_to_the_session_that_has_the_action(executors: Executors) -> None:
    """With its delivery and the reason; a session without a stream here gets none."""
    stream = make_stream()
    executors._enter(stream)
    command = CancelAction((1, 0, 1), 2, "s")
    executors._send(Committed((), cancels=[Cancel(each, EXECUTION, command, "why not") for each in ("gone", "s")]))
    (message,) = stream.messages()
    assert message.cancel_action == wire.CancelAction(action_execution_id=ACTION, delivery=2, reason="why not")


async def test_sessions_that_have_ended_say_hello_again(executors: Executors) -> None:
    """Their streams end, and those of others go on; the newer stream of a session takes the place of the older one, and
    what leaves later is not the newer one."""
    old, new, other = make_stream(), make_stream(), ExecutorStream("t", "y", {}, {}, 1, 1)
    for each in (old, other, new):
        executors._enter(each)
    assert (old.is_ended, new.is_ended, other.is_ended) == (True, False, False)
    executors._leave(old)
    assert executors.connected() == {"t": "y", "s": "x"}
    executors.sessions_ended(["s", "gone"])
    assert (new.is_ended, other.is_ended) == (True, False)
    assert "lease has ended; say Hello again" in str(new.ending)


async def test_a_session_that_was_replaced_is_refused(executors: Executors) -> None:
    """Also after its stream has gone, as far as the engine remembers; a stopping engine opens no session at all."""
    with patch.dict(executors._superseded, {f"s{number}": None for number in range(10_000)}):
        executors.session_superseded(SESSION, SessionRow("new", "x", "engine", 1.0))
        assert len(executors._superseded) == 10_000
        assert "s0" not in executors._superseded
        with pytest.raises(SupersededSession, match="a newer session of executor 'x' has taken"):
            await executors._open(hello(), "")
    with patch.object(executors, "_draining", True), pytest.raises(Unavailable, match="the engine is stopping"):
        await executors._open(hello(), "")


async def test_a_hello_is_answered_with_what_is_superseded(executors: Executors, conductor: Conductor) -> None:
    """Deliveries that do not fit into the Welcome are cancelled after it; older sessions of the executor end; it is
    asked for what it has of engines that have ended."""
    older = ExecutorStream("older", "x", {}, {}, 1, 1)
    executors._enter(older)
    opening = asyncio.create_task(executors._open(hello(answers_inventory=True, credit=4), "ipv4:192.0.2.1:1"))
    await asyncio.sleep(0)
    (work,) = conductor.works
    assert isinstance(work, OpenSession)
    work.ended, work.gone = ["older"], {7: "engine-7"}
    work.superseded = [(EXECUTION, (number, 0, 1), 1) for number in (1, 2)]
    with patch.object(server, "SUPERSEDED_BYTES_MAX", 1):
        work.done()
        stream, welcome = await opening
    assert (stream.credit, stream.slots, stream.peer) == (4, 1, "ipv4:192.0.2.1:1")
    assert older.is_ended
    assert [each.action_execution_id for each in welcome.welcome.superseded] == [ACTION]
    asked, cancelled = sorted(stream.messages(), key=lambda message: message.WhichOneof("message") != "inventory")
    assert asked.inventory.engine_id == "engine-7"
    assert cancelled.cancel_action == wire.CancelAction(
        action_execution_id=f"{EXECUTION}.2.0.1", delivery=1, reason=server.SUPERSEDED
    )
    work.failed(NotFound("execution", "e"))  # answered already: nothing happens


async def test_a_hello_that_is_refused_is_told(executors: Executors, conductor: Conductor) -> None:
    """What the batch has found is raised."""
    opening = asyncio.create_task(executors._open(hello(), ""))
    await asyncio.sleep(0)
    conductor.works[0].failed(NotFound("execution", "e"))
    with pytest.raises(NotFound):
        await opening


async def test_who_does_not_answer_an_inventory_is_ended(executors: Executors, conductor: Conductor) -> None:
    """After a lease time, if its stream is open; who has answered is not asked again, and what nobody asked for is not
    taken."""
    stream = ExecutorStream("s", "x", {}, {}, 1, 1, answers_inventory=True)
    executors._enter(stream)
    executors.engines_ended("s", {7: "engine-7"})
    executors.engines_ended("s", {7: "engine-7"})
    executors.engines_ended("gone", {7: "engine-7"})
    assert [message.inventory.engine_id for message in stream.messages()] == ["engine-7"]
    executors._take_inventory(stream, wire.Inventory(engine_id="engine-8"))
    assert conductor.works == []
    conductor.now += executors._settings.lease_s
    executors.end_unanswered()
    assert not stream.is_ended
    executors._take_inventory(stream, wire.Inventory(engine_id="engine-7"))
    (work,) = conductor.works
    assert isinstance(work, TakeInventory)
    work.superseded = [(EXECUTION, (1, 0, 1), 1)]
    with patch.dict(stream.asked):
        work.done()
        assert stream.asked == {}
        conductor.now += 1
        executors.end_unanswered()
        assert not stream.is_ended
    assert [message.cancel_action.action_execution_id for message in stream.messages()] == [ACTION]
    executors.end_unanswered()
    assert stream.is_ended
    assert isinstance(conductor.works[-1], CloseSession)
    older = ExecutorStream("t", "y", {}, {}, 1, 1)
    executors._enter(older)
    executors.engines_ended("t", {7: "engine-7"})
    assert "say Hello again, with what you have of it" in str(older.ending)


async def test_a_report_is_acknowledged_as_it_was_taken(executors: Executors, conductor: Conductor) -> None:
    """With the verdict, or with the reason of a refusal; errors of the engine are in its log only; while the store is
    lost the report stays. Progress counts when the report does."""
    outcome = wire.TaskDone(action_execution_id=ACTION, delivery=1, outcome=wire.TASK_OUTCOME_RUNNING)
    outcome.progress.CopyFrom(execution_pb2.ActionProgress(text="half"))
    for error, verdict, told, notes in (
        (None, Verdict.ACCEPTED, (wire.ACK_VERDICT_ACCEPTED, ""), 1),
        (None, Verdict.SUPERSEDED, (wire.ACK_VERDICT_SUPERSEDED, ""), 0),
        (NotFound("execution", "e"), None, (wire.ACK_VERDICT_REFUSED, str(NotFound("execution", "e"))), 0),
        (KeyError("x"), None, (wire.ACK_VERDICT_REFUSED, "the engine could not handle it; its log says why"), 0),
    ):
        stream = make_stream()
        assert executors._report(stream, outcome) == server.REPORT_BYTES
        work: DeliverEvent = conductor.works.pop()
        assert isinstance(work.event, TaskDone)
        work.failed(Unavailable("later"))
        assert conductor.works.pop() is work
        work.verdict = verdict
        work.done() if error is None else work.failed(error)
        assert (reasons(stream), len(executors._board)) == ([told], notes)
        assert (stream._reports, stream._reports_bytes) == (0, 0)
        executors._board._news.clear()


async def test_what_is_said_to_the_end_is_read(executors: Executors, conductor: Conductor) -> None:
    """Credit is given, an empty stream ends without an error, and a goodbye that releases gives back what it has."""

    async def say(*messages: wire.ConnectRequest) -> None:
        async def requests() -> Any:
            for message in messages:
                yield message

        await executors._read(stream, requests())

    stream = make_stream()
    executors._enter(stream)
    await say(wire.ConnectRequest(credit=wire.Credit(more=2)), wire.ConnectRequest(heartbeat=wire.Heartbeat()))
    executors._dispatcher.begin()
    assert (stream.credit, stream.heard, conductor.nudges) == (3, True, 2)
    outcome = wire.TaskDone(action_execution_id=ACTION, delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED)
    await say(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[outcome, outcome])))
    assert [type(conductor.works.pop()) for _ in range(2)] == [DeliverReport] * 2
    await say(wire.ConnectRequest(goodbye=wire.Goodbye(reason="bye")))
    assert (stream.is_open, conductor.works) == (False, [])
    await say(wire.ConnectRequest(goodbye=wire.Goodbye(release=True)), wire.ConnectRequest(hello=hello()))
    (work,) = conductor.works
    assert isinstance(work, CloseSession)


async def test_the_time_is_told_with_each_heartbeat(executors: Executors, conductor: Conductor) -> None:
    """Again and again, as often as the settings say."""
    stream = make_stream()
    with patch.object(executors, "_settings", SimpleNamespace(heartbeat_s=0.001)):
        beating = asyncio.create_task(executors._beat(stream))
        for _ in range(2):
            await stream.wait()
            (message, *_) = stream.messages()
            assert message.heartbeat.now == convert.timestamp(100.0)
        beating.cancel()
