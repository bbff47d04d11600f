"""The notifier: posting, and what becomes of the rows of notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
from aiohttp import web

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.definitions.document import read
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import CompiledWorkflows, ExecutionCache
from dalsegno.engine.batches.compiling import compile_row
from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.batches.outbox import NOTICE_LEASE_S
from dalsegno.engine.batches.outside import Lookups
from dalsegno.engine.batches.results import Committed
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.clock import Clock
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.dispatcher import Dispatcher
from dalsegno.engine.executors.tokens import new_key
from dalsegno.engine.notifier import TRIES_MAX, Notifier, PendingNotice, RecordPost, delay_s
from dalsegno.outgoing.reach import EVERYWHERE, NOWHERE
from dalsegno.store.memory import MemoryStore
from dalsegno.store.records import DueMessage, NewMessage, StoredDocument, StoredMember
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import NoticeDue, StartRequested
from dalsegno.workflow.identity import derived_id
from dalsegno.workflow.value import Value

EXECUTION_ID = derived_id(1e9, "execution")
TEXT = "{version: '2.0', quick: {tasks: {t: {action: std.noop}}}}"


async def until(condition: Callable[[], bool]) -> None:
    """Return once it is true."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true in time")


@dataclass
class Receiver:
    """A web server that keeps what it is told, and answers as it is set to."""

    url: str = ""
    status: int = 200
    open: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[object] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """One notice."""
        self.bodies.append(await request.json())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        await self.open.wait()
        return web.Response(status=self.status, headers={"location": "/elsewhere"} if self.status == 302 else {})

    async def answer(self, request: web.Request) -> web.Response:
        """Where a redirect leads to."""
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One that answers at once."""
    made = Receiver()
    made.open.set()
    application = web.Application()
    application.router.add_post("/hook", made.take)
    application.router.add_get("/elsewhere", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


def message(number: int, url: str, *, row: str = "", execution_id: str = EXECUTION_ID) -> NewMessage:
    """The row of a notice."""
    notice = NoticeDue(id=f"notice-{number}", url=url, headers={"X-Token": "abc"}, payload=Value(data={"n": number}))
    return NewMessage(row or f"row-{number}", execution_id, notice, 0.0)


class Desk:
    """Takes works in place of the conductor."""

    def __init__(self) -> None:
        self.tried: list[RecordPost] = []
        self.notifier = Notifier(self.put, EVERYWHERE)

    def put(self, work: Work) -> None:
        assert isinstance(work, RecordPost)
        self.tried.append(work)

    async def wait(self, count: int) -> None:
        """Until so many have been posted."""
        await until(lambda: len(self.tried) >= count)

    @property
    def errors(self) -> list[str]:
        return [work._error for work in self.tried]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """With a notifier."""
    made = Desk()
    yield made
    await made.notifier.close(0.1)


async def test_a_receiver_in_a_private_network_gets_nothing(desk: Desk, receiver: Receiver) -> None:
    """Without the operator's word only public addresses are told, and the error names the option."""
    desk.notifier = Notifier(desk.put, NOWHERE)
    desk.notifier.send([message(1, receiver.url), message(2, "http://169.254.169.254/latest/meta-data")])
    await desk.wait(2)

    assert all("it has no public address" in each for each in desk.errors)
    assert all("--private-networks" in each for each in desk.errors)
    assert receiver.bodies == []


async def test_notices_are_posted_in_order(desk: Desk, receiver: Receiver) -> None:
    """As JSON, with the subscription's headers and the id by which a repetition is known."""
    desk.notifier.send([message(number, receiver.url) for number in range(20)])
    await desk.wait(20)

    assert receiver.bodies == [{"n": number} for number in range(20)]
    assert [each["dalsegno-notice"] for each in receiver.headers] == [f"notice-{number}" for number in range(20)]
    assert {(each["content-type"], each["x-token"]) for each in receiver.headers} == {("application/json", "abc")}
    assert desk.errors == [""] * 20
    assert [work.message_id for work in desk.tried] == [f"row-{number}" for number in range(20)]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_success_is_one(desk: Desk, receiver: Receiver, status: int) -> None:
    """2xx."""
    receiver.status = status
    desk.notifier.send([message(1, receiver.url)])
    await desk.wait(1)
    assert desk.errors == [""]


