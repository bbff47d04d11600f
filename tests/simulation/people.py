"""People of the simulation: they ask any engine, with request ids, and ask again until there is an answer."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from tests.simulation.documents import Given
from tests.simulation.engine_life import BREAKS, EngineLife
from tests.simulation.executor_script import Engines, Key, Record
from tests.simulation.extras import embellish, sign
from tests.simulation.links import Network
from tests.simulation.slips import slip

from dalsegno.rpc.errors import PassedOn
from dalsegno.rpc.field_checks import wrong_fields
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.workflow.refusals import Deleted, InvalidRequest, NotFound, Refusal, Unavailable

ANSWER_WITHIN_S = 3.0
"""Who has no answer after this time asks again, perhaps another engine."""


class People:
    """Requests that are not answered yet, and the answers."""

    def __init__(self, network: Network, engines: Engines, chance: random.Random) -> None:
        self.open: dict[str, wire.SubmitRequest] = {}
        """What is not answered yet, by request id."""
        self.started: dict[str, str] = {}
        """The executions that were started or forked: request id to execution id."""
        self.begun: dict[str, str] = {}
        """Those that were started: each by a request of its own."""
        self.to_delete: set[str] = set()
        """What they have asked to delete. A request may be refused, and a copy of it that arrives later carried out."""
        self.deleted: set[str] = set()
        self.answers: dict[str, bytes] = {}
        self.refusals: dict[str, int] = {}
        """How often each kind of refusal was answered."""
        self.repeats = 0.05
        """The share of requests that are sent twice at once, to different engines."""
        self.wrong: list[str] = []
        """What must not happen."""
        self.is_calm = False
        """Whether they make no mistakes any more."""
        self.record = Record()
        """What executors have written down: whom they have handed an action to signs its callbacks."""
        self._network = network
        self._engines = engines
        self._chance = chance
        self._requests: dict[str, wire.SubmitRequest] = {}
        """All requests. A copy may be carried out after another copy was refused: what it needs is there by then."""
        self._trials: set[str] = set()
        """The dry runs: each is answered anew each time."""
        self._starting: set[str] = set()
        """The requests that engines have answered by an execution: whoever comes later gets the same answer."""
        self.gives_deadlines = True

    def new_id(self) -> str:
        """Return a new id of an execution."""
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def ask(self, **write: Any) -> str:
        """Ask for a write, sometimes a second time with a slip. Return the request id."""
        if not self.is_calm and self._chance.random() < 0.1:
            name, right = next(iter(write.items()))
            wrong: Any = type(right)()
            wrong.CopyFrom(right)
            slip(wrong, self._chance, list(self.started.values()))
            self._ask(**{name: wrong})
        return self._ask(**write)

    def _ask(self, **write: Any) -> str:
        request_id = f"request {len(self._requests) + 1}"
        request = wire.SubmitRequest(actor="person", call_id=request_id, **write)
        inner: Any = getattr(request, next(iter(write)))
        if "request_id" in inner.DESCRIPTOR.fields_by_name:
            inner.request_id = request_id
        request.takes_later = self._chance.random() < 0.2
        self.open[request_id] = self._requests[request_id] = request
        if getattr(inner, "dry_run", False):
            self._trials.add(request_id)
        elif "delete_execution" in write:
            self.to_delete.add(inner.execution_id)
        self._send(request_id)
        if self._chance.random() < self.repeats:
            self._send(request_id)
        return request_id

    def _send(self, request_id: str) -> None:
        timeline = self._network.timeline
        address = self._chance.randrange(self._engines.addresses)
        timeline.later(self._network.delay_s(), lambda: self._arrive(request_id, address))
        timeline.later(ANSWER_WITHIN_S, lambda: self._again(request_id))

    def _again(self, request_id: str) -> None:
        if request_id in self.open:
            self._send(request_id)

    def _arrive(self, request_id: str, address: int) -> None:
        life, request = self._engines.at(address), self.open.get(request_id)
        if request is None:
            return
        if life is None:  # nobody listens there: somewhere else, perhaps
            other = self._chance.randrange(self._engines.addresses)
            self._network.timeline.later(0.5, lambda: self._arrive(request_id, other))
        else:
            life.spawn(self._serve(life, request_id, request))

    async def _serve(self, life: EngineLife, request_id: str, request: wire.SubmitRequest) -> None:
        """What the engine does for one call. Its answer may be lost."""
        context: Any = None
        has_started = request_id in self._starting
        try:
            draw = self._chance.random()
            if wrong := wrong_fields(request):  # the server refuses it before the desk sees it (interceptors.py)
                raise InvalidRequest(wrong)
            if draw < 0.01:
                await life.desk.Await(wire.AwaitRequest(later="nothing"), context)
            if draw < 0.1:  # the second write is refused at once, and so the first one may come later
                writes = [request, wire.SubmitRequest()]
                several = await life.desk.SubmitMany(wire.SubmitManyRequest(writes=writes), context)
                result = several.results[0]
                if result.refusal:
                    return  # the next time it asks for this alone
                response = result.answer
            else:
                response = await life.desk.Submit(request, context)
            if response.later and draw > 0.95:
                return  # it has forgotten that there will be an answer
            if response.later:
                response = (await life.desk.Await(wire.AwaitRequest(later=response.later), context)).answer
        except asyncio.CancelledError:
            return
        except (Unavailable, PassedOn):  # a refusal that was passed on: the next time it asks for this alone
            return
        except RuntimeError as unexpected:
            if BREAKS not in str(unexpected):
                raise
            return
        except Refusal as refusal:
            error = refusal
            is_gone = isinstance(error, Deleted) and self._is_deleted(request_id)
            if has_started and not is_gone:
                self.wrong.append(f"{request_id} was answered, and then refused: {error}")
            self._network.timeline.later(self._network.delay_s(), lambda: self._refused(request_id, error))
            return
        if self._execution_of(request_id, response):
            self._starting.add(request_id)
        self._network.timeline.later(self._network.delay_s(), lambda: self._answered(request_id, response))

    def _refused(self, request_id: str, refusal: Refusal) -> None:
        request = self.open.pop(request_id, None)
        if request is not None:
            name = type(refusal).__name__
            if request.WhichOneof("write") == "delete_execution" and isinstance(refusal, Deleted | NotFound):
                self.deleted.add(request.delete_execution.execution_id)  # the answer to the first try was lost
            self.refusals[name] = self.refusals.get(name, 0) + 1

    def _is_deleted(self, request_id: str) -> bool:
        """Return whether somebody has asked to delete what a request has started."""
        response = wire.SubmitResponse.FromString(self.answers.get(request_id, b""))
        execution_id = self._execution_of(request_id, response)
        return not execution_id or execution_id in self.to_delete

    def _execution_of(self, request_id: str, response: wire.SubmitResponse) -> str:
        """Return the execution that a request has started or forked; empty: none."""
        kind = response.WhichOneof("answer")
        if kind not in ("start_execution", "rerun_execution"):
            return ""
        inner: Any = getattr(response, kind)
        is_new = self._requests[request_id].rerun_execution.execution_id != inner.execution.id
        if kind == "start_execution" and not inner.created:  # it was there already
            is_new = False
        return str(inner.execution.id) if is_new and not inner.HasField("dry_run") else ""

    def _answered(self, request_id: str, response: wire.SubmitResponse) -> None:
        self.open.pop(request_id, None)
        request = self._requests[request_id]
        kind = response.WhichOneof("answer")
        text = response.SerializeToString(deterministic=True)
        execution_id = self._execution_of(request_id, response)
        if execution_id:
            self.started[request_id] = execution_id
            if kind == "start_execution":
                self.begun[request_id] = execution_id
        if kind == "delete_execution" and not request.delete_execution.dry_run:
            self.deleted.add(request.delete_execution.execution_id)
        is_repeatable = kind != "heartbeat_action" and request_id not in self._trials
        if is_repeatable and self.answers.setdefault(request_id, text) != text:
            self.wrong.append(f"the answer to a repeated {kind} differs")
        if not self.is_calm and self._chance.random() < self.repeats:  # it has forgotten the answer
            self.open[request_id] = request
            self._send(request_id)

    # What they ask for.

    def start(self, namespace: str, given: Given) -> None:
        """Ask for an execution of `wf`."""
        request = executions.StartExecutionRequest(
            namespace=namespace, workflow="wf", params=json.dumps(given.params), execution_id=self.new_id()
        )
        if self._chance.random() < 0.3:
            request.ClearField("execution_id")
        if self._chance.random() < 0.1:
            request.stop_at.append(self._chance.choice(["wft0", "wft1", "nowhere"]))
        if not self.is_calm:
            embellish(request, self._chance, self._network.timeline.time() if self.gives_deadlines else 0.0)
        self.ask(start_execution=request)

    def run_action(self) -> None:
        """Ask for a single action."""
        request = actions.RunActionRequest(action=self._chance.choice(["std.noop", "std.http", "std.echo"]))
        request.input = json.dumps({"std.http": {"url": "x"}, "std.echo": {"output": 1}}.get(request.action, {}))
        if self._chance.random() < 0.5:
            request.retry.count = 1
            request.retry.delay.FromSeconds(1)
        if self._chance.random() < 0.3:
            request.timeout.FromSeconds(2)
        self.ask(run_action=request)

    def cancel_action(self, name: str) -> None:
        """Ask for an action execution to end."""
        self.ask(cancel_action=actions.CancelActionRequest(action_execution_id=name, comment="not needed"))

    def complete(self, key: Key, token: str) -> None:
        """A third party completes what it was given."""
        request = actions.CompleteActionRequest(
            task_token=token, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, result="1"
        )
        if self._chance.random() < 0.2:
            request.outcome = self._chance.choice(
                [actions.COMPLETION_OUTCOME_FAILED, actions.COMPLETION_OUTCOME_CANCELLED]
            )
            request.ClearField("result")
            request.error = "refused"
        elif not self.is_calm and self._chance.random() < 0.1:
            request.result = '"no number"'
        self._name(request, key)
        self.ask(complete_action=request)

    def _name(self, request: Any, key: Key) -> None:
        """Sign a callback, if it needs a signature, or name its action otherwise than by its token."""
        if not self.is_calm and key in self.record.signing and self._chance.random() < 0.8:
            scheme, signing_key = self.record.signing[key]
            request.signed.CopyFrom(sign(scheme, signing_key, b"1", self._network.timeline.time()))
            if self._chance.random() < 0.2:
                slip(request.signed, self._chance)
        elif self.is_calm:
            request.ClearField("task_token")
            request.action_execution_id = key[0]
        elif self._chance.random() < 0.2:
            request.ClearField("task_token")
            if self._chance.random() < 0.5:
                request.action_execution_id = key[0]
            else:
                request.alias = f"order {key[0]}"

    def tell(self, key: Key, token: str) -> None:
        """A third party gives a sign of life, or says that it pauses or goes on."""
        if self._chance.random() < 0.5:
            request = actions.HeartbeatActionRequest(task_token=token)
            if self._chance.random() < 0.5:
                request.progress.fraction = 0.5
            self._name(request, key)
            self.ask(heartbeat_action=request)
            return
        states = [execution_pb2.ACTION_STATE_PAUSED, execution_pb2.ACTION_STATE_RUNNING]
        update = actions.UpdateActionRequest(task_token=token, state=self._chance.choice(states))
        self._name(update, key)
        self.ask(update_action=update)

    def control(self, queries: Queries, execution_id: str) -> None:
        """Ask for any operation on an execution."""
        wishes: list[Callable[[Queries, str], None]] = [
            *[self._pause] * 3,
            *[self._resume] * 5,
            *[self._rerun] * 3,
            *[self._go_to] * 3,
            *[self._edit] * 2,
            *[self._discard] * 2,
            self._fork,
            self._cancel,
            self._delete,
        ]
        self._chance.choice(wishes)(queries, execution_id)

    def _pause(self, queries: Queries, execution_id: str) -> None:
        delegates = self._chance.choice(
            [operation_pb2.DELEGATES_UNSPECIFIED, operation_pb2.DELEGATES_LEAVE, operation_pb2.DELEGATES_WAIT]
        )
        self.ask(
            pause_execution=executions.PauseExecutionRequest(
                execution_id=execution_id, delegates=delegates, dry_run=self._tries()
            )
        )

    def _tries(self) -> bool:
        return self._chance.random() < 0.15

    def resume(self, execution_id: str) -> None:
        """Ask for an execution to go on."""
        self.ask(resume_execution=executions.ResumeExecutionRequest(execution_id=execution_id))

    def _resume(self, queries: Queries, execution_id: str) -> None:
        request = executions.ResumeExecutionRequest(execution_id=execution_id, dry_run=self._tries())
        row = queries.execution(execution_id)
        failed = [
            task
            for task in queries.tasks(execution_id, size=100).rows
            if task.state == "ERROR" and not task.superseded_by
        ]
        if row is not None and failed and self._chance.random() < 0.7:
            task = self._chance.choice(failed)
            choice = request.tasks.add(task_number=task.number)
            if self._chance.random() < 0.4:
                choice.skip = True
                if self._chance.random() < 0.5:
                    choice.output = "1"
            elif self._chance.random() < 0.5:
                choice.reset = self._chance.random() < 0.5
            elif self._chance.random() < 0.3:
                choice.leave = True
        if self._chance.random() < 0.1:
            request.environment_overlay = '{"a": 1}'
        if self._chance.random() < 0.1:
            request.stop_at.append("wft1")
        self.ask(resume_execution=request)

    def _rerun(self, queries: Queries, execution_id: str) -> None:
        request = executions.RerunExecutionRequest(execution_id=execution_id, dry_run=self._tries())
        tasks = [task for task in queries.tasks(execution_id, size=100).rows if not task.superseded_by]
        choice = self._chance.random()
        if choice < 0.4 and tasks:
            request.start_from = operation_pb2.RERUN_FROM_TASKS
            wish = request.tasks.add(task_number=self._chance.choice(tasks).number)
            if self._chance.random() < 0.3:
                wish.items.append(0)
            if self._chance.random() < 0.3:
                wish.reset = True
            if self._chance.random() < 0.2:
                wish.child = operation_pb2.CHILD_RERUN_FAILED
        elif choice < 0.7:
            request.start_from = operation_pb2.RERUN_FROM_FAILED
        else:
            request.start_from = operation_pb2.RERUN_FROM_BEGINNING
            request.latest_definition = self._chance.random() < 0.5
            if self._chance.random() < 0.5:
                request.new_execution_id = self.new_id()
        self.ask(rerun_execution=request)

    def _checkpoint(self, queries: Queries, execution_id: str) -> str:
        reached = [entry.name for entry in queries.checkpoints(execution_id, size=100).rows]
        return self._chance.choice([*reached * 3, "start", "wft0", "wft1", "childt0"])

    def _go_to(self, queries: Queries, execution_id: str) -> None:
        request = executions.GoToCheckpointRequest(execution_id=execution_id, dry_run=self._chance.random() < 0.3)
        request.then = self._chance.choice([executions.ON_ARRIVAL_STAY, executions.ON_ARRIVAL_RESUME])
        request.name = self._checkpoint(queries, execution_id)
        request.next = request.name != "start" and self._chance.random() < 0.2
        if self._chance.random() < 0.2:
            request.edit.set = '{"v0": 7}'
        self.ask(go_to_checkpoint=request)

    def _edit(self, queries: Queries, execution_id: str) -> None:
        request = executions.UpdateContextRequest(execution_id=execution_id, dry_run=self._tries())
        request.set = '{"v0": 1}'
        if self._chance.random() < 0.3:
            request.unset.append("v1")
        if self._chance.random() < 0.3:
            request.task = "t0"
        self.ask(update_context=request)

    def _discard(self, queries: Queries, execution_id: str) -> None:
        request = executions.DiscardHistoryRequest(execution_id=execution_id, dry_run=self._tries())
        request.name = self._checkpoint(queries, execution_id)
        self.ask(discard_history=request)

    def _fork(self, queries: Queries, execution_id: str) -> None:
        request = executions.RerunExecutionRequest(
            execution_id=execution_id,
            start_from=operation_pb2.RERUN_FROM_CHECKPOINT,
            checkpoint=self._checkpoint(queries, execution_id),
            stay=self._chance.random() < 0.2,
            dry_run=self._tries(),
        )
        self.ask(rerun_execution=request)

    def cancel(self, execution_id: str) -> None:
        """Ask for an execution to end, now."""
        request = executions.CancelExecutionRequest(execution_id=execution_id)
        request.terminate.state = execution_pb2.EXECUTION_STATE_CANCELLED
        self.ask(cancel_execution=request)

    def _cancel(self, queries: Queries, execution_id: str) -> None:
        request = executions.CancelExecutionRequest(execution_id=execution_id, dry_run=self._tries())
        if self._chance.random() < 0.3:
            request.delegates = operation_pb2.DELEGATES_WAIT
        elif self._chance.random() < 0.3:
            request.terminate.state = self._chance.choice(
                [execution_pb2.EXECUTION_STATE_ERROR, execution_pb2.EXECUTION_STATE_SUCCESS]
            )
        self.ask(cancel_execution=request)

    def _delete(self, queries: Queries, execution_id: str) -> None:
        request = executions.DeleteExecutionRequest(execution_id=execution_id, dry_run=self._tries())
        self.ask(delete_execution=request)
