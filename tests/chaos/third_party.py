"""Whoever completes delegates: reads in the actions' own log how, and asks until the answer is final."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.chaos.clients import PAUSE_S, Clients, Refused

from dalsegno.v1 import action_service_pb2

UNKNOWN_S = 20.0
"""How long an alias may be unknown: until the report of the executor is there, or its loss is."""


class ThirdParty:
    """Follows the side logs of the executors."""

    def __init__(self, clients: Clients, logs: Iterable[Path], gateway: str, seed: str) -> None:
        self._clients = clients
        self._gateway = gateway
        self._seed = seed
        self._read = dict.fromkeys(logs, 0)
        self.lines = 0
        """How many lines there are so far."""

    async def follow(self) -> None:
        """Complete what is delegated, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for line in await asyncio.to_thread(self._new_lines):
                    group.create_task(self._complete(line))
                await asyncio.sleep(PAUSE_S)

    def _new_lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for log, at in self._read.items():
            if not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(at)
                whole, _, _ = file.read().rpartition(b"\n")
            self._read[log] = at + len(whole) + bool(whole)
            lines = whole.splitlines()
            self.lines += len(lines)
            found += (json.loads(line) for line in lines if b'"token"' in line and line.endswith(b"}"))
        return found

    async def _complete(self, line: dict[str, Any]) -> None:
        run = f"{line['attempt']}/{line['delivery']}"
        chance = random.Random(f"{self._seed}/{run}")
        await asyncio.sleep(chance.uniform(0, 1.0))
        way = chance.choice(("alias",) if line["alias"] else ("url", "token", "id"))
        request = f"complete-{run}-{way}"
        self._clients.ledger.asked(request, "complete", line["attempt"], value=line["value"], way=way)
        try:
            if way in ("url", "alias"):
                await self._by_webhook(line, way)
            else:
                await self._by_grpc(line, way, request)
        except Refused as refusal:
            self._clients.ledger.answered(request, "complete", refusal.code, refusal.told)
        else:
            self._clients.ledger.answered(request, "complete", "OK")

    async def _by_grpc(self, line: dict[str, Any], way: str, request: str) -> None:
        message = action_service_pb2.CompleteActionRequest(
            outcome=action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
            result=json.dumps(line["value"]),
            request_id=request,
        )
        if way == "token":
            message.task_token = line["token"]
        else:
            message.action_execution_id = line["attempt"]
        ends_s = time.monotonic() + UNKNOWN_S
        while True:
            try:
                await self._clients.call("CompleteAction", message)
                return
            except Refused as refusal:
                # By its id an action can be completed once the executor's report is there.
                if way != "id" or refusal.code != "FAILED_PRECONDITION" or time.monotonic() > ends_s:
                    raise
            await asyncio.sleep(PAUSE_S)

    async def _by_webhook(self, line: dict[str, Any], way: str) -> None:
        url = line["url"] if way == "url" else f"{self._gateway}/hooks/alias/{quote(line['alias'], safe='')}"
        ends_s = time.monotonic() + UNKNOWN_S
        while True:
            status, text = await self._clients.post(url, line["value"])
            if status == 200:
                return
            is_unknown = status == 404 and way == "alias" and time.monotonic() < ends_s
            if 400 <= status < 500 and status not in (408, 429) and not is_unknown:
                raise Refused(f"HTTP_{status}", text)
            self._clients.trouble[f"HTTP {status}"] += 1
            await asyncio.sleep(PAUSE_S)
