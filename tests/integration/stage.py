"""What tests of the operations play on: an executor whose actions fail, hold or succeed as the test says, and the same
workflows in both languages.

    scene = await stage.open("chain", language, broken={"second"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.resume(scene, "second")
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.processes import System, state_of

from dalsegno.rpc.failure import Failure, read_failure
from dalsegno.v1 import execution_pb2, executor_service_pb2, operation_pb2, workflow_service_pb2
from dalsegno.v1 import execution_service_pb2 as messages

LANGUAGES = ("mistral", "orquesta")
Place = str | tuple[str, int]
"""A task, or an item of it."""

MISTRAL = """
version: '2.0'
mistral_chain:
  input: [word, {tail: end}]
  output: {said: <% $.said %>}
  tasks:
    first: {action: test.act give=<% $.word %>, publish: {word: <% task().result %>}, on-success: [second]}
    second: {action: test.act give="<% $.word %>!", publish: {said: <% task().result %>}, on-success: [third]}
    third: {action: test.act give="<% $.said %><% $.tail %>", publish: {said: <% task().result %>}}
mistral_items:
  input: [list]
  output: {all: <% $.all %>}
  tasks:
    many: {with-items: n in <% $.list %>, action: test.act give=<% $.n %>,
           publish: {all: <% task().result %>}, on-success: [after]}
    after: {action: test.act give=<% $.all %>}
mistral_join:
  output: {met: <% $.met %>}
  tasks:
    start: {action: test.act give=0, on-success: [left, right]}
    left: {action: test.act give="l", publish: {l: <% task().result %>}, on-success: [meet]}
    right: {action: test.act give="r", publish: {r: <% task().result %>}, on-success: [meet]}
    meet: {join: all, action: test.act give="<% $.l %><% $.r %>", publish: {met: <% task().result %>},
           on-success: [end]}
    end: {action: test.act give=1}
mistral_apart:
  tasks:
    one: {action: test.act give=1, on-success: [after_one]}
    two: {action: test.act give=2, on-success: [after_two]}
    after_one: {action: test.act give=3}
    after_two: {action: test.act give=4}
mistral_forks:
  output: {seen: <% $.seen %>}
  tasks:
    choose: {action: test.act give="usual", publish: {seen: <% task().result %>},
             on-success: [left: "<% $.seen = 'odd' %>", right: "<% $.seen = 'odd' %>",
                          usual: "<% $.seen = 'usual' %>"]}
    left: {action: test.act give=1}
    right: {action: test.act give=2}
    usual: {action: test.act give=3}
mistral_retries:
  tasks:
    again: {action: test.act give=1, retry: {count: 2, delay: 0}, on-success: [after]}
    after: {action: test.act give=2}
mistral_calls:
  tasks:
    call: {workflow: mistral_called, on-success: [last]}
    beside: {workflow: mistral_called}
    free: {action: test.act give=1, on-success: [freed]}
    freed: {action: test.act give=2}
    last: {action: test.act give=3}
mistral_called:
  tasks:
    inner: {action: test.act give=1, on-success: [outer]}
    outer: {action: test.act give=2}
mistral_asks:
  output: {answer: <% $.answer %>}
  tasks:
    ask: {action: std.async_noop, publish: {answer: <% task().result %>}, on-success: [after]}
    after: {action: test.act give=<% $.answer %>}
mistral_skips:
  output: {how: <% $.how %>}
  tasks:
    risky: {action: test.act give=1, publish: {how: <% task().result %>}, publish-on-skip: {how: skipped},
            on-success: [usual], on-skip: [instead]}
    usual: {action: test.act give=2}
    instead: {action: test.act give=3}
mistral_phases:
  input: [word]
  output: {said: <% $.said %>}
  tasks:
    install: {action: test.act give=<% $.word %>, publish: {said: <% task().result %>},
              checkpoint: {name: installed, data: {got: <% task().result %>}}, on-success: [configure]}
    configure: {action: test.act give="<% $.said %>!", publish: {said: <% task().result %>},
                checkpoint: {name: to configure, when: before}, on-success: [sign]}
    sign: {checkpoint: configured, on-success: [check]}
    check: {action: test.act give="<% $.said %>+", publish: {said: <% task().result %>}, checkpoint: checked}
