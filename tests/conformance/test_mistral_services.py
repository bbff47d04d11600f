"""Mistral's recorded cases, the quick ones, through the real services: an executor of our own plays the results."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.conformance import cases
from tests.conformance.mistral import Script
from tests.conformance.run import listed
from tests.integration.engines import ScriptedExecutor, done, until
from tests.processes import CALL_S, System, state_of
from tests.world import HOLD, STANDARD

from dalsegno.v1 import environment_service_pb2, execution_pb2, execution_service_pb2, executor_service_pb2

CASES_MIN = 100
AT_ONCE = 12

SLOW = re.compile(r"wait-|delay|timeout|target:|std\.(sleep|http|mistral_http|async_noop|email|ssh|js|javascript)")
"""What takes longer than its steps, or needs the world outside or an executor of a certain name."""

REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

OUTCOMES = {
    "succeeded": executor_service_pb2.TASK_OUTCOME_SUCCEEDED,
    "failed": executor_service_pb2.TASK_OUTCOME_FAILED,
    "cancelled": executor_service_pb2.TASK_OUTCOME_CANCELLED,
    "delegated": executor_service_pb2.TASK_OUTCOME_DELEGATED,
}


def quick_cases() -> list[dict[str, Any]]:
    """All that agree and whose runs take no longer than their steps."""
    known = listed("mistral")
    return [
        case
        for case in cases.load("mistral/cases.jsonl")
        if case["kind"] != "validate" and case["id"] not in known and not case.get("namespace")
        if not SLOW.search(json.dumps([case["definition"], case.get("extra")]))
        if '"namespace":' not in json.dumps(case["expect"])  # here each case has one of its own
    ]


class Player:
    """What the executor answers: by the case whose namespace an action runs in."""

    def __init__(self, chosen: dict[str, dict[str, Any]]) -> None:
        self._scripts = {namespace: Script(case.get("action_results")) for namespace, case in chosen.items()}

    def __call__(self, run: executor_service_pb2.RunAction) -> executor_service_pb2.TaskDone | None:
        """The outcome of one action, as the core alone would be given it in tests/conformance/mistral.py."""
        where = run.context
        execution: Any = SimpleNamespace(
            created=SimpleNamespace(workflow=where.workflow),
            tasks={where.task_number: SimpleNamespace(name=where.task_name)},
        )
        attempt: Any = SimpleNamespace(
            key=(where.task_number, where.item, where.attempt),
            action=run.action,
            input=SimpleNamespace(data=json.loads(run.input)),
        )
        played = self._scripts[where.namespace](execution, attempt)
        if played is HOLD:
            return None
        return done(run, OUTCOMES[played.outcome], result=json.dumps(played.result), error=played.error)


async def differences(system: System, namespace: str, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    expect = case["expect"]
    for name, variables in (case.get("environments") or {}).items():
        put = environment_service_pb2.PutEnvironmentRequest(
            namespace=namespace, name=name, variables=json.dumps(variables)
        )
        await system.environments.PutEnvironment(put, timeout=CALL_S)
    try:
        stage = "definition"
        for text in (*(extra["definition"] for extra in case.get("extra") or ()), case["definition"]):
            await system.define(text, namespace)
        stage = "start"
        execution_id = await system.begin(
            case["workflow"], case["input"], params=json.dumps(case["params"]), namespace=namespace
        )
    except grpc.aio.AioRpcError as error:
        if error.code() in REFUSED and expect.get("rejected_at") == stage:
            return []
        return [f"{stage} refused: {error.details()}"]
    if "rejected_at" in expect:
        return [f"expected to be refused at {expect['rejected_at']}"]
    return await compare(system, await system.wait(execution_id, timeout_s=30), expect)


async def compare(system: System, execution: execution_pb2.Execution, expect: dict[str, Any]) -> list[str]:
    """State, output and tasks, and the same for sub-workflows."""
    told = []
    if state_of(execution) != expect["state"]:
        told.append(f"expected state {expect['state']}, came {state_of(execution)}: {execution.state_info}")
    wanted, output = expect.get("output") or {}, json.loads(execution.output or "{}")
    if state_of(execution) == "ERROR":
        wanted, output = ({key: v for key, v in each.items() if key != "result"} for each in (wanted, output))
    if execution.HasField("ended_at") and not cases.agrees(wanted, output):
        told.append(f"expected output {wanted}, came {output}")
    tasks = await system.tasks(execution.id)
    attempts = [each for each in await system.attempts(execution.id) if each.accepted and each.action in STANDARD]
    records = [
        {
            "name": task.name,
            "state": state_of(task),
            "published": json.loads(task.published or "{}"),
            "accepted": [state_of(each) for each in attempts if each.task_number == task.number],
        }
        for task in tasks
    ]
    told += cases.task_differences(expect.get("tasks", []), records)
    names = {task.number: task.name for task in tasks}
    listing = execution_service_pb2.ListExecutionsRequest(filter=f"parent={execution.id}", full=True)
    children = list((await system.executions.ListExecutions(listing, timeout=CALL_S)).executions)
    for task in expect.get("tasks", []):
        for child in task.get("subworkflows") or ():
            told += await child_differences(
                system, [each for each in children if names[each.parent_task_number] == task["name"]], child
            )
    return told


async def child_differences(
    system: System, children: list[execution_pb2.Execution], expect: dict[str, Any]
) -> list[str]:
    """Nothing when one of the children is as expected."""
    told = ["is missing"]
    for child in children:
        told = await compare(system, child, expect)
        if not told:
            return []
    return [f"sub-workflow: {each}" for each in told]


@pytest.mark.xdist_group("mistral services")
async def test_mistral_cases_through_the_services(tmp_path: Path) -> None:
    """Mistral's recorded cases end over gRPC as they did there, and every journal gives its rows."""
    chosen = {f"case-{number}": case for number, case in enumerate(quick_cases())}
    if not chosen:
        pytest.skip("no conformance cases here")
    told: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def run(system: System, namespace: str, case: dict[str, Any]) -> None:
        async with turn:
            found = await differences(system, namespace, case)
            told.extend(f"{case['id']}: {each}" for each in found)

    async with System(tmp_path, with_executor=False) as system:
        actions = tuple((name, action.safe_to_rerun) for name, action in STANDARD.items())
        async with ScriptedExecutor(system.engine.address, Player(chosen), actions=actions) as executor:
            await until(lambda: executor.welcomes)
            await asyncio.gather(*(run(system, namespace, case) for namespace, case in chosen.items()))
            assert not executor.errors
        assert system.findings() == []
    assert not told, "\n".join(told)
    assert len(chosen) >= CASES_MIN
