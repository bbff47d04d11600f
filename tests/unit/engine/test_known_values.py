"""The values of one work: when they count, when they are asked for again, and when all of them are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dalsegno.engine.batches.evaluations import STALE_LIMIT, STALE_MAX, Evaluations, PreparedAnswers
from dalsegno.expressions.pool.jobs import (
    Answers,
    Asked,
    Evaluation,
    JobOutcome,
    Question,
    SchemaCheck,
    Ticket,
    Unknown,
)
from dalsegno.expressions.pool.pool import Pool
from dalsegno.expressions.pool.replies import Replies, ScopeAnswers
from dalsegno.workflow.scope import EvaluationError, Scope, Suspended

JOB = Evaluation("yaql", "$.a", "mistral", "t.publish", 1.0, "seed")
A, TASKS = Question("variable", ("a",)), Question("tasks", ())


class Variables:
    """A scope with variables, and a list of tasks that the store has."""

    def __init__(self, **variables: object) -> None:
        self.variables, self.found = variables, [1]

    def variable(self, name: str) -> object:
        return self.variables[name]

    def tasks(self) -> object:
        return self.found

    def lasting(self) -> Variables:
        return self


class FakePool:
    """Keeps the jobs, and ends them when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, Answers, str, Callable[[JobOutcome], None]]] = []
        self.withdrawn: list[Ticket] = []

    def submit(self, job: Any, answers: Answers, owner: str, done: Callable[[JobOutcome], None]) -> Ticket:
        self.jobs.append((job, answers, owner, done))
        return Ticket(job, answers, owner, done)

    def withdraw(self, ticket: Ticket) -> None:
        self.withdrawn.append(ticket)

    def end(self, outcome: JobOutcome) -> None:
        self.jobs.pop(0)[3](outcome)


class Rig:
    """The values of one work, with a pool."""

    def __init__(self) -> None:
        self.pool, self.ready = FakePool(), 0
        self.evaluations = Evaluations(cast(Pool, self.pool), "owner", self._note)

    def _note(self) -> None:
        self.ready += 1

    def one_pass(self, *scopes: Variables | None, job: Any = JOB) -> list[object]:
        """Return the values that one pass over the work finds, up to the first that is not there."""
        self.evaluations.begin()
        found: list[object] = []
        try:
            found.extend(self.evaluations.value(job, cast(Scope, scope)) for scope in scopes)
        except Suspended:
            self.evaluations.end()
        return found

    def outcome(self, value: object, scope: Variables, *questions: Question) -> JobOutcome:
        """Return an outcome for which these questions were asked."""
        answers, replies = ScopeAnswers(cast(Scope, scope)), Replies()
        asked = tuple(Asked(each, replies.look_up(answers, each).digest) for each in questions)
        return JobOutcome(value, asked=asked)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_value_counts_while_its_inputs_are_the_same(rig: Rig) -> None:
    """With another variable it is asked for again, and with the old one it is still known; another text is another
    value."""
    one, two = Variables(a=1), Variables(a=2)
    assert rig.one_pass(one) == []
    rig.pool.end(rig.outcome("one", one, A))
    assert rig.one_pass(one, two) == ["one"]
    assert rig.evaluations.stale_count == 1
    rig.pool.end(rig.outcome("two", two, A))
    assert rig.one_pass(one, two) == ["one", "two"]
    assert rig.evaluations.stale_count == 1
    other = Evaluation("yaql", "$.b", "mistral", "t.publish", 1.0, "seed")
    assert rig.one_pass(one, job=other) == []
    assert rig.evaluations.stale_count == 1, "what was never known is not stale"


def test_equal_evaluations_have_a_value_each(rig: Rig) -> None:
    """An expression that is evaluated twice in a pass is asked for twice, and each pass gets the values in order."""
    scope = Variables(a=1)
    assert rig.one_pass(scope) == []
    rig.pool.end(rig.outcome("first", scope, A))
    assert rig.one_pass(scope, scope) == ["first"]
    assert rig.evaluations.stale_count == 0
    rig.pool.end(rig.outcome("second", scope, A))
    assert rig.one_pass(scope, scope) == ["first", "second"]
    assert rig.one_pass(scope) == ["first"]


@pytest.mark.parametrize(("stale", "found"), [(STALE_MAX - 1, []), (STALE_MAX, ["known"])])
def test_the_newest_value_counts_when_others_change_much(rig: Rig, stale: int, found: list[object]) -> None:
    """From that pass on, for the same variables; with other variables it is asked for again."""
    scope = Variables(a=1)
    assert rig.one_pass(scope) == []
    rig.pool.end(rig.outcome("known", scope, A, TASKS))
    scope.found = [1, 2]
    rig.evaluations.stale_count = stale
    assert rig.one_pass(scope) == found
    scope.variables["a"] = 2
    assert rig.one_pass(scope) == []


