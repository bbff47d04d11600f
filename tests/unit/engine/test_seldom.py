"""What batches and executors meet seldom: executions that cannot be loaded, stepped or stored, and callers that may not
do what they ask for."""

from __future__ import annotations

import uuid
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_conductor import FragileStore, Rig, Start
from tests.unit.engine.test_requests import TREE, refused

from dalsegno.access.callers import Caller, current
from dalsegno.access.grants import Grant, Role
from dalsegno.engine.batches import batch as batches
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.results import Committed, Failed
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.desk import deleting
from dalsegno.engine.executors import permissions
from dalsegno.engine.executors.permissions import check_may_serve, find_not_permitted
from dalsegno.engine.executors.refused import FailRefused
from dalsegno.engine.executors.reports import read_place
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import operation_pb2
from dalsegno.workflow import machine
from dalsegno.workflow.events import Event, PauseRequested, ResumeRequested, Verdict
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.refusals import NotFound, PermissionDenied, Refused, TooLarge


@pytest.fixture
def rig() -> Rig:
    rig = Rig(FragileStore())
    rig.define()
    return rig


class Do(Work):
    """Does within a batch what the test says."""

    def __init__(self, act: Any, *execution_ids: str) -> None:
        self._act, self._ids = act, execution_ids
        self.found: Any = None

    def needs(self, batch: Batch) -> tuple[str, ...]:
        return self._ids

    def carry_out(self, batch: Batch) -> None:
        self.found = self._act(batch)


def test_what_does_not_exist_is_not_opened(rig: Rig) -> None:
    """Neither to step it nor for a trial; an event for it is refused, and an execution that this very batch has
    created is not tried: no client knows it."""
    for act in (lambda batch: batch.open("e"), lambda batch: batch.load_private("e")):
        work = Do(act, "e")
        rig.carry_out(work)
        assert isinstance(work.refusal, NotFound)
    work = Do(DeliverEvent("e", PauseRequested()).carry_out, "e")
    rig.carry_out(work)
    assert isinstance(work.refusal, NotFound)
    start = Start(1)

    def create(batch: Batch) -> None:
        start.carry_out(batch)
        batch.load_private(start.execution_id)

    work = Do(create, start.execution_id)
    rig.carry_out(work)
    assert isinstance(work.refusal, NotFound)


