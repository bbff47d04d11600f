"""Clients that ask until they have an answer: by gRPC of either api, or over HTTP through the gateway."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import aiohttp
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tests.chaos.cluster import Cluster
from tests.chaos.ledger import Ledger

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import action_service_pb2_grpc, execution_service_pb2_grpc, workflow_service_pb2_grpc

CALL_S = 5.0
PAUSE_S = 0.2

AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Nobody knows whether the request was carried out: it is sent again, with the same id."""


class Refused(Exception):
    """The final answer is a refusal. `code` is its name."""

    def __init__(self, code: str, told: str) -> None:
        super().__init__(f"{code}: {told}")
        self.code = code
        self.told = told


class Clients:
    """Use it with `async with`."""

    def __init__(self, cluster: Cluster, ledger: Ledger, chance: random.Random) -> None:
        self.ledger = ledger
        self.trouble: Counter[str] = Counter()
        """The answers after which a request was sent again."""
        self._chance = chance
        self._gateway = f"http://{cluster.gateway.address}"
        self._apis = [each.address for each in cluster.apis]
        self._channels: list[grpc.aio.Channel] = []
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Clients:
        self._channels = [open_channel(each) for each in self._apis]
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._http is not None
        await self._http.close()
        for channel in self._channels:
            await channel.close()

    async def write(self, kind: str, method: str, request: Any, over_http: bool = False, **more: object) -> None:
        """Ask for a change until the answer is final, and note both. Raises Refused."""
        attempt_id = getattr(request, "action_execution_id", "")
        about = attempt_id or getattr(request, "execution_id", "")
        self.ledger.asked(request.request_id, kind, about, **more)
        try:
            await (self._post(method, request) if over_http else self.call(method, request))
        except Refused as refusal:
            self.ledger.answered(request.request_id, kind, refusal.code, refusal.told)
            raise
        self.ledger.answered(request.request_id, kind, "OK")

    async def call(self, method: str, request: Message, timeout_s: float = CALL_S) -> Any:
        """Call a method of either api until the answer is final. Raises Refused."""
        while True:
            channel = self._chance.choice(self._channels)
            stub = _stub(method, channel)
            try:
                return await getattr(stub, method)(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    raise Refused(error.code().name, error.details() or "") from None
                self.trouble[error.code().name] += 1
            await asyncio.sleep(PAUSE_S)

    async def _post(self, method: str, request: Message) -> None:
        """The same through the gateway."""
        url = f"{self._gateway}/dalsegno.v1.ExecutionService/{method}"
        while True:
            status, text = await self.post(url, MessageToDict(request))
            if status == 200:
                return
            if 400 <= status < 500 and status not in (408, 429):
                raise Refused(json.loads(text)["code"].upper(), text)
            self.trouble[f"HTTP {status}"] += 1
            await asyncio.sleep(PAUSE_S)

    async def post(self, url: str, body: object) -> tuple[int, str]:
        """POST JSON once: status and body. A connection that breaks, or no answer in time, is 503."""
        assert self._http is not None
        try:
            async with self._http.post(url, json=body) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 503, str(error)


def _stub(method: str, channel: grpc.aio.Channel) -> Any:
    if method == "CreateDefinitions":
        return workflow_service_pb2_grpc.WorkflowServiceStub(channel)
    if method in ("CompleteAction", "ListActions"):
        return action_service_pb2_grpc.ActionServiceStub(channel)
    return execution_service_pb2_grpc.ExecutionServiceStub(channel)