mistral_backwards:
  type: reverse
  tasks:
    needed: {action: test.act give=1}
    wanted: {action: test.act give=2, requires: [needed], checkpoint: wanted}
    other: {action: test.act give=3, requires: [needed], checkpoint: beside}
mistral_forked:
  tasks:
    start: {action: test.act give=0, on-success: [left, right]}
    left: {action: test.act give=1, checkpoint: left done, on-success: [meet]}
    right: {workflow: mistral_called, checkpoint: right begins, on-success: [meet]}
    meet: {join: all, action: test.act give=2, checkpoint: met}
mistral_undoable:
  input: [word]
  output: {said: <% $.said %>}
  tasks:
    install: {action: test.act give=<% $.word %>, publish: {said: <% task().result %>}, checkpoint: installed,
              revert: test.undo give="<% task(install).result %>", on-success: [configure]}
    configure: {action: test.act give="<% $.said %>!", publish: {said: <% task().result %>}, checkpoint: configured,
                revert: test.undo give="<% task(configure).result %>", on-success: [check]}
    check: {action: test.act give="<% $.said %>+", publish: {said: <% task().result %>}, checkpoint: checked,
            revert: {action: test.undo, input: {give: <% task(check).result %>}, when: always}, on-success: [plain]}
    plain: {action: test.act give=<% $.said %>}
mistral_branches:
  tasks:
    begin: {action: test.act give=0, checkpoint: begun, on-success: [left, right, many]}
    left: {action: test.act give=1, revert: test.undo give=1, on-success: [meet]}
    right: {workflow: mistral_reversible, revert: test.undo give=2, on-success: [meet]}
    many: {with-items: "n in <% [3, 4, 5] %>", action: test.act give=<% $.n %>,
           revert: {action: test.undo, input: {give: <% $.n %>}}, on-success: [meet]}
    meet: {join: all, action: test.act give=6, revert: test.undo give=6, checkpoint: met}
mistral_reversible:
  tasks:
    inner: {action: test.act give=7, revert: test.undo give=7, on-success: [outer]}
    outer: {action: test.act give=8, revert: test.undo give=8}
mistral_gives_up:
  on-failure: revert
  tasks:
    install: {action: test.act give=1, checkpoint: installed, revert: test.undo give=1, on-success: [configure]}
    configure: {action: test.act give=2, revert: test.undo give=2, on-success: [check]}
    check: {action: test.act give=3}
mistral_tries_again:
  on-failure: {revert: installed, then: retry, count: 2}
  tasks:
    install: {action: test.act give=1, checkpoint: installed, revert: test.undo give=1, on-success: [configure]}
    configure: {action: test.act give=2, revert: test.undo give=2, on-success: [check]}
    check: {action: test.act give=3}
mistral_waits:
  on-failure: {revert: last, then: pause}
  tasks:
    install: {action: test.act give=1, checkpoint: installed, revert: test.undo give=1, on-success: [configure]}
    configure: {action: test.act give=2, revert: test.undo give=2, on-success: [check]}
    check: {action: test.act give=3}
mistral_waits_and_tries:
  on-failure: {revert: installed, then: retry, delay: 4}
  tasks:
    install: {action: test.act give=1, checkpoint: installed, on-success: [check]}
    check: {action: test.act give=3}
mistral_insists:
  on-failure: revert
  tasks:
    install: {action: test.act give=1, checkpoint: {name: installed, retry: 2}, revert: test.undo give=1,
              on-success: [configure]}
    configure: {action: test.act give=2, revert: test.undo give=2, on-success: [check]}
    check: {action: test.act give=3}
mistral_sub_flow:
  tasks:
    before: {action: test.act give=0, on-success: [call]}
    call: {workflow: mistral_reversible, checkpoint: {name: sub flow, retry: 2}}
mistral_rounds:
  input: [count]
  tasks:
    begin: {action: test.act give=0, on-success: [turn]}
    turn: {action: test.act give=1, publish: {count: <% $.count - 1 %>},
           checkpoint: {name: turned, data: {left: <% $.count %>}}, on-success: [turn: <% $.count > 0 %>]}
"""

ORQUESTA = {
    "chain": """
