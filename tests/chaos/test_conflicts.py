"""A hundred clients ask for contradicting things of one execution at once, for 40 seconds.

They go on until each operation was done once: what is possible at a moment is chance, and a busy machine does less.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.processes import CALL_S, System, state_of

from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import change_pb2, execution_pb2, execution_service_pb2, operation_pb2
from dalsegno.workflow.states import COMPLETED_EXECUTION, EXECUTION_MOVES, ExecutionState

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(300),
]

CLIENTS = 100
LASTS_S = float(os.environ.get("DALSEGNO_CONFLICTS_S", "40"))
LONGEST_S = LASTS_S + 120
"""How long they go on at most."""

MISTRAL = """
version: '2.0'
quarrel:
  tasks:
    begin: {action: std.noop, checkpoint: begun, on-success: [left, right, each, ask]}
    left: {action: std.echo output=1 delay=0.1, publish: {a: <% task().result %>}, revert: std.noop, on-success: [meet]}
    right: {action: std.fail, on-success: [meet]}
    each:
      with-items: n in [1, 2, 3]
      action: std.echo output=<% $.n %> delay=0.1
      concurrency: 2
      revert: std.echo output=<% $.n %> delay=0.1
      on-success: [meet]
    ask: {action: std.async_noop, on-success: [meet]}
    meet: {join: all, action: std.noop, checkpoint: {name: met, when: before}}
"""
ORQUESTA = """
version: 1.0
tasks:
  begin: {action: core.noop, checkpoint: begun, next: [{do: [left, right, each]}]}
  left: {action: std.sleep, input: {seconds: 0.1}, next: [{publish: [{a: 1}], do: meet}]}
  right: {action: std.fail, next: [{when: <% succeeded() %>, do: meet}]}
  each:
    with: {items: "n in <% [1, 2, 3] %>", concurrency: 2}
    action: core.echo message=<% item(n) %>
    revert: {action: std.sleep, input: {seconds: 0.1}, concurrency: 2}
    next: [{do: meet}]
  meet: {join: all, action: core.noop, checkpoint: {name: met, when: before}}
