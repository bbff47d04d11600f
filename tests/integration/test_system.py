"""What a server is and who is there, over the wire."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.engines import ScriptedExecutor, until
from tests.integration.refusing import invalid
from tests.processes import System

from dalsegno.api.system import FEATURES
from dalsegno.v1 import action_service_pb2, definition_pb2, execution_service_pb2, operation_pb2
from dalsegno.v1 import system_service_pb2 as wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("system")]

ROOT = Path(__file__).resolve().parents[2]
TEXT = """
version: '2.0'
held: {tasks: {a: {action: test.hold}, b: {action: test.hold}}}
"""
ADHOC = "version: '2.0'\nover_hold: {base: test.hold}\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflow that these tests start."""
    await shared_system.define(TEXT)


async def executors(system: System, chosen: str) -> list[wire.Executor]:
    """All of them, page by page."""
    found: list[wire.Executor] = []
    request = wire.ListExecutorsRequest(filter=chosen, page_size=1)
    while True:
        page = await system.system.ListExecutors(request)
        found += page.executors
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def action(system: System, chosen: str) -> list[definition_pb2.Action]:
    """The actions that a filter chooses."""
    return list((await system.actions.ListActions(action_service_pb2.ListActionsRequest(filter=chosen))).actions)


async def test_a_server_tells_what_it_is(system: System) -> None:
    """Its version is the distribution's, its limits those that it keeps, its features those that the proto lists."""
    info = await system.system.GetServerInfo(wire.GetServerInfoRequest())
    assert info.version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [definition_pb2.Language.Name(each) for each in info.languages] == ["LANGUAGE_MISTRAL", "LANGUAGE_ORQUESTA"]
    limits = info.limits
    assert (limits.message_bytes, limits.value_bytes, limits.execution_bytes) == (16 << 20, 4_000_000, 64 << 20)
    assert (limits.page_size, limits.bulk_rate, limits.request_memory.seconds) == (1_000, 1_000, 86_400)
    assert limits.default_deadline.seconds == 30
    written = (ROOT / "protos/dalsegno/v1/system_service.proto").read_text()
    assert tuple(info.features) == FEATURES
    assert [each for each in FEATURES if f"`{each}`" not in written] == []


async def test_executors_are_listed_with_what_they_have_and_serve(system: System) -> None:
    """Each session with its labels, its slots and those in use, its actions, and when it was heard; by a filter."""
    scripted = [
        ScriptedExecutor(
            system.engine.address,
            lambda run: None,
            executor_id=f"listed-{zone}",
            actions=(("test.hold", True), (f"test.{zone}", False)),
            labels={"zone": zone},
            slots=slots,
        )
        for zone, slots in (("b", 5), ("a", 1))
    ]
    async with scripted[0], scripted[1]:
        await until(lambda: all(each.welcomes for each in scripted))
        execution_id = await system.begin("held")
        await until(lambda: sum(len(each.received) for each in scripted) == 2)
        first, second = await executors(system, "executor=listed-*")
        assert (first.executor_id, second.executor_id) == ("listed-a", "listed-b")
        assert (dict(first.labels), first.slots, second.slots) == ({"zone": "a"}, 1, 5)
        in_use = {each.executor_id: len(each.received) for each in scripted}
        assert {each.executor_id: each.slots_in_use for each in (first, second)} == in_use
        assert list(first.actions) == ["test.a", "test.hold"]
        assert first.session_id == scripted[1].session_id
        assert first.peer.startswith("ipv4:127.0.0.1:")
        assert first.connected_at.ToSeconds() <= first.last_seen_at.ToSeconds() < first.lease_until.ToSeconds()
        assert [each.executor_id for each in await executors(system, "action=test.b")] == ["listed-b"]
        assert [each.executor_id for each in await executors(system, "label.zone=a")] == ["listed-a"]
        assert [each.executor_id for each in await executors(system, "action=test.hold label.zone!=a")] == ["listed-b"]
        await _is_heard(system, first)
        await _end(system, execution_id)


async def _is_heard(system: System, before: wire.Executor) -> None:
    """Heartbeats move the time at which it was seen, and not that at which it came."""
    async with asyncio.timeout(20):
        while True:
            (now,) = await executors(system, f"executor={before.executor_id}")
            if now.last_seen_at.ToNanoseconds() > before.last_seen_at.ToNanoseconds():
                assert now.connected_at == before.connected_at
                return
            await asyncio.sleep(0.1)


async def _end(system: System, execution_id: str) -> None:
    cancel = execution_service_pb2.CancelExecutionRequest(
        execution_id=execution_id, terminate=operation_pb2.Terminate()
    )
    await system.executions.CancelExecution(cancel)


async def test_actions_tell_who_serves_them_now(system: System) -> None:
    """Those that are connected, by name; what nobody serves now stays known, and a filter finds it."""
    await system.define(ADHOC)
    actions = (("test.shown", True),)
    one, two = (
        ScriptedExecutor(system.engine.address, executor_id=name, actions=actions) for name in ("shown-1", "shown-2")
    )
    async with one, two:
        await until(lambda: one.welcomes and two.welcomes)
        (shown,) = await action(system, "name=test.shown")
        assert (list(shown.executor_ids), shown.executor_count) == (["shown-1", "shown-2"], 2)
        assert [each.name for each in await action(system, "executor=shown-2")] == ["test.shown"]
        assert "test.shown" not in [each.name for each in await action(system, "served=false")]
        for each in (one, two):
            each.address = "127.0.0.1:1"  # it does not come back
            await each.say(goodbye={})
        shown = await _unserved(system, "test.shown")
    assert list(shown.executor_ids) == []
    unserved = [each.name for each in await action(system, "served=false")]
    assert {"test.shown", "over_hold"} <= set(unserved)


async def _unserved(system: System, name: str) -> definition_pb2.Action:
    """The action, once nobody serves it."""
    async with asyncio.timeout(20):
        while True:
            (found,) = await action(system, f"name={name}")
            if not found.executor_count:
                return found
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("more", [{"page_size": -1}, {"page_token": "x"}, {"filter": "zone=a"}, {"filter": "label=a"}])
async def test_lists_of_executors_refuse(system: System, more: dict[str, Any]) -> None:
    """A wrong page size, token or filter is named."""
    (field,) = more
    reason = "INVALID_PAGE_TOKEN" if field == "page_token" else "INVALID_REQUEST"
    await invalid(system.system.ListExecutors(wire.ListExecutorsRequest(**more)), field, reason=reason)