def test_what_is_stale_again_and_again_fails(rig: Rig) -> None:
    """At the limit, with the expression and the reason; what is known all the same is given."""
    scope = Variables(a=1)
    assert rig.one_pass(scope) == []
    rig.pool.end(rig.outcome("known", scope, A))
    rig.evaluations.stale_count = STALE_LIMIT
    assert rig.one_pass(scope) == ["known"]
    scope.variables["a"] = 2
    with pytest.raises(EvaluationError, match=r"<% \$.a %>: its inputs have changed 20 times meanwhile"):
        rig.one_pass(scope)
    rig.evaluations.stale_count = STALE_LIMIT - 1
    assert rig.one_pass(scope) == []


def test_what_is_not_used_any_more_is_forgotten(rig: Rig) -> None:
    """After a pass with a stale value only the values that it has used stay."""
    one, two = Variables(a=1), Variables(a=2)
    rig.one_pass(one)
    rig.pool.end(rig.outcome("one", one, A))
    rig.one_pass(one, two)
    rig.pool.end(rig.outcome("two", two, A))
    assert rig.one_pass(two, Variables(a=3)) == ["two"]
    assert rig.one_pass(two) == ["two"]
    assert rig.one_pass(one) == []


def test_an_error_is_a_value(rig: Rig) -> None:
    """It is raised wherever the value is asked for."""
    assert rig.one_pass(None, job=SchemaCheck({}, 1)) == []
    assert rig.pool.jobs[0][2] == "owner"
    rig.pool.end(JobOutcome(error="no schema"))
    with pytest.raises(EvaluationError, match="no schema"):
        rig.one_pass(None, job=SchemaCheck({}, 1))
    assert rig.one_pass(None, job=SchemaCheck({}, 2)) == []


def test_the_work_goes_on_when_everything_is_there(rig: Rig) -> None:
    """Not while a pass goes on, while a value is missing, or while it waits for something else; nothing of it is
    evaluated once nobody wants the work."""
    evaluations, scope = rig.evaluations, Variables(a=1)
    evaluations.begin()
    with pytest.raises(Suspended):
        evaluations.value(JOB, cast(Scope, scope))
    rig.pool.end(rig.outcome("one", scope, A))
    assert rig.ready == 0
    assert evaluations.end()

    evaluations.begin()
    for job in (SchemaCheck({}, 1), SchemaCheck({}, 2)):
        with pytest.raises(Suspended):
            evaluations.value(job, None)
    future: Future[object] = Future()
    evaluations.wait(future)
    assert not evaluations.end()
    rig.pool.end(JobOutcome(1))
    future.set_result(None)
    assert rig.ready == 0
    rig.pool.end(JobOutcome(1))
    assert rig.ready == 1
    other: Future[object] = Future()
    evaluations.wait(other)
    assert not evaluations.end()
    other.set_result(None)
    assert rig.ready == 2

    evaluations.begin()
    with pytest.raises(Suspended):
        evaluations.value(SchemaCheck({}, 3), None)
    evaluations.withdraw()
    assert [each.job for each in rig.pool.withdrawn] == [SchemaCheck({}, 3)]
    assert evaluations.end()


def test_questions_that_only_the_owner_can_answer_are_answered_in_advance(rig: Rig) -> None:
    """The job is submitted again with the answers, also with the refusals; a variable is looked up at any time."""
    scope = Variables(a=1)
    assert rig.one_pass(scope) == []
    rig.pool.end(JobOutcome(needed=(TASKS, Question("missing"))))
    assert rig.one_pass(scope) == []
    answers = rig.pool.jobs[0][1]
    assert isinstance(answers, PreparedAnswers)
    scope.found = [2]
    assert (answers.answer("tasks", (), {}), answers.answer("variable", ("a",), {})) == ([1], 1)
    with pytest.raises(Unknown):
        answers.answer("executions", (), {})


def test_a_refusal_that_is_known_is_raised_each_time() -> None:
    """As a copy, which keeps nothing of where it is raised."""

    def stored(system: str, key: str) -> object:
        raise EvaluationError(f"no {key}")

    scope: Any = SimpleNamespace(stored=stored, lasting=lambda: scope)
    arguments = ("s", "x")
    name = json.dumps(["stored", list(arguments), {}], sort_keys=True)
    known = PreparedAnswers(scope, {name: Question("stored", arguments)})
    errors = []
    for _ in range(2):
        with pytest.raises(EvaluationError, match="no x") as caught:
            known.answer("stored", arguments, {})
        errors.append(caught.value)
    assert errors[0] is not errors[1]
