"""The workload W10: how long a two-task execution takes beside something that is large, slow or hostile."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from tests.benchmarks.results import Result, percentiles_ms
from tests.benchmarks.services import Client, Services, resident_mb
from tests.benchmarks.texts import Language
from tests.canary import NAME, TEXT, Canary, singing
from tests.integration.hostile_texts import DATA, EXPRESSIONS, workflows

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2_grpc

ALONE_S = 10.0
ITEMS = 100_000
FLOOD_S = 20.0
FLOOD_RESULT = json.dumps("x" * 900_000)
VALIDATIONS = 10
VALIDATED_TASKS = 6_000
AT_ONCE = 40

WIDE = """
version: '2.0'
wide:
  input: [count]
  tasks:
    each:
      with-items: i in <% range(0, $.count) %>
      action: std.noop
"""

Disturb = Callable[[Services, Client], Awaitable[None]]


async def measure_disturbances(services: Services, client: Client, language: Language) -> AsyncIterator[Result]:
    """W10: the canary alone, beside many items, a flood of results, large validations and hostile expressions."""
    if language.suffix:
        return  # what disturbs is the same in both languages
    await client.define(TEXT)
    await client.define(WIDE)
    await client.define(workflows(EXPRESSIONS))
    for name, disturb in DISTURBANCES.items():
        canary: Canary
        async with singing(lambda: client.run(NAME)) as canary:
            await disturb(services, client)
        p50_ms, p99_ms = percentiles_ms(canary.times_s)
        worst_s, memory_mb = max(canary.times_s), resident_mb(services.pids)
        yield Result(f"W10 canary {name}", len(canary.times_s), worst_s, p50_ms=p50_ms, p99_ms=p99_ms, rss_mb=memory_mb)


async def _alone(services: Services, client: Client) -> None:
    await asyncio.sleep(ALONE_S)


async def _items(services: Services, client: Client) -> None:
    await client.run("wide", {"count": ITEMS})


async def _flood(services: Services, client: Client) -> None:
    """An executor tells results of actions that nobody has, as fast as it is read."""
    hello = wire.Hello(executor_id="flood", session_id=str(uuid.uuid4()), slots=1, credit=0)

    async def messages() -> AsyncIterator[wire.ConnectRequest]:
        yield wire.ConnectRequest(hello=hello)
        while True:
            done = wire.TaskDone(
                action_execution_id=f"{uuid.uuid4()}.1.0.1",
                delivery=1,
                outcome=wire.TASK_OUTCOME_SUCCEEDED,
                result=FLOOD_RESULT,
            )
            yield wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[done]))

    async with open_channel(services.engine_address) as channel:
        call = executor_service_pb2_grpc.ExecutorServiceStub(channel).Connect(messages())

        async def read() -> None:
            async for _ in call:
                pass

        reading = asyncio.create_task(read())
        await asyncio.wait([reading], timeout=FLOOD_S)
        call.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _validations(services: Services, client: Client) -> None:
    tasks = {f"t{number}": {"action": "core.noop input=<% ctx(x) %>"} for number in range(VALIDATED_TASKS)}
    text = json.dumps({"version": 1.0, "input": ["x"], "tasks": tasks})
    await asyncio.gather(*(_validate(client, text) for _ in range(VALIDATIONS)))


async def _validate(client: Client, text: str) -> None:
    try:
        await client.validate(text)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # at most so many are made at once
            raise


async def _hostile(services: Services, client: Client) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def run(number: int) -> None:
        async with room:
            await client.rest(await client.start(f"h{number}", {"data": DATA}))

    await asyncio.gather(*(run(number) for number in range(len(EXPRESSIONS))))


DISTURBANCES: dict[str, Disturb] = {
    "alone": _alone,
    "beside items": _items,
    "beside a flood": _flood,
    "beside validations": _validations,
    "beside hostile": _hostile,
}