input: [word, {tail: end}]
output: [{said: <% ctx().said %>}]
tasks:
  first: {action: test.act give=<% ctx().word %>, next: [{when: <% succeeded() %>, publish: [{word: <% result() %>}],
          do: second}]}
  second: {action: test.act give="<% ctx().word %>!", next: [{when: <% succeeded() %>,
           publish: [{said: <% result() %>}], do: third}]}
  third: {action: test.act give="<% ctx().said %><% ctx().tail %>", next: [{when: <% succeeded() %>,
          publish: [{said: <% result() %>}]}]}
""",
    "items": """
input: [list]
output: [{all: <% ctx().all %>}]
tasks:
  many:
    with: n in <% ctx().list %>
    action: test.act give=<% item(n) %>
    next: [{when: <% succeeded() %>, publish: [{all: <% result() %>}], do: after}]
  after: {action: test.act give=<% ctx().all %>}
""",
    "join": """
output: [{met: <% ctx().met %>}]
tasks:
  start: {action: test.act give=0, next: [{when: <% succeeded() %>, do: [left, right]}]}
  left: {action: test.act give="l", next: [{when: <% succeeded() %>, publish: [{l: <% result() %>}], do: meet}]}
  right: {action: test.act give="r", next: [{when: <% succeeded() %>, publish: [{r: <% result() %>}], do: meet}]}
  meet:
    join: all
    action: test.act give="<% ctx().l %><% ctx().r %>"
    next: [{when: <% succeeded() %>, publish: [{met: <% result() %>}], do: end}]
  end: {action: test.act give=1}
""",
    "apart": """
tasks:
  one: {action: test.act give=1, next: [{when: <% succeeded() %>, do: after_one}]}
  two: {action: test.act give=2, next: [{when: <% succeeded() %>, do: after_two}]}
  after_one: {action: test.act give=3}
  after_two: {action: test.act give=4}
""",
    "forks": """
output: [{seen: <% ctx().seen %>}]
tasks:
  choose:
    action: test.act give="usual"
    next:
      - when: <% succeeded() and result() = 'odd' %>
        publish: [{seen: <% result() %>}]
        do: [left, right]
      - when: <% succeeded() and result() = 'usual' %>
        publish: [{seen: <% result() %>}]
        do: usual
  left: {action: test.act give=1}
  right: {action: test.act give=2}
  usual: {action: test.act give=3}
""",
    "retries": """
tasks:
  again: {action: test.act give=1, retry: {count: 2, delay: 0}, next: [{when: <% succeeded() %>, do: after}]}
  after: {action: test.act give=2}
""",
    "called": """
tasks:
  inner: {action: test.act give=1, next: [{when: <% succeeded() %>, do: outer}]}
  outer: {action: test.act give=2}
""",
    "phases": """
input: [word]
output: [{said: <% ctx().said %>}]
tasks:
  install: {action: test.act give=<% ctx().word %>, checkpoint: {name: installed, data: {got: <% result() %>}},
            next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: configure}]}
  configure: {action: test.act give="<% ctx().said %>!", checkpoint: {name: to configure, when: before},
              next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: sign}]}
  sign: {checkpoint: configured, next: [{do: check}]}
  check: {action: test.act give="<% ctx().said %>+", checkpoint: checked,
          next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}]}]}
""",
    "forked": """
tasks:
  start: {action: test.act give=0, next: [{when: <% succeeded() %>, do: [left, right]}]}
  left: {action: test.act give=1, checkpoint: left done, next: [{when: <% succeeded() %>, do: meet}]}
  right: {action: orquesta_called, checkpoint: right begins, next: [{when: <% succeeded() %>, do: meet}]}
  meet: {join: all, action: test.act give=2, checkpoint: met}
""",
    "undoable": """
input: [word]
output: [{said: <% ctx().said %>}]
tasks:
  install: {action: test.act give=<% ctx().word %>, checkpoint: installed, revert: 'test.undo give="<% result() %>"',
            next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: configure}]}
  configure: {action: test.act give="<% ctx().said %>!", checkpoint: configured,
              revert: 'test.undo give="<% result() %>"',
              next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: check}]}
  check: {action: test.act give="<% ctx().said %>+", checkpoint: checked,
          revert: {action: test.undo, input: {give: <% result() %>}, when: always},
          next: [{when: <% succeeded() %>, publish: [{said: <% result() %>}], do: plain}]}
  plain: {action: test.act give=<% ctx().said %>}