"""
TASKS = ("begin", "left", "right", "each", "meet")
OPERATIONS = {
    "pause": ("PauseExecution", "pause_requested"),
    "resume": ("ResumeExecution", "resume_requested"),
    "cancel": ("CancelExecution", "cancel_requested"),
    "rerun": ("RerunExecution", "rerun_requested"),
    "go_to": ("GoToCheckpoint", "go_to_requested"),
    "context": ("UpdateContext", "context_updated"),
}
STAYS = {
    "pause": {"PAUSING", "PAUSED"},
    "cancel": {"CANCELLING"},
    "resume": {"RUNNING"},
    "go_to": {"PAUSED", "RUNNING"},
}
"""What may be answered without a change, and where the execution then stands: a go-to when it stands there already, or
is on its way with the same order."""


@dataclass
class Asked:
    """One request and what was answered."""

    operation: str
    comment: str
    is_dry: bool
    from_revision: int
    """The execution was at this revision at least when the request was sent."""
    code: str = ""
    state: str = ""
    revision: int = 0
    """With an answer: where the execution stood; with a refusal: it was there, or not so far, when it was refused."""
    told: list[str] = field(default_factory=list)


class Quarrel:
    """The clients, and what they know."""

    def __init__(self, system: System, execution_id: str) -> None:
        self.system = system
        self.execution_id = execution_id
        self.known_revision = 1
        self.asked: list[Asked] = []

    async def client(self, number: int, began_s: float) -> None:
        """Ask for one thing after another."""
        chance = random.Random(number)
        while (lasts_s := time.monotonic() - began_s) < LASTS_S or (lasts_s < LONGEST_S and not self.did_all()):
            await self.ask(chance, f"{number}-{len(self.asked)}")
            await asyncio.sleep(chance.uniform(0.1, 0.9))

    def did_all(self) -> bool:
        """Return whether each operation was answered OK."""
        return {asked.operation for asked in self.asked if asked.code == "OK"} == set(OPERATIONS)

    async def ask(self, chance: random.Random, comment: str) -> None:
        """One request, made up by chance."""
        operation = chance.choice(list(OPERATIONS))
        asked = Asked(operation, comment, chance.random() < 0.1, self.known_revision)
        request = self._request(operation, chance)
        request.execution_id, request.comment, request.request_id = (
            self.execution_id,
            comment,
            f"{self.execution_id}-{comment}",
        )
        request.dry_run = asked.is_dry
        if chance.random() < 0.1:
            request.expected_revision = self.known_revision
        call = getattr(self.system.executions, OPERATIONS[operation][0])
        calls = [call(request, timeout=CALL_S) for _ in range(chance.choice((1, 1, 2)))]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        # Of two with one request id the one may be refused and the other one, a moment later, may not.
        well = [answer for answer in answers if not isinstance(answer, BaseException)]
        if well:
            same = asked.is_dry or all(answer == well[0] for answer in well)
            assert same, f"the same request id, another answer: {request} {well}"
            asked.code, asked.state = "OK", state_of(well[0].execution)
            asked.revision = well[0].execution.revision
        else:
            assert isinstance(answers[0], grpc.aio.AioRpcError), answers[0]
            failure = read_failure(answers[0])
            asked.code, asked.told = failure.code.name, [str(violation) for violation in failure.violations]
            asked.revision = (await self.system.get(self.execution_id)).revision
        self.known_revision = max(self.known_revision, asked.revision)
        self.asked.append(asked)

    def _request(self, operation: str, chance: random.Random) -> Any:
        messages = execution_service_pb2
        if operation == "pause":
            return messages.PauseExecutionRequest()
        if operation == "cancel":
            if chance.random() < 0.5:
                return messages.CancelExecutionRequest()
            return messages.CancelExecutionRequest(
                terminate=operation_pb2.Terminate(
                    state=chance.choice((execution_pb2.EXECUTION_STATE_ERROR, execution_pb2.EXECUTION_STATE_CANCELLED))
                )
            )
        if operation == "resume":
            names = chance.sample(TASKS, chance.choice((0, 0, 1, 2)))
            return messages.ResumeExecutionRequest(tasks=[self._choice(name, chance) for name in names])
        if operation == "go_to":
            then = chance.choice((messages.ON_ARRIVAL_STAY, messages.ON_ARRIVAL_RESUME))
            name = chance.choice(("begun", "met"))
            return messages.GoToCheckpointRequest(name=name, next=chance.random() < 0.5, then=then)
        if operation == "context":
            return messages.UpdateContextRequest(set=json.dumps({"x": chance.random()}))
        if chance.random() < 0.5:
            return messages.RerunExecutionRequest(start_from=operation_pb2.RERUN_FROM_FAILED)
        names = chance.sample(TASKS, chance.choice((1, 2, 3)))
        tasks = [operation_pb2.RerunTask(task=name, reset=chance.random() < 0.5) for name in names]
        return messages.RerunExecutionRequest(start_from=operation_pb2.RERUN_FROM_TASKS, tasks=tasks)

    def _choice(self, name: str, chance: random.Random) -> operation_pb2.ResumeTask:
        if chance.random() < 0.4:
            return operation_pb2.ResumeTask(task=name, skip=True, output=json.dumps({"skipped": name}))
        return operation_pb2.ResumeTask(task=name)


Timeline = list[tuple[int, str]]
"""States, and the changes that led to them."""


def timelines(journal: list[change_pb2.Change]) -> dict[str, Timeline]:
    """Where the execution stood and when, and each task by its name: `task begin`."""
    found: dict[str, Timeline] = {}
    for change in journal:
        kind = change.WhichOneof("kind")
        if kind == "execution_moved":
            state = execution_pb2.ExecutionState.Name(change.execution_moved.state)
            found.setdefault("execution", []).append((change.sequence, state.removeprefix("EXECUTION_STATE_")))
        elif kind in ("task_added", "task_moved"):
            told = getattr(change, kind)
            state = execution_pb2.TaskState.Name(told.state).removeprefix("TASK_STATE_")
            found.setdefault(f"task {told.task_name}", []).append((change.sequence, state))
    return found


def unexplained(asked: Asked, journal: list[change_pb2.Change], stood: dict[str, Timeline]) -> str:
    """Why this answer does not follow from the journal; empty when it does."""
    own = [change for change in journal if change.comment == asked.comment]
    if asked.code == "OK" and not asked.is_dry:
        if not own:
            # What an answer shows is read when its batch ends: others may have moved the execution on by then.
            states = _between(stood["execution"], asked)
            return "" if states & STAYS.get(asked.operation, set()) else f"OK in {states} without a change"
        causes = {change.cause for change in own}
        return "" if causes == {OPERATIONS[asked.operation][1]} else f"caused by {causes}"
    if own:
        return f"{asked.code} (dry run: {asked.is_dry}) changed something: {own[0]}"
    if asked.code in ("OK", "ABORTED"):
        return ""
    if asked.code not in ("FAILED_PRECONDITION", "INVALID_ARGUMENT") or not asked.told:
        return f"refused with {asked.code} and {asked.told}"
    return "; ".join(filter(None, (_unfounded(asked, told, stood) for told in asked.told)))


def _between(timeline: Timeline, asked: Asked) -> set[str]:
    """The states between what was asked and what was answered."""
    before = [state for at, state in timeline if at <= asked.from_revision]
    return {*before[-1:], *(state for at, state in timeline if asked.from_revision < at <= asked.revision)}


def _unfounded(asked: Asked, told: str, stood: dict[str, Timeline]) -> str:
    """Why one obstacle was none; empty when the thing that it names was in the state that it names."""
    claim = re.match(r"(execution|task [a-z]+)\b.*\bit is ([A-Z_]+)", told)
    if claim is None:
        return ""
    states = _between(stood[claim[1]], asked)
    states |= {state for at, state in stood[claim[1]] if at <= asked.from_revision}
    return "" if claim[2] in states else f"told {told!r}, but it was {states}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Real services."""
    async with System(tmp_path_factory.mktemp("quarrel")) as running:
        await running.define(MISTRAL)
        await running.define(ORQUESTA, name="demo.quarrel")
        yield running


