"""The engine over a store, with executors and people, while processes die between any two lines.

Connections are cut, commits fail or succeed unheard, messages come twice, late or never, executors go without a word.
Then the weather clears: everything must have happened exactly once. More of it: DALSEGNO_SIMULATION_STEPS=1000.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.simulation.life import Died, Life, death_after
from tests.simulation.random_checkpoints import marked_mistral
from tests.simulation.scripted import OUTCOMES, Answer, Executor, Person
from tests.simulation.settled import left_by_keepers

from dalsegno.engine.batches.work import DeliverEvent
from dalsegno.engine.desk.operations import AnyWrite, Call, Operation
from dalsegno.engine.desk.requests import AnswerCall
from dalsegno.engine.desk.writes import writes
from dalsegno.engine.executors.sessions import KeepLeases, OpenSession
from dalsegno.engine.executors.streams import ExecutorStream
from dalsegno.engine.timers import Poll
from dalsegno.expressions.pool_client import POOL
from dalsegno.store.descriptions import read_description
from dalsegno.store.inspection import check
from dalsegno.store.memory import MemoryStore
from dalsegno.store.opening import open_store
from dalsegno.store.records import ExecutionRow
from dalsegno.store.store import Store
from dalsegno.v1 import execution_service_pb2, workflow_service_pb2
from dalsegno.workflow.events import TaskDone, TaskOutcome
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.states import COMPLETED_ATTEMPT, COMPLETED_EXECUTION
from dalsegno.workflow.value import Value

EXAMPLES = int(os.environ.get("DALSEGNO_SIMULATION_STEPS", "0"))
LEASE_S = 15.0
STEPS = 120


class Simulation:
    """One store, one engine after the other, two executors, one person."""

    def __init__(self, open_again: Callable[[Callable[[], float]], Store], seed: int) -> None:
        self.now_s = 1_700_000_000.0
        self.chance = random.Random(seed)
        self._open_again = open_again
        self.store = open_again(lambda: self.now_s)
        self.life = Life(self.store, lambda: self.now_s, self.chance)
        self.executors = [Executor("one", self.chance), Executor("two", self.chance, slots=1)]
        for executor in self.executors:
            executor.begin()
        self.person = Person()
        self.deaths: list[str] = []
        self._asked = 0

    # What happens.

    def happen(self) -> None:
        """One thing."""
        executor = self.chance.choice(self.executors)
        happening = self.chance.choice(
            [
                *[self.batch] * 10,
                *[lambda: self.receive(executor)] * 4,
                *[lambda: self.finish(executor)] * 4,
                *[lambda: self.report(executor)] * 4,
                *[lambda: self.greet(executor)] * 3,
                *[self.pass_time] * 2,
                *[self.look_round] * 2,
                *[self.repeat] * 2,
                self.control,
                lambda: self.cut(executor),
                lambda: self.restart(executor) if self.chance.random() < 0.4 else None,
                self.fail_commit,
            ]
        )
        try:
            happening()
        except Died as place:
            self.die(str(place))

    def batch(self) -> None:
        """The engine does what has come; it may die at any line of that."""
        lines = int(self.chance.expovariate(1 / 700)) + 1 if self.chance.random() < 0.3 else 0
        with death_after(lines):
            self.life.turn()

    def die(self, place: str) -> None:
        """The engine is no more; a new one begins with what the store has."""
        self.deaths.append(place)
        self.store = self._open_again(lambda: self.now_s)
        self.life = Life(self.store, lambda: self.now_s, self.chance)

    def start(self) -> None:
        """The person wants an execution."""
        execution_id = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        request = execution_service_pb2.StartExecutionRequest(
            workflow="wf", params=self.params, execution_id=execution_id
        )
        self._ask("start_execution", request)

    def control(self) -> None:
        """The person wants something of any execution."""
        rows = self.rows()
        if rows:
            kinds: list[tuple[str, Callable[..., Any]]] = [
                ("pause_execution", execution_service_pb2.PauseExecutionRequest),
                ("resume_execution", execution_service_pb2.ResumeExecutionRequest),
                ("resume_execution", execution_service_pb2.ResumeExecutionRequest),
                ("cancel_execution", execution_service_pb2.CancelExecutionRequest),
                *[("go_to_checkpoint", self._go_to_request)] * 3,
            ]
            name, kind = self.chance.choice(kinds)
            if name != "cancel_execution" or self.chance.random() < 0.2:
                self._ask(name, kind(execution_id=self.chance.choice(rows).id))

    def _go_to_request(self, execution_id: str) -> execution_service_pb2.GoToCheckpointRequest:
        """An order to an entry, or to the next reaching, of any checkpoint (C14)."""
        then = self.chance.choice([execution_service_pb2.ON_ARRIVAL_STAY, execution_service_pb2.ON_ARRIVAL_RESUME])
        name = self.chance.choice(["start", "start", *(f"wft{number}" for number in range(6)), "childt0"])
        return execution_service_pb2.GoToCheckpointRequest(
            execution_id=execution_id,
            name=name,
            next=name != "start" and self.chance.random() < 0.2,
            then=then,
        )

    def _ask(self, name: str, request: Any) -> None:
        self._asked += 1
        request.request_id = f"request {self._asked}"
        self.person.open[request.request_id] = (name, request)
        self._send(name, request)

    def repeat(self) -> None:
        """Whoever has no answer asks again."""
        for name, request in list(self.person.open.values()):
            self._send(name, request)

    def _send(self, name: str, request: Any) -> None:
        write = writes(self.life.callbacks)[name]
        operation = asyncio.run(_prepare(write, request)) if name == "create_definitions" else write.operation
        answer: Any = Hearing(self.person, request.request_id)
        try:
            self.life.conductor.request(AnswerCall(write, operation, Call(request, "person"), answer))
        except Refusal:
            return  # asked again later

    def define(self, text: str, params: str) -> None:
        """The workflows are there."""
        self.params = params
        self._ask("create_definitions", workflow_service_pb2.CreateDefinitionsRequest(text=text))
        while self.person.open:
            self.life.turn()

    def greet(self, executor: Executor) -> None:
        """An executor without a stream says Hello."""
        life, session_id = self.life, executor.session_id
        if session_id in life.streams or session_id in life.opening:
            return
        life.opening.add(session_id)

        def answer(work: OpenSession, error: BaseException | None) -> None:
            life.opening.discard(session_id)
            if error is None and session_id == executor.session_id and life is self.life:
                for ended in work.ended:
                    life.cut(ended)
                life.cut(session_id)
                for delivery in work.superseded:
                    executor.running.pop(delivery, None)
                    executor.finished.pop(delivery, None)
                credit = executor.slots - len(executor.running)
                actions = {name: read_description(text) for name, text in greeting.descriptions.items()}
                life.connect(ExecutorStream(session_id, executor.name, actions, {}, credit, executor.slots))

        greeting = executor.greeting()
        life.conductor.put(OpenSession(greeting, "engine", LEASE_S, answer))

    def receive(self, executor: Executor) -> None:
        """What is on the way to an executor arrives."""
        transit = self.life.transit.get(executor.session_id)
        if transit:
            executor.receive(transit.pop(0))
            self.life.hear(executor.session_id)

    def finish(self, executor: Executor, outcomes: list[str] = OUTCOMES) -> None:
        """An action of an executor has come to its outcome."""
        stream = self.life.streams.get(executor.session_id)
        if executor.finish_one(outcomes) and stream is not None:
            self.life.dispatcher.give_credit(stream, 1)

    def report(self, executor: Executor) -> None:
        """An executor sends what is not acknowledged, also what it has sent before."""
        if executor.session_id not in self.life.streams:
            return
        self.life.hear(executor.session_id)
        for delivery, event in list(executor.finished.items()):

            def acknowledge(told: DeliverEvent, error: BaseException | None, delivery: Any = delivery) -> None:
                if self.chance.random() < 0.8:  # else the acknowledgement is lost
                    executor.finished.pop(delivery, None)

            self.life.conductor.put(DeliverEvent(delivery[0], event, acknowledge))

    def cut(self, executor: Executor) -> None:
        """A connection breaks."""
        self.life.cut(executor.session_id)

    def restart(self, executor: Executor) -> None:
        """An executor's process dies, and a new one begins some day."""
        self.life.cut(executor.session_id)
        executor.begin()

    def pass_time(self) -> None:
        """Time passes; timers are late."""
        self.now_s += self.chance.choice([0.1, 1.0, 1.0, 3.0, 20.0])

    def look_round(self) -> None:
        """What the engine does once a second."""
        conductor = self.life.conductor
        self.life.wake()
        conductor.put(KeepLeases(self.life, LEASE_S, lambda: True, sweep=self.chance.random() < 0.3))
        conductor.put(Poll(self.life.timers, self.life.dispatcher, lambda: None))

    def fail_commit(self) -> None:
        """The next commit fails, or succeeds and nobody hears of it."""
        self.life.store.fault = self.chance.choice(["before", "after"])

    def rows(self) -> list[ExecutionRow]:
        """All executions."""
        with self.store.read() as queries:
            found = [queries.execution(execution_id) for execution_id in queries.execution_ids()]
        return [row for row in found if row is not None]

    # The weather clears.

    def clear(self) -> None:
        """Nobody dies any more, and everybody does what they can until nothing is left to do."""
        self.life.store.fault = ""
        for _ in range(400):
            self.repeat()
            for executor in self.executors:
                self.greet(executor)
                self._work(executor)
            self.look_round()
            while self.life.turn():
                pass
            if self._is_over():
                return
            self._move_on()
        raise AssertionError(self._told())

    def _work(self, executor: Executor) -> None:
        while self.life.transit.get(executor.session_id):
            self.receive(executor)
        while executor.running:
            self.finish(executor, ["succeeded"])
        self.report(executor)

    def _is_over(self) -> bool:
        idle = not any(executor.in_flight for executor in self.executors) and not any(self.life.transit.values())
        is_quiet = not left_by_keepers(self.store, 1)
        ended = all(row.state in COMPLETED_EXECUTION for row in self.rows())
        return idle and is_quiet and ended and not self.person.open and not self._open_attempts()

    def _move_on(self) -> None:
        """Nothing more comes by itself now: time passes, delegates are completed, the paused ones continue or end."""
        self.now_s += 1
        for execution_id, attempt in self._open_attempts():
            if attempt.delegated:
                done = TaskDone(key=attempt.key, outcome=TaskOutcome.SUCCEEDED, result=Value(data=1))
                self.life.conductor.put(DeliverEvent(execution_id, done))
        for row in self.rows():
            if row.state == "PAUSED":
                kind = self.chance.choice(["resume", "cancel"])
                message: Any = {
                    "resume": execution_service_pb2.ResumeExecutionRequest,
                    "cancel": execution_service_pb2.CancelExecutionRequest,
                }[kind](execution_id=row.id)
                self._ask(f"{kind}_execution", message)

    def _open_attempts(self) -> list[tuple[str, Any]]:
        with self.store.read() as queries:
            return [
                (execution_id, attempt)
                for execution_id in queries.execution_ids()
                for attempt in queries.attempts(execution_id, size=1000).rows
                if attempt.state not in COMPLETED_ATTEMPT
            ]

    def _told(self) -> str:
        rows = [(row.workflow, row.state, row.info, row.id) for row in self.rows()]
        flying = [(executor.name, executor.in_flight) for executor in self.executors]
        return f"it does not come to rest: {rows} {self._open_attempts()} {flying} {list(self.person.open)}"

    def check(self) -> None:
        """Everything has happened, and once."""
        assert list(check(self.store)) == []
        roots = {row.id for row in self.rows() if not row.parent_id}
        assert roots == set(self.person.started.values())
        assert len(roots) == len(self.person.started)
        children = Counter(
            (row.parent_id, row.parent_task, row.parent_item, row.parent_attempt)
            for row in self.rows()
            if row.parent_id
        )
        assert all(count == 1 for count in children.values())
        arrivals: Counter[str] = Counter()
        for executor in self.executors:
            arrivals.update(executor.arrivals)
            stream = self.life.streams.get(executor.session_id)
            assert stream is None or stream.credit == executor.slots, f"credit of {executor.name} is lost or made"
        assert all(count == 1 for count in arrivals.values()), "what may not be run twice was run twice"