""",
    "reversible": """
tasks:
  inner: {action: test.act give=7, revert: test.undo give=7, next: [{when: <% succeeded() %>, do: outer}]}
  outer: {action: test.act give=8, revert: test.undo give=8}
""",
    "branches": """
tasks:
  begin: {action: test.act give=0, checkpoint: begun, next: [{when: <% succeeded() %>, do: [left, right, many]}]}
  left: {action: test.act give=1, revert: test.undo give=1, next: [{when: <% succeeded() %>, do: meet}]}
  right: {action: orquesta_reversible, revert: test.undo give=2, next: [{when: <% succeeded() %>, do: meet}]}
  many:
    with: n in <% [3, 4, 5] %>
    action: test.act give=<% item(n) %>
    revert: {action: test.undo, input: {give: <% item(n) %>}}
    next: [{when: <% succeeded() %>, do: meet}]
  meet: {join: all, action: test.act give=6, revert: test.undo give=6, checkpoint: met}
""",
    "gives_up": """
on-failure: revert
tasks:
  install: {action: test.act give=1, checkpoint: installed, revert: test.undo give=1,
            next: [{when: <% succeeded() %>, do: configure}]}
  configure: {action: test.act give=2, revert: test.undo give=2, next: [{when: <% succeeded() %>, do: check}]}
  check: {action: test.act give=3}
""",
    "tries_again": """
on-failure: {revert: installed, then: retry, count: 2}
tasks:
  install: {action: test.act give=1, checkpoint: installed, revert: test.undo give=1,
            next: [{when: <% succeeded() %>, do: configure}]}
  configure: {action: test.act give=2, revert: test.undo give=2, next: [{when: <% succeeded() %>, do: check}]}
  check: {action: test.act give=3}
""",
    "waits": """
on-failure: {revert: last, then: pause}
tasks:
  install: {action: test.act give=1, checkpoint: installed, revert: test.undo give=1,
            next: [{when: <% succeeded() %>, do: configure}]}
  configure: {action: test.act give=2, revert: test.undo give=2, next: [{when: <% succeeded() %>, do: check}]}
  check: {action: test.act give=3}
""",
    "waits_and_tries": """
on-failure: {revert: installed, then: retry, delay: 4}
tasks:
  install: {action: test.act give=1, checkpoint: installed, next: [{when: <% succeeded() %>, do: check}]}
  check: {action: test.act give=3}
""",
    "insists": """
on-failure: revert
tasks:
  install: {action: test.act give=1, checkpoint: {name: installed, retry: 2}, revert: test.undo give=1,
            next: [{when: <% succeeded() %>, do: configure}]}
  configure: {action: test.act give=2, revert: test.undo give=2, next: [{when: <% succeeded() %>, do: check}]}
  check: {action: test.act give=3}
""",
    "sub_flow": """
tasks:
  before: {action: test.act give=0, next: [{when: <% succeeded() %>, do: call}]}
  call: {action: orquesta_reversible, checkpoint: {name: sub flow, retry: 2}}
""",
    "rounds": """
input: [count]
tasks:
  begin: {action: test.act give=0, next: [{when: <% succeeded() %>, do: turn}]}
  turn: {action: test.act give=1, checkpoint: {name: turned, data: {left: <% ctx().count %>}},
         next: [{when: <% succeeded() and ctx().count > 1 %>, publish: [{count: <% ctx().count - 1 %>}], do: turn}]}
""",
    "calls": """
tasks:
  call: {action: orquesta_called, next: [{when: <% succeeded() %>, do: last}]}
  beside: {action: orquesta_called}
  free: {action: test.act give=1, next: [{when: <% succeeded() %>, do: freed}]}
  freed: {action: test.act give=2}
  last: {action: test.act give=3}
