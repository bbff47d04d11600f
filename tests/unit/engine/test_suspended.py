"""Works that wait for values while their batch continues: what they have begun is forgotten, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from tests.unit.engine.test_conductor import FragileStore, Rig, Start, answer

from dalsegno.definitions.document import read
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.results import Committed, Deferred
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.expressions import pool_client
from dalsegno.expressions.pool.jobs import Evaluation, SchemaCheck
from dalsegno.expressions.pool_client import Waiting
from dalsegno.store.inspection import check
from dalsegno.store.records import NewMessage, StoredDocument, StoredMember
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.events import PauseRequested, TaskDone, TaskOutcome
from dalsegno.workflow.identity import derived_id, parse_attempt_id
from dalsegno.workflow.scope import Scope, Suspended
from dalsegno.workflow.value import Value

TEXT = """
version: '2.0'
chain:
  tasks:
    slow: {action: std.noop, publish: {x: "<% 'a'.matches('b') %>"}, on-success: [after]}
    quick: {action: std.noop, publish: {y: 1}, on-success: [after]}
    after: {action: std.noop, join: all}
"""


class Evaluator(Waiting):
    """Has no value until it is told that there is one."""

    def __init__(self) -> None:
        self.has_values = False
        self.asked = 0

    def value(self, job: Evaluation | SchemaCheck, scope: Scope | None) -> object:
        self.asked += 1
        if not self.has_values:
            raise Suspended
        return False

    def wait(self, future: Future[Any]) -> None:
        raise AssertionError("there is nothing to wait for")


@pytest.fixture
def evaluator() -> Iterator[Evaluator]:
    """That of this thread."""
    evaluator = Evaluator()
    pool_client.use(evaluator)
    yield evaluator
    pool_client.use(None)


class Both(Work):
    """Tells two executions of two ends, one after the other."""

    def __init__(self, first: wire.RunAction, second: wire.RunAction) -> None:
        self._tolds = [answer(first), answer(second)]

    def needs(self, batch: Batch) -> list[str]:
        return [told.execution_id for told in self._tolds]

    def carry_out(self, batch: Batch) -> None:
        for told in self._tolds:
            assert told.event is not None
            batch.step(told.execution_id, told.event)


Runs = dict[tuple[int, str], wire.RunAction]
"""What was handed out, by the number of the execution and the name of the task."""


@pytest.fixture
def store() -> FragileStore:
    return FragileStore()


@pytest.fixture
def rig(store: FragileStore) -> Rig:
    """With the workflow."""
    rig = Rig(store)
    assert not read(TEXT).problems
    with store.write() as transaction:
        stored = StoredDocument(TEXT, "mistral", "", 0.0)
        transaction.save_document(stored, [StoredMember(derived_id(0, "chain"), "workflow", "chain")])
    return rig


def begin(rig: Rig, count: int) -> Runs:
    """Start so many executions and hand out their first tasks."""
    starts = [Start(number) for number in range(count)]
    rig.carry_out(*starts)
    numbers = {start.execution_id: number for number, start in enumerate(starts)}
    return {(numbers[run.context.execution_id], run.context.task_name): run for run in rig.sent}


def parts(results: list[Any]) -> tuple[list[Work], list[Work]]:
    """What was done, and what waits."""
    done = [work for each in results if isinstance(each, Committed) for work in each.works]
    return done, [each.work for each in results if isinstance(each, Deferred)]


def is_done(rig: Rig, run: wire.RunAction) -> bool:
    """Whether the end of an action is stored."""
    execution_id, key = parse_attempt_id(run.action_execution_id)
    with rig.store.read() as queries:
        attempt = queries.attempt(execution_id, key)
    assert attempt is not None
    return attempt.state == "SUCCESS"


def test_others_of_the_batch_are_done_in_the_same_pass(rig: Rig, evaluator: Evaluator, store: FragileStore) -> None:
    """One commit, and their copies stay as they are, whether they come before or after it."""
    runs = begin(rig, 3)
    commits = store.commits
    copies = {id_: rig.copies._copies[id_][0] for id_ in (Start(0).execution_id, Start(2).execution_id)}
    works = [answer(runs[0, "quick"]), answer(runs[1, "slow"]), answer(runs[2, "quick"])]
    assert parts(rig.carry_out(*works)) == ([works[0], works[2]], [works[1]])
    assert (store.commits, evaluator.asked) == (commits + 1, 1)
    assert all(rig.copies._copies[id_][0] is copy for id_, copy in copies.items())
    evaluator.has_values = True
    assert parts(rig.carry_out(works[1])) == ([works[1]], [])
    assert list(check(store)) == []


@pytest.mark.parametrize("order", [("quick", "slow"), ("slow", "quick")])
def test_others_of_the_same_execution_go_on(
    rig: Rig, evaluator: Evaluator, store: FragileStore, order: tuple[str, str]
) -> None:
    """What an earlier work of the batch has changed is kept, and a later one meets nothing half done."""
    runs = begin(rig, 1)
    works = {name: answer(runs[0, name]) for name in order}
    assert parts(rig.carry_out(*works.values())) == ([works["quick"]], [works["slow"]])
    assert is_done(rig, runs[0, "quick"])
    assert not is_done(rig, runs[0, "slow"])
    assert list(check(store)) == []
    evaluator.has_values = True
    assert parts(rig.carry_out(works["slow"])) == ([works["slow"]], [])
    rig.sent = [run for run in rig.sent if run.context.task_name == "after"]
    assert len(rig.sent) == 1
    rig.finish_all()
    assert rig.state(Start(0).execution_id) == "SUCCESS"
    assert list(check(store)) == []


def test_what_follows_a_work_that_waits_meets_nothing_half_done(
    rig: Rig, evaluator: Evaluator, store: FragileStore
) -> None:
    """Also where the batch has changed its execution before: it is stored with the others, in one commit."""
    runs = begin(rig, 1)
    execution_id, commits = Start(0).execution_id, store.commits
    works = [answer(runs[0, "quick"]), answer(runs[0, "slow"]), DeliverEvent(execution_id, PauseRequested())]
    assert parts(rig.carry_out(*works)) == ([works[0], works[2]], [works[1]])
    assert store.commits == commits + 1
    evaluator.has_values = True
    assert parts(rig.carry_out(works[1])) == ([works[1]], [])
    assert is_done(rig, runs[0, "slow"])
    assert rig.state(execution_id) == "PAUSED"
    assert list(check(store)) == []


def test_all_of_an_execution_ask_in_one_pass(rig: Rig, evaluator: Evaluator, store: FragileStore) -> None:
    """However many of its events wait, each has asked for its values when the batch is done."""
    runs = begin(rig, 4)
    commits = store.commits
    works = [answer(runs[number, "slow"]) for number in range(4)]
    assert parts(rig.carry_out(*works)) == ([], works)
    assert evaluator.asked == 4
    assert store.commits <= commits + 1


def test_a_message_stays_in_the_store(rig: Rig, evaluator: Evaluator, store: FragileStore) -> None:
    """An engine that dies meanwhile has lost nothing; what is applied later is applied once."""
    runs = begin(rig, 1)
    execution_id, key = parse_attempt_id(runs[0, "slow"].action_execution_id)
    event = TaskDone(key=key, outcome=TaskOutcome.SUCCEEDED, delivery=runs[0, "slow"].delivery, result=Value(text="1"))
    with store.write() as transaction:
        transaction.add_messages([NewMessage("m", execution_id, event, 0.0)])
    told = DeliverEvent(execution_id, None, message_id="m")
    for _ in range(2):
        assert parts(rig.carry_out(told)) == ([], [told])
        with store.write() as transaction:
            assert [each.id for each in transaction.due_messages(1e12, 10)] == ["m"]
    evaluator.has_values = True
    assert parts(rig.carry_out(told)) == ([told], [])
    assert told.verdict == "accepted"
    with store.write() as transaction:
        assert transaction.due_messages(1e12, 10) == []
    assert parts(rig.carry_out(told))[0] == [told]
    assert told.verdict == "superseded"


def test_a_work_that_has_done_something_is_not_done_by_half(
    rig: Rig, evaluator: Evaluator, store: FragileStore
) -> None:
    """Its batch is done again without it, so that nothing of it is stored."""
    runs = begin(rig, 3)
    both, other = Both(runs[0, "quick"], runs[1, "slow"]), answer(runs[2, "quick"])
    assert parts(rig.carry_out(both, other)) == ([other], [both])
    assert not is_done(rig, runs[0, "quick"])
    assert is_done(rig, runs[2, "quick"])
    assert list(check(store)) == []
    evaluator.has_values = True
    assert parts(rig.carry_out(both)) == ([both], [])
    assert is_done(rig, runs[0, "quick"])
    assert is_done(rig, runs[1, "slow"])
    assert list(check(store)) == []
