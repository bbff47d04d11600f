"""Orquesta's recorded operations, a sample, step by step through the real services over the public contract."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.conformance import cases
from tests.conformance.orquesta import OUTCOMES
from tests.conformance.orquesta_services import LOOK_S, Chosen, Player, Tree, define, view_of
from tests.conformance.orquesta_snapshots import Snapshots, result_by_rule, shown
from tests.conformance.run import listed
from tests.integration.engines import ScriptedExecutor, until
from tests.processes import CALL_S, System, state_of

from dalsegno.v1 import action_service_pb2, execution_pb2, execution_service_pb2, executor_service_pb2, operation_pb2

CASES_MIN = 100
CASES_MAX = 140
AT_ONCE = 8
SETTLED_S = 15.0
"""How long a step may take until what was recorded stands there: long, for the machine may be busy."""

COMPLETIONS = {
    "succeeded": action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
    "failed": action_service_pb2.COMPLETION_OUTCOME_FAILED,
    "cancelled": action_service_pb2.COMPLETION_OUTCOME_CANCELLED,
}
REFUSED = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


def sample() -> list[dict[str, Any]]:
    """All scenarios, and as many of the others, evenly: many of those differ in the order of items only."""
    known = listed("orquesta")
    found = [case for case in cases.load("orquesta/operations.jsonl") if case["id"] not in known]
    scenarios = [case for case in found if case["id"].startswith("scenario:")]
    others = [case for case in found if not case["id"].startswith("scenario:")]
    every = max(1.0, len(others) / (CASES_MAX - len(scenarios)))
    return scenarios + [others[int(place * every)] for place in range(int(len(others) / every))]


class Replay:
    """One case while it is being replayed."""

    def __init__(self, player: Player, namespace: str, case: dict[str, Any]) -> None:
        self.player = player
        self.system = player.system
        self.namespace = namespace
        self.case = case
        self.tree = Tree(player.system, "")

    async def differences(self) -> list[str]:
        """What came otherwise after some step; the steps after it are not looked at."""
        snapshots = Snapshots(self.case)
        name = await define(self.system, self.namespace, self.case)
        for number, step in enumerate(self.case["steps"]):
            if number == 0:
                self.tree.root_id = await self.system.begin(name, self.case["input"], namespace=self.namespace)
            else:
                told = await self._refusal(step, snapshots.is_refused(number))
                if told:
                    return told
            snapshots.note(number)
            told = await self._settle(snapshots, number)
            if told:
                return told
        return []

    async def _settle(self, snapshots: Snapshots, number: int) -> list[str]:
        """Wait until what was recorded stands there; else how what stands there differs."""
        ends_s = time.monotonic() + SETTLED_S
        while True:
            told = snapshots.differences(number, await self._views())
            if not told or time.monotonic() > ends_s:
                return told
            await asyncio.sleep(LOOK_S)

    async def _views(self) -> dict[str, Any]:
        await self.tree.look()
        newest = sorted(self.tree.executions.values(), key=lambda each: each.created_at.ToNanoseconds())
        return {self.tree.path(each.id): await view_of(self.system, each) for each in newest}

    async def _refusal(self, step: dict[str, Any], is_expected: bool) -> list[str]:
        """Do the step; what is wrong with whether it was refused."""
        before = (await self.system.get(self.tree.root_id)).revision
        try:
            await self._do(step)
        except grpc.aio.AioRpcError as error:
            if error.code() not in REFUSED:
                raise
            told = [] if is_expected else [f"{shown(step)} was refused: {error.details()}"]
            after = (await self.system.get(self.tree.root_id)).revision
            return told + ([f"{shown(step)}: the refusal has changed something"] if after != before else [])
        return [f"{shown(step)} was expected to be refused"] if is_expected else []

    async def _do(self, step: dict[str, Any]) -> None:
        if step["op"] == "run":
            await self.player.play(self.namespace, self.tree.root_id, self._by_rule)
        elif step["op"] in ("complete", "update", "respond"):
            await self._report(step)
        else:
            await self._ask(step, await self._at(step.get("path") or ""))

    def _by_rule(self, held: list[executor_service_pb2.RunAction], tree: Tree) -> Chosen | None:
        return (0, *result_by_rule(self.case, held[0].action, json.loads(held[0].input)))

    async def _ask(self, step: dict[str, Any], execution_id: str) -> None:
        executions, service = self.system.executions, execution_service_pb2
        if step["op"] == "pause":
            pause = service.PauseExecutionRequest(execution_id=execution_id)
            await executions.PauseExecution(pause, timeout=CALL_S)
        elif step["op"] == "resume":
            resume = service.ResumeExecutionRequest(execution_id=execution_id)
            await executions.ResumeExecution(resume, timeout=CALL_S)
        elif step["op"] == "cancel":
            await self.system.cancel(execution_id)
        else:
            assert step["op"] == "rerun", step
            named = step.get("tasks") or ()
            tasks = [operation_pb2.RerunTask(task=one["name"], reset=one.get("reset", False)) for one in named]
            start_from = operation_pb2.RERUN_FROM_TASKS if tasks else operation_pb2.RERUN_FROM_FAILED
            rerun = service.RerunExecutionRequest(execution_id=execution_id, start_from=start_from, tasks=tasks)
            await executions.RerunExecution(rerun, timeout=CALL_S)

    async def _at(self, path: str) -> str:
        """The execution that a path leads to: the newest child of each task."""
        await self.tree.look()
        newest = sorted(self.tree.executions.values(), key=lambda each: each.created_at.ToNanoseconds())
        return {self.tree.path(each.id): each.id for each in newest}[path]

    async def _report(self, step: dict[str, Any]) -> None:
        """What an action tells: its end by whoever has it, that it is paused or runs again by its id."""
        status = step.get("status", "succeeded")
        outcome = OUTCOMES.get(status, "running")
        attempt = await self._attempt(step)
        held = self.player.held[self.namespace]
        run = next((run for run in held if run.action_execution_id == attempt.id), None)
        if outcome in ("paused", "running"):
            state = "PAUSED" if outcome == "paused" else "RUNNING"
            update = action_service_pb2.UpdateActionRequest(
                action_execution_id=attempt.id, state=execution_pb2.ActionState.Value(f"ACTION_STATE_{state}")
            )
            await self.system.actions.UpdateAction(update, timeout=CALL_S)
        elif run is not None:
            held.remove(run)
            await self.player.end(run, status, step.get("result"))
        else:
            result = step["response"] if step["op"] == "respond" else step.get("result")
            complete = action_service_pb2.CompleteActionRequest(
                action_execution_id=attempt.id, outcome=COMPLETIONS[outcome], result=json.dumps(result)
            )
            await self.system.actions.CompleteAction(complete, timeout=CALL_S)

    async def _attempt(self, step: dict[str, Any]) -> execution_pb2.ActionExecution:
        """The action that a step is about, once it is with the executor or a third party."""
        execution_id = await self._at(step.get("path") or "")
        ends_s = time.monotonic() + SETTLED_S
        while time.monotonic() < ends_s:
            await self.tree.look()
            for attempt in reversed(await self.system.attempts(execution_id)):
                task = self.tree.tasks[execution_id, attempt.task_number]
                is_task = task.name == step["task"] and step.get("route") in (None, task.route)
                is_item = step.get("item") in (None, attempt.item)
                if is_task and is_item and state_of(attempt) in ("RUNNING", "PAUSED"):
                    return attempt
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{shown(step)}: no such action is running")


@pytest.mark.xdist_group("orquesta services")
@pytest.mark.timeout(300)
async def test_orquesta_operations_through_the_services(tmp_path: Path) -> None:
    """Pauses, resumes, cancels and reruns leave what was recorded after every step (O1-O36); journals give the rows."""
    chosen = {f"case-{number}": case for number, case in enumerate(sample())}
    if not chosen:
        pytest.skip("no conformance cases here")
    told: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def run(player: Player, namespace: str, case: dict[str, Any]) -> None:
        async with turn:
            player.held.setdefault(namespace, [])
            try:
                found = await Replay(player, namespace, case).differences()
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            told.extend(f"{case['id']}: {each}" for each in found)

    async with System(tmp_path, with_executor=False) as system:
        player = Player(system)
        actions = tuple((name, True) for name in ("std.noop", "core.noop", "core.echo", "core.local", "core.ask"))
        async with ScriptedExecutor(system.engine.address, player, actions=actions, slots=1000) as executor:
            player.executor = executor
            await until(lambda: executor.welcomes)
            await asyncio.gather(*(run(player, namespace, case) for namespace, case in chosen.items()))
            assert not executor.errors
        assert system.findings() == []
    assert not told, "\n".join(told)
    assert len(chosen) >= CASES_MIN