""",
}


@dataclass
class Scene:
    """One execution with its children, and how its actions end; they have a namespace of their own."""

    broken: set[Place] = field(default_factory=set)
    held: set[Place] = field(default_factory=set)
    namespace: str = field(default_factory=lambda: f"scene-{uuid.uuid4().hex[:12]}")
    id: str = ""
    language: str = ""
    waiting: dict[Place, executor_service_pb2.RunAction] = field(default_factory=dict)
    """What the executor has and does not answer yet, by task and item; for children the newest of that name."""
    runs: list[executor_service_pb2.RunAction] = field(default_factory=list)
    """Everything that was handed out, in order."""


@dataclass
class Stage:
    """A system and its scripted executor."""

    system: System
    scenes: dict[str, Scene] = field(default_factory=dict)
    executor: ScriptedExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.executor = ScriptedExecutor(
            self.system.engine.address,
            self._play,
            executor_id="player",
            actions=(("test.act", True), ("test.undo", True)),
        )

    def _play(self, run: executor_service_pb2.RunAction) -> executor_service_pb2.TaskDone | None:
        task, item = run.context.task_name, run.context.item
        if run.action == "test.undo":
            task = f"undo {task}"
        scene = self.scenes[run.context.namespace]
        scene.runs.append(run)
        if task in scene.held or (task, item) in scene.held:
            scene.waiting[task, item] = run
            return None
        if task in scene.broken or (task, item) in scene.broken:
            return done(run, executor_service_pb2.TASK_OUTCOME_FAILED, error="it broke")
        return _succeeded(run)

    # Starting, and what is seen of it.

    async def open(
        self,
        workflow: str,
        language: str,
        input: object = None,
        *,
        broken: Iterable[Place] = (),
        held: Iterable[Place] = (),
        **more: Any,
    ) -> Scene:
        """Start an execution of one of the workflows above in the namespace of the scene."""
        scene = Scene(set(broken), set(held), language=language)
        self.scenes[scene.namespace] = scene
        wanted = workflow_service_pb2.GetWorkflowRequest(name=f"{language}_{workflow}")
        definition_id = (await self.system.workflows.GetWorkflow(wanted)).workflow.definition_id
        scene.id = await self.system.begin("", input, definition_id=definition_id, namespace=scene.namespace, **more)
        return scene

    async def rests(self, scene: Scene, state: str = "SUCCESS") -> execution_pb2.Execution:
        """Return the execution when it is at rest or paused; it must be in this state."""
        execution = await self.system.wait(scene.id)
        assert state_of(execution) == state, execution.state_info
        return execution

    async def release(self, scene: Scene, task: str, item: int = 0, *, fails: bool = False) -> None:
        """End the held actions of the executor, when it has them."""
        await self.has(scene, task, item)
        run = scene.waiting.pop((task, item))
        failed = done(run, executor_service_pb2.TASK_OUTCOME_FAILED, error="it broke")
        await self.executor.finish(run, failed if fails else _succeeded(run))

    async def has(self, scene: Scene, task: str, item: int = 0) -> executor_service_pb2.RunAction:
        """Return the deliveries of the executor, when it has them."""
        await until(lambda: (task, item) in scene.waiting)
        return scene.waiting[task, item]

    async def tasks(self, scene: Scene) -> dict[str, execution_pb2.TaskExecution]:
        """Return the newest task execution of each name that counts."""
        return {task.name: task for task in await self.system.tasks(scene.id) if not task.superseded}

    async def states(self, scene: Scene) -> dict[str, str]:
        """Return the state of each of those."""
        return {name: state_of(task) for name, task in (await self.tasks(scene)).items()}

    async def attempts(self, scene: Scene, task: str) -> list[execution_pb2.ActionExecution]:
        """Return all attempts of a task, by item and number."""
        return [each for each in await self.system.attempts(scene.id) if each.task_name == task]

    async def children(self, scene: Scene, count: int = 2) -> dict[str, str]:
        """Return the present child of each task, when there are so many."""
        async with asyncio.timeout(20):
            while True:
                tasks = await self.tasks(scene)
                found = {name: task.child_execution_ids[0] for name, task in tasks.items() if task.child_execution_ids}
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)

    async def reaches(self, execution_id: str, *states: str) -> None:
        """Return when the execution is in one of these states."""
        async with asyncio.timeout(20):
            while True:
                if state_of(await self.system.get(execution_id)) in states:
                    return
                await asyncio.sleep(0.02)

    # Operations.

    async def pause(self, execution_id: str, **more: Any) -> messages.PauseExecutionResponse:
        request = messages.PauseExecutionRequest(execution_id=execution_id, **more)
        return await self.system.executions.PauseExecution(request, timeout=30)

    async def cancel(self, execution_id: str, **more: Any) -> messages.CancelExecutionResponse:
        request = messages.CancelExecutionRequest(execution_id=execution_id, **more)
        return await self.system.executions.CancelExecution(request, timeout=30)

    async def resume(self, execution_id: str, *tasks: Any, **more: Any) -> messages.ResumeExecutionResponse:
        """Resume; a task is a name or a ResumeTask."""
        chosen = [operation_pb2.ResumeTask(task=each) if isinstance(each, str) else each for each in tasks]
        request = messages.ResumeExecutionRequest(execution_id=execution_id, tasks=chosen, **more)
        return await self.system.executions.ResumeExecution(request, timeout=30)

    async def go_to(self, execution_id: str, name: str = "", **more: Any) -> messages.GoToCheckpointResponse:
        """Send it to a checkpoint, by its name unless `more` has the sequence number of an entry."""
        request = messages.GoToCheckpointRequest(execution_id=execution_id, **more)
        if name:
            request.name = name
        return await self.system.executions.GoToCheckpoint(request, timeout=30)

    async def entries(self, execution_id: str) -> list[execution_pb2.CheckpointEntry]:
        """The entries of checkpoints but `start`, the oldest first."""
        listed = await self.system.executions.ListCheckpoints(
            messages.ListCheckpointsRequest(execution_id=execution_id)
        )
        assert listed.entries[-1].name == "start"
        return list(reversed(listed.entries))[1:]

    async def rerun(self, execution_id: str, *tasks: Any, **more: Any) -> messages.RerunExecutionResponse:
        """Rerun from tasks, names or RerunTasks; without any from what failed."""
        chosen = [operation_pb2.RerunTask(task=each) if isinstance(each, str) else each for each in tasks]
        start = operation_pb2.RERUN_FROM_TASKS if tasks else operation_pb2.RERUN_FROM_FAILED
        fields = {"start_from": start, **more}
        request = messages.RerunExecutionRequest(execution_id=execution_id, tasks=chosen, **fields)
        return await self.system.executions.RerunExecution(request, timeout=30)

    async def repeat(self, scene: Scene, **more: Any) -> Scene:
        """Rerun from the beginning: the new execution is in the same namespace and scene."""
        start = operation_pb2.RERUN_FROM_BEGINNING
        answer = await self.rerun(scene.id, start_from=start, **more)
        return Scene(scene.broken, scene.held, scene.namespace, answer.execution.id, scene.language, scene.waiting)

    async def refuses(self, call: Any, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION) -> Failure:
        """Return the error of a call, which must be refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        failure = read_failure(caught.value)
        assert failure.code is code, str(failure)
        return failure

    @asynccontextmanager
    async def unchanged(self, scene: Scene) -> AsyncIterator[None]:
        """Check that the calls within change nothing: no revision, no row, no further execution."""
        before = await self._all(scene)
        yield
        assert await self._all(scene) == before

    async def _all(self, scene: Scene) -> object:
        request = messages.ListExecutionsRequest(filter=f"namespace={scene.namespace}", full=True)
        executions = list((await self.system.executions.ListExecutions(request)).executions)
        parts = [(await self.system.tasks(each.id), await self.system.attempts(each.id)) for each in executions]
        return executions, parts


def _succeeded(run: executor_service_pb2.RunAction) -> executor_service_pb2.TaskDone:
    given = json.loads(run.input)
    return done(run, result=json.dumps(given.get("give")))


@asynccontextmanager
async def open_stage(system: System) -> AsyncIterator[Stage]:
    """Connect the executor and store the workflows."""
    stage = Stage(system)
    async with stage.executor:
        await until(lambda: stage.executor.welcomes)
        await system.define(MISTRAL)
        for name, text in ORQUESTA.items():
            await system.define(f"version: 1.0\nname: orquesta_{name}\n{text}")
        yield stage
