"""The real services as the world of recorded cases: three processes on one store, an executor of our own on the public
executor contract, and the public api. Many cases share them, each in a namespace of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from tests.conformance import asking
from tests.conformance.sight import Sight
from tests.conformance.stage import (
    COMPLETED_EXECUTION,
    OPEN_ATTEMPT,
    QUIET_EXECUTION,
    Player,
    Refused,
    Run,
    SeenAttempt,
    SeenExecution,
    SeenProblem,
)
from tests.integration.engines import ScriptedExecutor, done, until
from tests.processes import CALL_S, System
from tests.world import HOLD, Played

from dalsegno.definitions.calls import Signature
from dalsegno.definitions.problems import CONTENT
from dalsegno.v1 import environment_service_pb2, executor_service_pb2, failure_pb2, workflow_service_pb2
from dalsegno.workflow.events import Event

wire = executor_service_pb2

EXECUTOR_ID = "node1"
"""There a task of a recorded case wants to run."""

SLOTS = 10_000
LOOK_S = 0.01
LOOK_MAX_S = 0.16
LATE_S = 5.0
"""So much later than it is due a timer may move things, on a machine that is busy."""
PATIENCE_S = 20.0
"""After so long the services are taken as settled although something still seems to be on its way."""

OUTCOMES = {
    "succeeded": wire.TASK_OUTCOME_SUCCEEDED,
    "failed": wire.TASK_OUTCOME_FAILED,
    "cancelled": wire.TASK_OUTCOME_CANCELLED,
    "delegated": wire.TASK_OUTCOME_DELEGATED,
    "paused": wire.TASK_OUTCOME_PAUSED,
    "running": wire.TASK_OUTCOME_RUNNING,
}
ENDS = {"succeeded", "failed", "cancelled", "delegated"}
"""After these an executor has the action no more."""

COUNTS = (wire.ACK_VERDICT_ACCEPTED, wire.ACK_VERDICT_DUPLICATE)


@dataclass
class Executor(ScriptedExecutor):
    """A scripted executor that is told what became of each report."""

    verdicts: dict[tuple[str, int], asyncio.Future[wire.Ack]] = field(default_factory=dict)

    async def tell(self, run: wire.RunAction, played: Played) -> None:
        """Report, and wait until it is stored. Raises Refused when it does not count."""
        key = (run.action_execution_id, run.delivery)
        verdict = self.verdicts[key] = asyncio.get_running_loop().create_future()
        if played.outcome in ENDS:
            await self.finish(run, message_of(run, played))
        else:
            await self.say(task_done=wire.TaskDoneBatch(outcomes=[message_of(run, played)]))
        ack = await asyncio.wait_for(verdict, CALL_S)
        if ack.verdict not in COUNTS:
            raise Refused(f"{run.action_execution_id} {wire.AckVerdict.Name(ack.verdict)} {ack.reason}")

    async def _take(self, call: Any, message: wire.ConnectResponse) -> None:
        await super()._take(call, message)
        for ack in message.ack.acks:
            verdict = self.verdicts.pop((ack.action_execution_id, ack.delivery), None)
            if verdict is not None and not verdict.done():
                verdict.set_result(ack)


def message_of(run: wire.RunAction, played: Played) -> wire.TaskDone:
    """How an executor says it."""
    error = played.error if played.outcome == "failed" else ""
    return done(run, OUTCOMES[played.outcome], result=asking.result_of(played), error=error)


def _category(problem: failure_pb2.Problem) -> str:
    return failure_pb2.ProblemCategory.Name(problem.category).removeprefix("PROBLEM_CATEGORY_").lower()


class Services:
    """The processes and the executor, for many cases at once."""

    def __init__(self, folder: Path, actions: Iterable[str]) -> None:
        """`actions`: all that the executor serves."""
        self.system = System(folder, with_executor=False)
        self.stages: dict[str, ServicesStage] = {}
        self.executor = Executor(
            self.system.engine.address,
            self._take,
            executor_id=EXECUTOR_ID,
            actions=tuple((name, True) for name in sorted(set(actions))),
            slots=SLOTS,
        )
        self._barrier: asyncio.Task[None] | None = None
        self._next_barrier: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Services:
        await self.system.__aenter__()
        await self.executor.__aenter__()
        await until(lambda: self.executor.welcomes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.executor.__aexit__(kind, error, trace)
        await self.system.__aexit__(kind, error, trace)

    def stage(self, namespace: str, player: Player, *, one_by_one: bool = False) -> ServicesStage:
        """The world of one case."""
        self.stages[namespace] = ServicesStage(self, namespace, player, one_by_one)
        return self.stages[namespace]

    def _take(self, run: wire.RunAction) -> wire.TaskDone | None:
        return self.stages[run.context.namespace].take(run)

    async def barrier(self) -> None:
        """Return when the engine has handled all that had come before it when this was called."""
        if self._next_barrier is None:
            self._next_barrier = asyncio.create_task(self._pass(self._barrier))
        await self._next_barrier

    async def _pass(self, former: asyncio.Task[None] | None) -> None:
        """Ask for what is not there: the engine says so in its turn. Those who come meanwhile wait for the next."""
        if former is not None:
            await asyncio.wait([former])
        self._barrier, self._next_barrier = self._next_barrier, None
        try:
            await self.system.cancel(str(uuid.uuid4()))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise


class ServicesStage:
    """See Stage. `one_by_one`: answers wait for `advance`, each for its own; else they come at once."""

    def __init__(self, services: Services, namespace: str, player: Player, one_by_one: bool) -> None:
        self.services = services
        self.system = services.system
        self.namespace = namespace
        self.errors: list[str] = []
        self._sight = Sight(services.system)
        self._player = player
        self._one_by_one = one_by_one
        self._received: dict[str, wire.RunAction] = {}
        """The newest delivery of each action that was handed out."""
        self._held: dict[str, Run] = {}
        """What was not answered yet."""
        self._waiting: deque[tuple[wire.RunAction, Played]] = deque()
        self._timed: dict[str, float] = {}
        """When answers come that take their time."""
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._has_answered = False
        """Whether actions were answered as soon as they came, so that it is not known when that was stored."""
        self._tried: set[tuple[str, float]] = set()
        """Timers that have been waited for."""

    @property
    def now_s(self) -> float:
        return time.time()

    @property
    def executions(self) -> Sequence[SeenExecution]:
        return self._sight.executions

    @property
    def held(self) -> Sequence[Run]:
        still = {each.id for each in self._attempts() if each.state in OPEN_ATTEMPT and not each.delegated}
        return [run for run in self._held.values() if run.id in still]

    def _attempts(self) -> Iterator[SeenAttempt]:
        return (attempt for execution in self.executions for attempt in execution.attempts)

    # What is asked.

    async def validate(
        self, text: str, name: str = "", *, actions: Mapping[str, Signature] | None = None, given: Collection[str] = ()
    ) -> list[SeenProblem]:
        assert not given, "the api knows of no variables but its own"
        request = workflow_service_pb2.ValidateDefinitionsRequest(text=text, name=name, namespace=self.namespace)
        answer = await self.system.workflows.ValidateDefinitions(request, timeout=CALL_S)
        content = [each for each in answer.warnings if actions is not None and _category(each) == CONTENT]
        return [SeenProblem(_category(each), each.path, each.message) for each in (*answer.problems, *content)]

    async def define(self, text: str, *, name: str = "", namespace: str = "") -> None:
        with asking.refused():
            await self.system.define(text, self._own(namespace), name)

    async def put_environment(self, name: str, variables: object) -> None:
        put = environment_service_pb2.PutEnvironmentRequest(
            namespace=self.namespace, name=name, variables=json.dumps(variables)
        )
        with asking.refused():
            await self.system.environments.PutEnvironment(put, timeout=CALL_S)

    async def start(
        self, workflow: str, input: object, *, params: Mapping[str, Any] | None = None, namespace: str = ""
    ) -> str:
        with asking.refused():
            execution_id = await self.system.begin(
                workflow, input, params=json.dumps(params or {}), namespace=self._own(namespace)
            )
        self._sight.roots.append(execution_id)
        return execution_id

    def _own(self, namespace: str) -> str:
        """The namespace of this case that stands for one of the recording."""
        if not namespace:
            return self.namespace
        own = f"{self.namespace}.{namespace}"
        self.services.stages[own] = self
        return own

    async def ask(self, execution_id: str, request: Event) -> None:
        with asking.refused():
            await asking.ask(self.system, execution_id, request)

    async def report(self, attempt: str, played: Played) -> None:
        run = self._received.get(attempt) if attempt in self._held else None
        if run is None or played.outcome == "running":
            has_ended = any(each.id == attempt and each.state not in OPEN_ATTEMPT for each in self._attempts())
            with asking.refused():
                await asking.report(self.system, attempt, played)
            if has_ended:
                raise Refused("it has ended: a repeat is answered like the first, and does not count")
        else:
            await self.services.executor.tell(run, played)
        if played.outcome in ENDS:
            self._held.pop(attempt, None)

    async def respond(self, attempt: str, response: object) -> None:
        await self.report(attempt, Played(result=response))

    # What happens.

    def take(self, run: wire.RunAction) -> wire.TaskDone | None:
        """An action was handed out: its outcome, or None when that comes later."""
        where = run.context
        given = Run(
            id=run.action_execution_id,
            execution_id=where.execution_id,
            workflow=where.workflow,
            task=where.task_name,
            number=where.task_number,
            item=where.item,
            action=run.action,
            input=json.loads(run.input),
        )
        self._received[given.id] = run
        try:
            played = self._player(given)
        except Exception as error:
            self.errors.append(f"{given}: {type(error).__name__}: {error}")
            played = HOLD
        if played is not HOLD and not played.after_s and not self._one_by_one:
            self._has_answered = True
            return message_of(run, played)
        self._held[given.id] = given
        if played is HOLD:
            return None
        if self._one_by_one:
            self._waiting.append((run, played))
        else:
            self._answer_later(run, played)
        return None

    def _answer_later(self, run: wire.RunAction, played: Played) -> None:
        self._timed[run.action_execution_id] = self.now_s + played.after_s
        self._answers[run.action_execution_id] = asyncio.create_task(self._answer(run, played))

    async def _answer(self, run: wire.RunAction, played: Played) -> None:
        await asyncio.sleep(played.after_s)
        await self._finish(run, played)
        self._timed.pop(run.action_execution_id, None)

    async def settle(self) -> None:
        """Look until nothing is on its way. What executions tell each other is not seen on its way: where there are
        several, the engine must have had its turn. And nothing may have moved while it was looked at."""
        ends_s = self.now_s + PATIENCE_S
        pause_s = LOOK_S
        while True:
            may_move = bool(self._sight.due_s or self._deadlines())
            seen = await self._sight.look()
            if not self._is_on_its_way():
                if len(seen) > 1:
                    await self.services.barrier()
                may_move = may_move or self._has_answered or len(seen) > 1
                if not may_move or await self._sight.revisions() == seen:
                    self._has_answered = False
                    return
            elif self.now_s > ends_s:
                return
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LOOK_MAX_S)

    def _is_on_its_way(self) -> bool:
        """Whether something is seen that is going to move by itself at once."""
        now_s = self.now_s
        for execution in self.executions:
            if execution.state in QUIET_EXECUTION:
                continue
            if any(
                self._is_handed(each.id, each.state, each.delegated or bool(each.child_id))
                for each in execution.attempts
            ):
                return True
        return any(due_s <= now_s < due_s + LATE_S for _, due_s in [*self._delays(), *self._deadlines()])

    def _delays(self) -> list[tuple[str, float]]:
        """When tasks that are delayed continue."""
        going = {each.id for each in self.executions if each.state not in QUIET_EXECUTION | COMPLETED_EXECUTION}
        return [
            (f"{execution_id}.{number}", due_s)
            for (execution_id, number), due_s in self._sight.due_s.items()
            if execution_id in going
        ]

    def _deadlines(self) -> list[tuple[str, float]]:
        """When actions have had their time."""
        return [
            (attempt.id, self._received[attempt.id].deadline.ToNanoseconds() / 1e9)
            for execution in self.executions
            if execution.state not in QUIET_EXECUTION | COMPLETED_EXECUTION
            for attempt in execution.attempts
            if attempt.state in OPEN_ATTEMPT and attempt.id in self._received
            if self._received[attempt.id].HasField("deadline")
        ]

    def _is_handed(self, attempt: str, state: str, is_elsewhere: bool) -> bool:
        """Whether it is on its way to the executor, or its outcome on its way back."""
        return state == "READY" or (state == "RUNNING" and not is_elsewhere and attempt not in self._held)

    async def advance(self, end_s: float) -> bool:
        if self._waiting:
            run, played = self._waiting.popleft()
            if played.after_s:
                self._answer_later(run, played)
            else:
                await self._finish(run, played)
            await self.settle()
            return True
        due = min(self._timers(), key=lambda each: each[1], default=None)
        if due is None or due[1] > end_s:
            return False
        self._tried.add(due)
        await asyncio.sleep(max(0.0, due[1] - self.now_s) + LOOK_S)
        if due[0] in self._answers:
            await asyncio.wait([self._answers[due[0]]])
        await self.settle()
        return True

    async def _finish(self, run: wire.RunAction, played: Played) -> None:
        with suppress(Refused):  # when it comes too late, that shows in what is compared
            await self.services.executor.tell(run, played)
        self._held.pop(run.action_execution_id, None)

    def _timers(self) -> list[tuple[str, float]]:
        """What comes by itself, and when."""
        found = [*self._timed.items(), *self._delays(), *self._deadlines()]
        return [each for each in found if each not in self._tried]

    async def pass_time(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while await self.advance(end_s):
            pass
        due_s = [due_s for due_s in self._sight.due_s.values() if due_s <= end_s]
        await asyncio.sleep(max(0.0, max(due_s, default=0.0) - self.now_s))