async def test_what_is_not_taken_is_told(desk: Desk, receiver: Receiver) -> None:
    """A status beyond 2xx, a redirect included, a port that nobody listens on, an address that is none."""
    addresses = [receiver.url, "http://127.0.0.1:1/hook", "http://[bad/hook"]
    for status in (302, 400, 503):
        receiver.status = status
        desk.notifier.send([message(status, receiver.url)])
        await desk.wait(len(desk.tried) + 1)
    desk.notifier.send([message(number, url) for number, url in enumerate(addresses[1:])])
    await desk.wait(5)
    assert [error.split()[1] for error in desk.errors[:3]] == ["302", "400", "503"]
    assert all(desk.errors)


async def test_a_slow_receiver_holds_up_nobody_else(desk: Desk, receiver: Receiver) -> None:
    """Those of another execution continue; behind the slow one its own wait."""
    receiver.open.clear()
    desk.notifier.send([message(1, receiver.url), message(2, receiver.url)])
    desk.notifier.send([message(3, receiver.url, execution_id="another")])
    await until(lambda: len(receiver.bodies) == 2)
    await asyncio.sleep(0.05)
    assert {str(body) for body in receiver.bodies} == {"{'n': 1}", "{'n': 3}"}  # the two connections race
    receiver.open.set()
    await desk.wait(3)
    assert {"n": 2} in receiver.bodies


async def test_what_is_being_posted_when_the_engine_stops_is_awaited(desk: Desk, receiver: Receiver) -> None:
    """For the time that the engine has for it: then its result is known, and the row is deleted."""
    receiver.open.clear()
    desk.notifier.send([message(1, receiver.url)])
    await until(lambda: len(receiver.bodies) == 1)
    asyncio.get_running_loop().call_later(0.05, receiver.open.set)
    await desk.notifier.close(10.0)
    assert desk.errors == [""]


async def test_one_that_waits_here_is_not_posted_twice(desk: Desk, receiver: Receiver) -> None:
    """Its row came due because it waited for so long: the newer row is the one that is deleted."""
    receiver.open.clear()
    desk.notifier.send([message(1, receiver.url), message(2, receiver.url)])
    desk.notifier.send([message(2, receiver.url, row="row-2-again")])
    receiver.open.set()
    await desk.wait(2)
    await asyncio.sleep(0.05)
    assert receiver.bodies == [{"n": 1}, {"n": 2}]
    assert [work.message_id for work in desk.tried] == ["row-1", "row-2-again"]