async def test_a_hundred_clients_quarrel_over_an_execution(system: System) -> None:
    """Every answer is explainable from the journal, every move is legal, and the execution comes to a legal end.

    What was answered OK stands in the journal once, by its comment; what was refused or only tried out left no trace,
    and the state that a refusal names is one that the execution was in meanwhile. (Issue of the operations, 5.)
    """
    quarrels = [Quarrel(system, await system.begin(name)) for name in ("quarrel", "demo.quarrel")]
    began_s = time.monotonic()
    clients = [quarrels[number % 2].client(number, began_s) for number in range(CLIENTS)]
    await asyncio.gather(*clients)
    for quarrel in quarrels:
        await _come_to_an_end(system, quarrel.execution_id)
        journal = await system.journal(quarrel.execution_id)
        assert [change.sequence for change in journal] == list(range(1, len(journal) + 1))
        stood = timelines(journal)
        for (_, old), (_, new) in itertools.pairwise(stood["execution"]):
            assert old == new or ExecutionState(new) in EXECUTION_MOVES[ExecutionState(old)]
        reasons = [f"{asked}: {reason}" for asked in quarrel.asked if (reason := unexplained(asked, journal, stood))]
        assert not reasons, "\n".join(reasons[:10])
        codes = Counter((asked.operation, asked.code) for asked in quarrel.asked)
        assert quarrel.did_all(), codes
        assert any(code == "FAILED_PRECONDITION" for _, code in codes)
    assert system.findings() == []


async def _come_to_an_end(system: System, execution_id: str) -> None:
    """Terminate it if it has not ended, and wait until nobody works on it."""
    request = execution_service_pb2.CancelExecutionRequest(
        execution_id=execution_id,
        terminate=operation_pb2.Terminate(state=execution_pb2.EXECUTION_STATE_CANCELLED),
    )
    with contextlib.suppress(grpc.aio.AioRpcError):  # it has ended already
        await system.executions.CancelExecution(request, timeout=CALL_S)
    execution = await system.wait(execution_id)
    assert ExecutionState(state_of(execution)) in COMPLETED_EXECUTION
    assert execution.active_count == 0