@pytest.mark.parametrize("look", [True, False])
def test_an_execution_that_cannot_be_stepped_ends_alone(rig: Rig, look: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that only looks at it, or steps it for another one, is done in a batch without it."""
    bad, good = Start(1), Start(2)
    rig.carry_out(bad, good)
    fails: list[str] = []
    opened, step = Batch.open, machine.step

    def failing_open(batch: Batch, execution_id: str) -> Any:
        if look and execution_id == bad.execution_id:
            fails.append("open")
            raise ValueError("damaged")
        return opened(batch, execution_id)

    def failing_step(workflow: object, execution: Execution | None, event: Event, *rest: Any) -> Any:
        if not look and execution is not None and execution.id == bad.execution_id:
            fails.append("step")
            raise ValueError("damaged")
        return step(workflow, execution, event, *rest)  # type: ignore[arg-type]

    def act(batch: Batch) -> list[Any]:
        both = (bad.execution_id, good.execution_id)
        if look:
            return [batch.look_at(each) for each in (*both, "gone")]
        return [batch.step_for_another(each, PauseRequested()) for each in (*both, "gone")]

    monkeypatch.setattr(Batch, "open", failing_open)
    monkeypatch.setattr(machine, "step", failing_step)
    work = Do(act, bad.execution_id, good.execution_id, "gone")
    (result,) = rig.carry_out(work)
    assert isinstance(result, Committed)
    assert [each is None for each in work.found] == [True, False, True]
    assert result.broken == {bad.execution_id: "ValueError: damaged"}
    assert len(fails) == 1


def test_a_refusal_of_another_execution_is_a_refusal(rig: Rig) -> None:
    """It is nobody's damage."""
    start = Start(1)
    rig.carry_out(start)

    def act(batch: Batch) -> None:
        batch.step_for_another(start.execution_id, ResumeRequested())

    work = Do(act, start.execution_id)
    (result,) = rig.carry_out(work)
    assert isinstance(work.refusal, Refused)
    assert isinstance(result, Committed)
    assert result.broken == {}


def test_a_refusal_after_changes_is_an_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a step that was refused halfway is stored."""
    start = Start(1)
    rig.carry_out(start)
    before = rig.copies._copies[start.execution_id][0].execution.revision

    def halfway(workflow: object, execution: Execution, *_: object) -> object:
        execution.revision += 2
        raise Refused.of("execution", "not now")

    monkeypatch.setattr(machine, "step", halfway)
    work = Do(lambda batch: batch.step(start.execution_id, PauseRequested()), start.execution_id)
    (result,) = rig.carry_out(work)
    assert isinstance(result, Failed)
    assert "refused after 2 changes" in str(result.error)
    monkeypatch.undo()
    with rig.store.read() as queries:
        row = queries.execution(start.execution_id)
    assert row is not None
    assert row.revision == before


@pytest.mark.parametrize("limit", ["VALUE_BYTES_MAX", "EXECUTION_BYTES_MAX"])
def test_an_execution_that_begins_too_large_is_not_created(rig: Rig, limit: str) -> None:
    """A value of it, or all together: the start is refused, and nothing is stored."""
    work = Start(1)
    with patch.object(batches, limit, 1):
        rig.carry_out(work)
    assert isinstance(work.refusal, TooLarge)
    assert ("a value" in str(work.refusal)) == (limit == "VALUE_BYTES_MAX")
    with rig.store.read() as queries:
        assert queries.execution(work.execution_id) is None


def test_a_refused_report_ends_what_its_session_has(rig: Rig) -> None:
    """Only this delivery, or any where it names none, while nothing else has ended it."""
    rig.carry_out(*map(Start, range(4)))
    told: list[Verdict | None] = []

    def refuse(place: tuple[str, Any], delivery: int, session: str = "s") -> str:
        work = FailRefused(place, delivery, session, "its report is unfit", lambda work, _: told.append(work.verdict))
        rig.carry_out(work)
        work.done()
        assert work.name == "FailRefused"
        return rig.state(place[0])

    places = [parse_attempt_id(run.action_execution_id) for run in rig.sent]
    states = [
        refuse(places[0], 1),
        refuse(places[1], 0),
        refuse(places[2], 2),
        refuse(places[2], 1, "other"),
        refuse((places[2][0], (9, 0, 1)), 1),
        refuse(places[0], 1),
    ]
    assert states == ["ERROR", "ERROR", "RUNNING", "RUNNING", "RUNNING", "ERROR"]
    assert told == [Verdict.REFUSED] * 6
    with rig.store.read() as queries:
        row = queries.execution(places[0][0])
    assert row is not None
    assert "its report is unfit" in row.info
    rig.carry_out(FailRefused(("gone", (1, 0, 1)), 1, "s", "", lambda *_: None))


@pytest.fixture
def caller() -> Any:
    """Be a caller that may serve the actions of one pattern."""
    token = current.set(Caller("anna", grants=(Grant(Role.EXECUTOR, "std.*"),)))
    yield
    current.reset(token)


@pytest.mark.usefixtures("caller")
async def test_an_executor_serves_and_reports_what_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal names so many actions; outcomes of the actions of others are found by what the store says of them."""
    check_may_serve(["std.noop"])
    with pytest.raises(PermissionDenied, match=r"'anna' lacks the role executor for the actions a\.b, c\.d;"):
        check_may_serve(["c.d", "std.noop", "a.b"])
    monkeypatch.setattr(permissions, "SHOWN_MAX", 1)
    with pytest.raises(PermissionDenied, match=r"the actions a\.b and 1 more;"):
        check_may_serve(["c.d", "a.b"])
    own, other = (f"{uuid.uuid4()}.1.0.1" for _ in range(2))
    outcomes = [wire.TaskDone(action_execution_id=each) for each in (own, other, "nonsense")]
    asked: list[Any] = []

    async def read(look: Any) -> Any:
        class Queries:
            def attempts_of(self, places: Any) -> Any:
                asked.append(list(places))
                actions = {own: "std.noop", other: "a.b"}
                rows = [(*parse_attempt_id(name), action) for name, action in actions.items()]
                return [type("Row", (), {"execution_id": e, "key": k, "action": a}) for e, k, a in rows]

        return look(Queries())

    assert await find_not_permitted(outcomes, read) == {parse_attempt_id(other)}
    assert asked == [[parse_attempt_id(own), parse_attempt_id(other)]]
    assert read_place(outcomes[2]) is None


async def test_what_names_a_workflow_is_no_action(desk: Desk) -> None:
    """A completion of a sub-workflow is refused with the id of that execution; a delete says how many it would take."""
    await desk.create(TREE)
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        parent = await desk.start("parent")
        await until(lambda: executor.held)
        (child,) = desk.read(lambda queries: queries.descendants(parent.id))
        completion = {"action_execution_id": f"{parent.id}.1.0.1", "outcome": 1}
        failure = await refused(desk.submit("complete_action", completion))
        assert f"names an execution of a workflow: {child}" in str(failure)
        for name in (f"{uuid.uuid4()}.1.0.1", f"{parent.id}.9.0.1"):
            failure = await refused(desk.submit("complete_action", {**completion, "action_execution_id": name}))
            assert failure.code is grpc.StatusCode.NOT_FOUND
        await desk.submit("cancel_execution", {"execution_id": parent.id, "terminate": {}})
        await desk.wait(child)
        with patch.object(deleting, "LIST_MAX", 0):
            told = (await desk.submit("delete_execution", {"execution_id": parent.id, "dry_run": True})).dry_run
        assert (len(told.children), told.further["children"]) == (0, 1)
    action = await desk.run("std.noop")
    execution_id = action.id.partition(".")[0]
    failure = await refused(desk.submit("pause_execution", {"execution_id": execution_id}))
    assert failure.code is grpc.StatusCode.NOT_FOUND, "an execution that only carries an action is none"


async def test_a_delegate_that_is_heard_is_noted(desk: Desk) -> None:
    """Only where somebody waits for its heartbeats the store is written."""

    def delegate(run: wire.RunAction) -> wire.TaskDone:
        outcome = done(run, wire.TASK_OUTCOME_DELEGATED)
        if run.action == "std.echo":
            outcome.heartbeat_timeout.seconds = 60
        return outcome

    async with ScriptedExecutor(desk.address, delegate) as executor:
        heard = await desk.run("std.echo", input='{"output": 1}')
        unheard = await desk.run("std.noop")
        await until(lambda: len(executor.acks) == 2)
        for each in (heard, unheard):
            await desk.submit("heartbeat_action", {"action_execution_id": each.id})
    ids = [each.id.partition(".")[0] for each in (heard, unheard)]
    heard_s = desk.read(lambda queries: [queries.heard_s(each, (1, 0, 1)) for each in ids])
    assert [each > 0 for each in heard_s] == [True, False]


GO_TO: list[tuple[dict[str, Any], str]] = [
    ({"sequence": 1, "next": True}, "next"),
    ({"name": "c", "delegates": operation_pb2.DELEGATES_CANCEL}, "delegates"),
]


async def test_a_go_to_is_refused_for_what_does_not_go_together(desk: Desk) -> None:
    """`next` goes with a name, and delegates are waited for or not."""
    for fields, subject in GO_TO:
        failure = await refused(desk.submit("go_to_checkpoint", {"execution_id": str(uuid.uuid4()), **fields}))
        assert [each.subject for each in failure.violations] == [subject]


REVERTS = """
version: '2.0'
reverts:
  input: [bad]
  tasks:
    begin: {action: std.noop, checkpoint: begun, on-success: [many, other]}
    many: {with-items: i in <% range(2) %>, action: std.noop, revert: std.noop}
    other: {action: std.noop, revert: {action: std.noop, input: {x: <% $.nothing.at %>}}}
"""


async def test_a_dry_run_says_which_items_are_reverted(desk: Desk) -> None:
    """By their numbers, and why a revert action cannot be called."""
    await desk.create(REVERTS)
    async with ScriptedExecutor(desk.address):
        execution = await desk.start("reverts", input='{"bad": 1}')
        await desk.wait(execution.id, "SUCCESS")
    go_to = {"execution_id": execution.id, "name": "begun", "dry_run": True}
    told = (await desk.submit("go_to_checkpoint", go_to)).dry_run
    assert sorted((each.name, list(each.items), bool(each.reason)) for each in told.reverts) == [
        ("many", [0], False),
        ("many", [1], False),
        ("other", [], True),
    ]
    assert "its revert action cannot be called" in next(each.reason for each in told.reverts if each.name == "other")
