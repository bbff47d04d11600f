"""The core with nothing round it, in virtual time, as the world of a recorded case."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from tests.conformance.stage import (
    OPEN_ATTEMPT,
    Player,
    Refused,
    Run,
    SeenAttempt,
    SeenExecution,
    SeenProblem,
    SeenTask,
)
from tests.world import HOLD, Played, World, described

from dalsegno.definitions.calls import KnownCallees, Signature, check
from dalsegno.definitions.document import read
from dalsegno.definitions.load import load_with_anchors
from dalsegno.definitions.orquesta.context import APPLICATION_NAMES
from dalsegno.definitions.orquesta.inspect import inspect_workflow
from dalsegno.definitions.orquesta.syntax import Reader
from dalsegno.definitions.problems import Problems
from dalsegno.expressions.environment import evaluate_environment
from dalsegno.workflow.events import Event, RerunRequested, ResumeRequested, TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import attempt_id, parse_attempt_id
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.scope import EvaluationError


class AnyAction(dict[str, ActionDescription]):
    """An engine that knows every action, as the recordings of Orquesta had to."""

    def get(self, name: str, default: Any = None) -> ActionDescription:
        """What is known of the action: that it exists."""
        return super().get(name) or described(name, accepts_any=True)


class CoreWorld(World):
    """A world whose timers can be looked at."""

    def fire_next(self, end_s: float) -> bool:
        """Put the clock to the next timer, if it is due by then."""
        if not self._later or self._later[0][0] > end_s:
            return False
        self.now_s = max(self.now_s, self._later[0][0])
        return True

    def answer_later(self, execution_id: str, event: TaskDone, after_s: float) -> None:
        """An answer that takes so long."""
        heapq.heappush(self._later, (self.now_s + after_s, next(self._count), execution_id, event))


class CoreStage:
    """See Stage. `one_by_one`: answers wait for `advance`, each for its own; else they come at once."""

    def __init__(self, player: Player, *, one_by_one: bool = False, any_action: bool = False) -> None:
        self.world = CoreWorld(player=self._play)
        if any_action:
            self.world.actions = AnyAction()
        self._player = player
        self._one_by_one = one_by_one
        self._waiting: deque[tuple[str, Attempt, Played]] = deque()
        self._stored: dict[str, Mapping[str, Any]] = {}
        self._count = 0
        self._seen: dict[str, SeenExecution] = {}

    @property
    def now_s(self) -> float:
        return self.world.now_s

    # What stands there.

    @property
    def executions(self) -> Sequence[SeenExecution]:
        return [self._see(each) for each in self.world.executions.values()]

    def _see(self, execution: Execution) -> SeenExecution:
        seen = self._seen.get(execution.id)
        if seen is None or seen.revision != execution.revision:
            seen = self._seen[execution.id] = see(execution)
        return seen

    @property
    def held(self) -> Sequence[Run]:
        return [
            run_of(self.world.executions[execution_id], attempt)
            for (execution_id, _), attempt in self.world.held.items()
            if attempt.state in OPEN_ATTEMPT and not attempt.delegated
        ]

    # What is asked.

    async def validate(
        self, text: str, name: str = "", *, actions: Mapping[str, Signature] | None = None, given: Collection[str] = ()
    ) -> list[SeenProblem]:
        if given:
            problems = Problems()
            source = load_with_anchors(text, problems)
            names = (*APPLICATION_NAMES, *given)
            reader = Reader(source, problems)
            inspect_workflow(reader, source.data, application_names=names)
            found, calls = problems.listed(), reader.calls
        else:
            document = read(text, name=name, with_calls=True)
            found, calls = document.problems, document.calls
        if actions is not None:
            found = (*found, *check(calls, KnownCallees(actions, {name: Signature(is_open=True)})))
        return [SeenProblem(each.category, each.path, each.message) for each in found]

    async def define(self, text: str, *, name: str = "", namespace: str = "") -> None:
        if problems := await self.validate(text, name):
            raise Refused("; ".join(f"{each.path}: {each.message}" for each in problems))
        self.world.define(text, namespace, name=name)

    async def put_environment(self, name: str, variables: object) -> None:
        self._stored[name] = self.world.environments[name] = _object("variables", variables)

    async def start(
        self, workflow: str, input: object, *, params: Mapping[str, Any] | None = None, namespace: str = ""
    ) -> str:
        wanted = _object("params", {} if params is None else params)
        environment = self._environment(wanted.get("env"))
        if (workflow, namespace) not in self.world.workflows:
            raise Refused(f"no workflow {workflow} in the namespace {namespace!r}")
        self._count += 1
        try:
            if environment and wanted.get("evaluate_env", True):
                environment = evaluate_environment(environment, self.now_s, f"case {self._count}")
            given = _object("input", {} if input is None else input)
            started = self.world.start(workflow, given, params=wanted, environment=environment, namespace=namespace)
        except (Refusal, EvaluationError) as refusal:
            raise Refused(str(refusal)) from refusal
        return started.id

    def _environment(self, given: object) -> Mapping[str, Any]:
        """What `params.env` names or holds, as the api takes it."""
        if isinstance(given, str) and given:
            if given not in self._stored:
                raise Refused(f"no environment {given}")
            return self._stored[given]
        return _object("params.env", {} if given is None else given)

    async def ask(self, execution_id: str, request: Event) -> None:
        if isinstance(request, ResumeRequested | RerunRequested) and request.environment is not None:
            _object("environment", request.environment.data)
        self._tell(execution_id, msgspec.structs.replace(request, at_s=self.now_s))

    async def report(self, attempt: str, played: Played) -> None:
        execution_id, key = parse_attempt_id(attempt)
        known = self.world.executions[execution_id].attempts[key]
        done = self._done(known, played, None if known.delegated else known.delivery)
        if self._tell(execution_id, done) != "accepted":
            raise Refused(f"{attempt} does not wait for that")
        if played.outcome not in ("paused", "running"):
            self.world.held.pop((execution_id, key), None)

    async def respond(self, attempt: str, response: object) -> None:
        await self.report(attempt, Played(result={"response": response}))

    def _tell(self, execution_id: str, event: Event) -> str:
        try:
            return str(self.world.tell(execution_id, event).verdict)
        except Refusal as refusal:
            raise Refused(str(refusal)) from refusal

    # What happens.

    async def settle(self) -> None:
        self.world.run(until_s=0)

    async def advance(self, end_s: float) -> bool:
        if self._waiting:
            execution_id, attempt, played = self._waiting.popleft()
            self.world.held.pop((execution_id, attempt.key), None)
            event = self._done(attempt, played, attempt.delivery)
            if played.after_s:
                self.world.answer_later(execution_id, event, played.after_s)
            else:
                self._tell(execution_id, event)
        elif not self.world.fire_next(end_s):
            return False
        self.world.run(until_s=0)
        return True

    async def pass_time(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while await self.advance(end_s):
            pass
        self.world.now_s = max(self.now_s, end_s)

    def _play(self, execution: Execution, attempt: Attempt) -> Played:
        played = self._player(run_of(execution, attempt))
        if played is HOLD or not self._one_by_one:
            return played
        self._waiting.append((execution.id, attempt, played))
        return HOLD

    def _done(self, attempt: Attempt, played: Played, delivery: int | None) -> TaskDone:
        return TaskDone(
            at_s=self.now_s,
            key=attempt.key,
            outcome=TaskOutcome(played.outcome),
            delivery=delivery,
            result=played.value,
            error=played.error,
        )


def _object(field: str, given: object) -> Mapping[str, Any]:
    """What is given, which the api refuses unless it is an object."""
    if not isinstance(given, Mapping):
        raise Refused(f"{field} must be an object, not {given!r}")
    return given


def run_of(execution: Execution, attempt: Attempt) -> Run:
    """What an executor is told of an action."""
    number, item, _ = attempt.key
    task = execution.tasks[number].name
    given = attempt.input.data
    assert isinstance(given, dict)
    identity = attempt_id(execution.id, attempt.key)
    return Run(identity, execution.id, execution.created.workflow, task, number, item, attempt.action, given)


def see(execution: Execution) -> SeenExecution:
    """An execution of the core as plain data."""
    link = execution.created.parent
    return SeenExecution(
        id=execution.id,
        workflow=execution.created.workflow,
        state=str(execution.state),
        info=execution.info,
        output=None if execution.output is None else execution.output.data,
        errors=_error_names(execution),
        revision=execution.revision,
        parent_id=link.execution_id if link is not None else "",
        parent_task=link.key[0] if link is not None else 0,
        tasks={
            task.number: SeenTask(
                number=task.number,
                name=task.name,
                route=task.route,
                state=str(task.state),
                info=task.info,
                published={name: value.data for name, value in task.published.items()},
                items=task.progress.item_count,
            )
            for task in execution.tasks.values()
        },
        attempts=sorted(
            (_see_attempt(execution, attempt) for attempt in execution.attempts.values()),
            key=lambda each: (each.task, each.attempt, each.item),
        ),
    )


def _error_names(execution: Execution) -> list[str]:
    told = execution.reported_errors.data if execution.reported_errors is not None else []
    assert isinstance(told, list)
    return [error.get("task_id") or "" for error in told]


def _see_attempt(execution: Execution, attempt: Attempt) -> SeenAttempt:
    return SeenAttempt(
        id=attempt_id(execution.id, attempt.key),
        task=attempt.key[0],
        item=attempt.key[1],
        attempt=attempt.key[2],
        action=attempt.action,
        state=str(attempt.state),
        accepted=attempt.accepted,
        input=attempt.input.data,
        delegated=attempt.delegated,
        child_id=attempt.child_id,
    )