async def test_more_than_fits_is_left_to_its_row(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has bounds, and what was posted makes room once that is committed."""
    monkeypatch.setattr("dalsegno.engine.notifier.WAITING_MAX", 2)
    desk.notifier.send([message(number, receiver.url) for number in range(5)])
    await desk.wait(2)
    assert receiver.bodies == [{"n": 0}, {"n": 1}]
    for work in desk.tried:
        work.done()
    desk.notifier.send([message(4, receiver.url)])
    await desk.wait(3)
    assert receiver.bodies[-1] == {"n": 4}


class Start(Work):
    """Starts an execution whose receiver wants to know of its launch."""

    def __init__(self, url: str) -> None:
        self.refusal = None
        self._url = url

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return (EXECUTION_ID,)

    def carry_out(self, batch: Batch) -> None:
        row = batch.transaction.queries.find_definition("workflow", "quick", "")
        assert row is not None
        notify = [{"type": "webhook", "url": self._url, "event_types": ["WORKFLOW_LAUNCHED"]}]
        creation = ExecutionCreated(
            execution_id=EXECUTION_ID,
            definition_id=row.definition_id,
            workflow="quick",
            params=Value(data={"notify": notify}),
        )
        workflow = batch.lookups.workflows.of(creation, batch.transaction.queries)
        batch.create(workflow, StartRequested(creation=creation))


class Rig:
    """A conductor without thread and loop, with an execution that has just been started."""

    def __init__(self) -> None:
        self.now_s = 1e9
        self.store = MemoryStore(clock=lambda: self.now_s)
        workflows = CompiledWorkflows(compile_row)
        self.clock = Clock()
        lookups = Lookups(workflows, builtin_descriptions(), lasting=True)
        dispatcher = Dispatcher(Callbacks(new_key()))
        self.conductor = Conductor(self.store, self.clock, ExecutionCache(64 << 20, workflows), lookups, dispatcher)
        document = read(TEXT)
        assert not document.problems
        with self.store.write() as transaction:
            stored = StoredDocument(TEXT, "mistral", "", 0.0)
            transaction.save_document(stored, [StoredMember(derived_id(0, "quick"), "workflow", "quick")])
        (self.first,) = self.carry_out(Start("https://example.com/hook")).notices

    def carry_out(self, work: Work) -> Committed:
        (committed,) = self.conductor.carry_out([work])
        assert isinstance(committed, Committed), committed
        work.done()
        return committed

    def rows(self) -> list[DueMessage]:
        """All that wait, in the order in which they come due."""
        with self.store.write() as transaction:
            return transaction.due_messages(1e12, 10)

    def pending(self) -> PendingNotice:
        """The only notice that waits."""
        (row,) = self.rows()
        assert isinstance(self.first.event, NoticeDue)
        return PendingNotice(row.id, EXECUTION_ID, self.first.event)

    def tried(self, error: str) -> Committed:
        """It was posted, with this answer."""
        return self.carry_out(RecordPost(self.pending(), error, lambda pending: None))


def test_a_notice_is_stored_before_it_is_posted() -> None:
    """Its row comes due by itself when the engine that was to post it does not live to delete it."""
    rig = Rig()
    (row,) = rig.rows()
    assert row.id == rig.first.id
    assert row.due_s - rig.clock.now_s() == pytest.approx(NOTICE_LEASE_S, abs=5)

    again = rig.carry_out(DeliverEvent(EXECUTION_ID, None, None, row.id)).notices
    assert [each.event for each in again] == [rig.first.event]
    assert [each.id for each in rig.rows()] == [again[0].id] != [row.id]


def test_a_notice_that_was_taken_is_gone() -> None:
    """And nothing is posted any more, even if somebody comes to post it."""
    rig = Rig()
    pending = rig.pending()
    rig.tried("")
    assert rig.rows() == []
    assert rig.carry_out(DeliverEvent(EXECUTION_ID, None, None, pending.message_id)).notices == []
    assert rig.rows() == []


def test_a_notice_that_is_not_taken_is_put_off_and_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Each wait is longer than the one before, up to a bound; after the last try the log says so."""
    rig = Rig()
    waits = []
    for _ in range(TRIES_MAX - 1):
        assert rig.tried("HTTP 503 busy").notices == []
        (row,) = rig.rows()
        waits.append(row.due_s - rig.clock.now_s())
        (posted,) = rig.carry_out(DeliverEvent(EXECUTION_ID, None, None, row.id)).notices
        assert isinstance(posted.event, NoticeDue)
        assert posted.event.failures == len(waits)
    assert waits == pytest.approx([delay_s(n) for n in range(1, TRIES_MAX)], abs=1)
    assert (delay_s(1), delay_s(5), delay_s(99)) == (1.0, 16.0, 300.0)

    rig.tried("HTTP 503 busy")
    assert rig.rows() == []
    assert f"given up after {TRIES_MAX} tries" in caplog.text


async def test_a_receiver_that_never_answers_does_not_hold_up_the_stop() -> None:
    """After the grace its post is given up; the row stays, so that the notice is posted again."""
    tried: list[Work] = []
    notifier, asked = Notifier(tried.append, NOWHERE), asyncio.Event()

    async def post(notice: NoticeDue) -> str:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody answers")

    with patch.object(notifier, "_post", post):
        notifier.send([message(1, "http://192.0.2.1/")])
        await asked.wait()
        await asyncio.wait_for(notifier.close(0.01), 5)
    assert (tried, notifier._tasks) == ([], set())


def test_a_result_that_cannot_be_stored_is_forgotten() -> None:
    """The notice may be posted again when its row is due."""
    forgotten: list[PendingNotice] = []
    due = message(1, "http://192.0.2.1/")
    assert isinstance(due.event, NoticeDue)
    pending = PendingNotice(due.id, due.execution_id, due.event)
    RecordPost(pending, "", forgotten.append).failed(ValueError("no"))
    assert forgotten == [pending]
