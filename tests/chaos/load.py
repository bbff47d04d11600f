"""The load: executions of both languages, each with a life of its own: paused, stopped at checkpoints, run again,
sent back, ended by force, or left alone."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from enum import StrEnum
from typing import Any

from tests.chaos.clients import PAUSE_S, Clients, Refused
from tests.chaos.workflows import DOCUMENTS, MISTRAL, ORQUESTA, expected_total

from dalsegno.v1 import (
    action_service_pb2,
    execution_pb2,
    execution_service_pb2,
    operation_pb2,
    workflow_service_pb2,
)

WAIT_S = 6


class Life(StrEnum):
    """What people do with an execution."""

    ALONE = "alone"
    PAUSED = "paused"
    STOPPED = "stopped"
    """It stops at one checkpoint, is sent to another one, and goes on from there."""
    RERUN = "rerun"
    SENT_BACK = "sent back"
    """When it has ended, it is sent back to a checkpoint, and goes on from there."""
    CANCELLED = "cancelled"


CHANCES = {Life.ALONE: 8, Life.PAUSED: 4, Life.STOPPED: 2, Life.RERUN: 2, Life.SENT_BACK: 2, Life.CANCELLED: 1}


class Load:
    """Keeps so many executions going."""

    def __init__(self, clients: Clients, seed: str, at_once: int) -> None:
        self._clients = clients
        self._seed = seed
        self._at_once = at_once
        self._ends = asyncio.Event()
        self.begun = 0
        self.ended = 0
        self.lives: Counter[str] = Counter()
        self.waits_for: dict[int, str] = {}
        """The executions that are not at rest, by their numbers, with what is waited for."""

    async def define(self) -> None:
        """Store the workflows, when executors have said what they serve."""
        known = action_service_pb2.ListActionsRequest(filter="name=chaos.*")
        while True:
            if (await self._clients.call("ListActions", known)).actions:
                break
            await asyncio.sleep(PAUSE_S)
        for name, text in DOCUMENTS.items():
            request = workflow_service_pb2.CreateDefinitionsRequest(text=text, name=name)
            await self._clients.call("CreateDefinitions", request)

    async def run(self) -> None:
        """Begin executions until `end` is called, and return when the last one is at rest."""
        async with asyncio.TaskGroup() as group:
            for first in range(self._at_once):
                group.create_task(self._line(first))

    def end(self) -> None:
        """Begin nothing more."""
        self._ends.set()

    async def _line(self, first: int) -> None:
        """One execution after the other. Their numbers, and so all that chance decides, belong to this line."""
        number = first
        while not self._ends.is_set():
            await self._live(number)
            self.ended += 1
            number += self._at_once

    async def _live(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/execution/{number}")
        life = chance.choices(list(CHANCES), list(CHANCES.values()))[0]
        one = One(self._clients, number, chance)
        self.begun += 1
        self.lives[life] += 1
        self.waits_for[number] = f"{life} {one.id}"
        await one.start(["begun"] if life is Life.STOPPED else [])
        match life:
            case Life.PAUSED:
                await one.pause_and_resume()
            case Life.STOPPED:
                await one.stop_and_go_on()
            case Life.CANCELLED:
                await one.cancel()
        await one.end()
        match life:
            case Life.RERUN:
                await one.rerun()
            case Life.SENT_BACK:
                await one.send_back()
        del self.waits_for[number]


class One:
    """One execution."""

    def __init__(self, clients: Clients, number: int, chance: random.Random) -> None:
        self._clients = clients
        self._chance = chance
        self._number = number
        self.id = str(uuid.UUID(int=chance.getrandbits(128), version=4))

    async def start(self, stop_at: list[str]) -> None:
        """Start it, by gRPC or over HTTP."""
        deep = self._chance.random() < 0.3
        request = execution_service_pb2.StartExecutionRequest(
            workflow=self._chance.choice((MISTRAL, ORQUESTA)),
            input=json.dumps({"n": self._number, "deep": deep}),
            execution_id=self.id,
            stop_at=stop_at,
        )
        expected = {"total": expected_total(self._number, deep=deep)}
        over_http = self._chance.random() < 0.25
        await self._ask("start", "StartExecution", request, over_http=over_http, expected=expected)

    async def pause_and_resume(self) -> None:
        """Pause it at some time, and let it go on when it is paused."""
        await asyncio.sleep(self._chance.uniform(0, 2.0))
        if await self._ask("pause", "PauseExecution", execution_service_pb2.PauseExecutionRequest()):
            await self._stands()
            await self._ask("resume", "ResumeExecution", execution_service_pb2.ResumeExecutionRequest())

    async def stop_and_go_on(self) -> None:
        """Wait until it stands at its first checkpoint, send it to the second, and let it go on from there."""
        await self._stands("begun")
        await self._ask("go_to", "GoToCheckpoint", execution_service_pb2.GoToCheckpointRequest(name="met"))
        await self._stands("met")
        await self._ask("resume", "ResumeExecution", execution_service_pb2.ResumeExecutionRequest())

    async def cancel(self) -> None:
        """End it by force at some time."""
        await asyncio.sleep(self._chance.uniform(0, 2.0))
        end = operation_pb2.Terminate(state=execution_pb2.EXECUTION_STATE_CANCELLED)
        await self._ask("cancel", "CancelExecution", execution_service_pb2.CancelExecutionRequest(terminate=end))

    async def rerun(self) -> None:
        """Have two tasks, and what comes after them, done again."""
        tasks = [operation_pb2.RerunTask(task=each) for each in ("left", "ask")]
        request = execution_service_pb2.RerunExecutionRequest(start_from=operation_pb2.RERUN_FROM_TASKS, tasks=tasks)
        if await self._ask("rerun", "RerunExecution", request):
            await self.end()

    async def send_back(self) -> None:
        """Have all but its first task undone and done again."""
        request = execution_service_pb2.GoToCheckpointRequest(
            name="begun", then=execution_service_pb2.ON_ARRIVAL_RESUME
        )
        if await self._ask("go_to", "GoToCheckpoint", request):
            await self.end()

    async def end(self) -> None:
        """Return when it is at rest."""
        while not (await self._wait(through_pauses=True)).at_rest:
            pass

    async def _stands(self, checkpoint: str = "") -> None:
        """Return when it is at rest, or paused: at this checkpoint, if one is given, for a delegate pauses it too."""
        while True:
            answer = await self._wait()
            is_paused = answer.reason == execution_service_pb2.WAIT_REASON_PAUSED
            if answer.at_rest or (is_paused and checkpoint in ("", answer.execution.paused_at.name)):
                return
            await asyncio.sleep(PAUSE_S)

    async def _wait(self, **how: Any) -> Any:
        request = execution_service_pb2.WaitExecutionRequest(execution_id=self.id, **how)
        request.timeout.FromSeconds(WAIT_S)
        return await self._clients.call("WaitExecution", request, timeout_s=WAIT_S + 3)

    async def _ask(self, kind: str, method: str, request: Any, **more: Any) -> bool:
        """Ask until there is an answer; whether it is no refusal. The comment stands in the journal."""
        request.execution_id = self.id
        request.request_id = request.comment = f"{kind}-{uuid.UUID(int=self._chance.getrandbits(128), version=4)}"
        try:
            await self._clients.write(kind, method, request, **more)
        except Refused:
            return False
        return True
