"""The example `order`: a workflow calls three gRPC services by grpc.call, and undoes what they did when one refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.processes import CALL_S, System, state_of

from dalsegno.cli.examples import read_example
from dalsegno.cli.order_services import serve_services
from dalsegno.v1 import action_service_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("order")]
both = pytest.mark.parametrize("workflow", ["order", "example.order"])

UNHANDLED = """
version: '2.0'
tries:
  input: [target, method]
  output: {code: <% $.code %>, reason: <% $.reason %>, sent: <% $.sent %>}
  tasks:
    call:
      action: grpc.call
      input:
        target: <% $.target %>
        method: <% $.method %>
        request: {order_id: one, crowns: 501}
      publish-on-error:
        code: <% task().result.code %>
        reason: <% task().result.details.select($.get(reason)).first(null) %>
        sent: <% task().result.sent %>
      on-error: [handled]
    handled: {action: std.noop}
"""


@dataclass
class Shop:
    """The services of Dal Segno with an executor that may call the three services of the example."""

    system: System
    targets: dict[str, str]
    """host:port of stock, payment and delivery."""

    async def order(self, workflow: str, **inputs: Any) -> execution_pb2.Execution:
        """Order, and wait for the end."""
        return await self.system.wait(await self.begin(workflow, **inputs))

    async def begin(self, workflow: str, stop_at: tuple[str, ...] = (), **inputs: Any) -> str:
        """Order, up to a checkpoint if there is one."""
        return await self.system.begin(workflow, {**self.targets, **inputs}, stop_at=stop_at)

    async def ask(self, target: str, method: str, **request: object) -> Any:
        """Return what a service answers, by a standalone grpc.call."""
        given = {"target": self.targets[target], "method": method, "request": request}
        asked = action_service_pb2.RunActionRequest(action="grpc.call", input=json.dumps(given))
        run = (await self.system.actions.RunAction(asked, timeout=CALL_S)).action_execution
        wait = action_service_pb2.WaitActionRequest(action_execution_id=run.id)
        ended = (await self.system.actions.WaitAction(wait, timeout=CALL_S)).action_execution
        assert state_of(ended) == "SUCCESS", ended.error
        return json.loads(ended.result)

    async def standing(self, city: str) -> tuple[int, int]:
        """Return the umbrellas that are left in a city, and the crowns that were paid."""
        left = await self.ask("stock", "example.stock.v1.Stock/Count", city=city)
        paid = await self.ask("payment", "example.payment.v1.Payment/Balance")
        return left["left"], paid["crowns"]

    async def reverted(self, execution_id: str) -> list[str]:
        """Return the tasks whose reverts have run, in order."""
        attempts = [each for each in await self.system.attempts(execution_id) if each.revert]
        return [each.task_name for each in sorted(attempts, key=lambda each: each.started_at.ToNanoseconds())]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """Provide all of it."""
    async with (
        serve_services(["127.0.0.1:0"] * 3) as targets,
        System(tmp_path_factory.mktemp("order"), executor=("--allow", "grpc.call=127.0.0.1:*")) as system,
    ):
        for name in ("order", "orquesta/order"):
            await system.define(read_example(name))
        await system.define(UNHANDLED)
        yield Shop(system, targets)
        assert system.findings() == []


@both
async def test_an_order_goes_through_three_services(shop: Shop, workflow: str) -> None:
    """Umbrellas are reserved, charged and delivered; what a service answers is the input of the next; a stream is a
    list."""
    left, paid = await shop.standing("Eastmarch")
    execution = await shop.order(workflow, city="Eastmarch")
    assert state_of(execution) == "SUCCESS", execution.state_info
    assert json.loads(execution.output)["said"].endswith("is at Eastmarch")
    assert await shop.standing("Eastmarch") == (left - 2, paid + 60)


@both
async def test_a_refusal_undoes_what_the_others_did(shop: Shop, workflow: str) -> None:
    """When nothing is delivered in a storm, the payment is given back and the umbrellas are released, in this order;
    the execution is REVERTED and says why."""
    before = await shop.standing("Greyhaven")
    execution = await shop.order(workflow, city="Greyhaven")
    assert state_of(execution) == "REVERTED"
    assert "FAILED_PRECONDITION: nothing is delivered to Greyhaven in a storm" in execution.state_info
    assert await shop.reverted(execution.id) == ["charge", "reserve"]
    assert await shop.standing("Greyhaven") == before
    declined = await shop.order(workflow, city="Moorgate", umbrellas=20)
    assert state_of(declined) == "REVERTED"
    assert "FAILED_PRECONDITION: the limit is 500 crowns" in declined.state_info
    assert await shop.reverted(declined.id) == ["reserve"]


@both
async def test_a_refusal_that_is_expected_is_handled(shop: Shop, workflow: str) -> None:
    """The reason in the details of the status decides where the workflow goes on."""
    execution = await shop.order(workflow, city="Kestrel Bay", umbrellas=9)
    assert state_of(execution) == "SUCCESS", execution.state_info
    assert json.loads(execution.output) == {"said": "too few umbrellas are left in Kestrel Bay"}


@both
async def test_an_operator_goes_back_to_a_checkpoint(shop: Shop, workflow: str) -> None:
    """Sent back to `reserved`, the payment alone is given back; resumed, the order is charged again and delivered."""
    left, paid = await shop.standing("Larkhill")
    execution_id = await shop.begin(workflow, city="Larkhill", stop_at=("charged",))
    assert (await shop.system.wait(execution_id)).paused_at.name == "charged"
    assert await shop.standing("Larkhill") == (left - 2, paid + 60)
    go = wire.GoToCheckpointRequest(execution_id=execution_id, name="reserved")
    await shop.system.executions.GoToCheckpoint(go, timeout=CALL_S)
    execution = await shop.system.wait(execution_id)
    assert (state_of(execution), execution.paused_at.name) == ("PAUSED", "reserved")
    assert await shop.standing("Larkhill") == (left - 2, paid)
    await shop.system.executions.ResumeExecution(wire.ResumeExecutionRequest(execution_id=execution_id), timeout=CALL_S)
    assert state_of(await shop.system.wait(execution_id)) == "SUCCESS"
    assert await shop.standing("Larkhill") == (left - 2, paid + 60)


async def test_a_workflow_reads_the_status(shop: Shop) -> None:
    """`on-error` sees the code, the reason and whether the call may have been carried out."""
    payment, method = shop.targets["payment"], "example.payment.v1.Payment/Charge"
    seen = [
        json.loads((await shop.system.run("tries", {"target": target, "method": called})).output)
        for target, called in (
            (payment, method),
            ("127.0.0.1:1", method),
            (payment, method + "s"),
            ("a.example:1", method),
        )
    ]
    assert seen == [
        {"code": "FAILED_PRECONDITION", "reason": "CARD_DECLINED", "sent": True},
        {"code": "UNAVAILABLE", "reason": None, "sent": False},
        {"code": "UNIMPLEMENTED", "reason": None, "sent": False},
        {"code": "PERMISSION_DENIED", "reason": None, "sent": False},
    ]