async def _prepare(write: AnyWrite, request: Any) -> Operation[Any, Any, Any]:
    """What is done with a request beforehand."""
    return await write.operation.prepare(request, POOL)


class Hearing(Answer):
    """What a person hears; nothing when the engine died before."""

    def __init__(self, person: Person, request_id: str) -> None:
        super().__init__()
        self._person = person
        self._request_id = request_id

    def set_result(self, result: Any) -> None:
        super().set_result(result)
        self._person.take(self._request_id, self)

    def set_exception(self, error: BaseException) -> None:
        super().set_exception(error)
        self._person.take(self._request_id, self)


def run(simulation: Simulation, text: str, params: dict[str, Any], steps: int = STEPS) -> None:
    """A document in bad weather, then in good."""
    simulation.define(text, str(Value(data=params).text))
    for executor in simulation.executors:
        simulation.greet(executor)
    for _ in range(3):
        simulation.start()
    for _ in range(steps):
        simulation.happen()
    simulation.clear()
    simulation.check()


def _often(count: int) -> settings:
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


# By "thread": hypothesis takes the exception of a signal for a finding and runs the example again, without a limit.
@pytest.mark.timeout(0 if EXAMPLES else 120, method="thread")
@_often(50)
@given(marked_mistral(), st.integers(0, 2**32))
def test_everything_happens_once_whoever_dies(document: tuple[list[str], dict[str, Any]], seed: int) -> None:
    """P11, P12, P24, S10, S12: over the in-memory twin, whose commit is one assignment."""
    opened: list[MemoryStore] = []

    def open_again(now_s: Callable[[], float]) -> Store:
        # A new object over the old tables: a death on the last line of a `with` leaves the old one's lock held.
        former = opened.pop() if opened else None
        opened.append(MemoryStore(now_s))
        if former is not None:
            opened[0]._tables = former._tables
        return opened[0]

    run(Simulation(open_again, seed), document[0][0], document[1])


@pytest.mark.timeout(0 if EXAMPLES else 120, method="thread")
@_often(8)
@given(marked_mistral(), st.integers(0, 2**32))
def test_everything_happens_once_on_disk(
    tmp_path_factory: pytest.TempPathFactory, document: tuple[list[str], dict[str, Any]], seed: int
) -> None:
    """The same over SQLite: each new engine opens the file that the dead one left."""
    path: Path = tmp_path_factory.mktemp("store") / "store.db"
    opened: list[Store] = []

    def open_again(now_s: Callable[[], float]) -> Store:
        if opened:
            opened.pop().close()
        opened.append(open_store(f"sqlite:///{path}"))
        opened[0].upgrade()
        return opened[0]

    try:
        run(Simulation(open_again, seed), document[0][0], document[1])
    finally:
        opened.pop().close()
