"""A sample of Orquesta's recorded cases through the real services: an executor of our own plays the results."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import cases
from tests.conformance.orquesta import Recording
from tests.conformance.orquesta_services import Chosen, Player, Tree, define, view_of
from tests.conformance.orquesta_views import run_differences
from tests.conformance.run import listed
from tests.conformance.test_orquesta_validation import expected_places, inspect
from tests.integration.engines import ScriptedExecutor, until
from tests.processes import System

from dalsegno.v1 import executor_service_pb2

CASES_MIN = 100
CASES_MAX = 130
AT_ONCE = 8
CASE_S = 60.0

SLOW = re.compile(r"delay")
"""What takes longer than its steps."""


def sample() -> list[dict[str, Any]]:
    """Cases that agree and take no longer than their steps, evenly from all sources."""
    known = listed("orquesta")
    found = [
        case
        for case in cases.load("orquesta/cases.jsonl")
        if case["kind"] == "run" and case["id"] not in known and not SLOW.search(case["definition"])
        if not _has_defaults_aside(case) and not expected_places(case) and not inspect(case)
    ]
    every = max(1.0, len(found) / CASES_MAX)
    return [found[int(place * every)] for place in range(min(len(found), CASES_MAX))]


def _has_defaults_aside(case: dict[str, Any]) -> bool:
    """Whether a workflow of the case has defaults that only StackStorm's metadata knows of."""
    described = [case.get("action_metadata") or {}, *(case.get("actions") or {}).values()]
    return any("default" in about for each in described for about in (each.get("parameters") or {}).values())


def expectation(case: dict[str, Any]) -> dict[str, Any]:
    """What is expected, but for the input of questions: ours has what the action's defaults say."""
    ran = [
        {name: value for name, value in each.items() if name != "input" or each["action"] != "core.ask"}
        for each in case["expect"]["executions"]
    ]
    return {**case["expect"], "executions": ran}


def actions_of(chosen: Iterable[dict[str, Any]]) -> tuple[tuple[str, bool], ...]:
    """All that the executor has to offer: what was run there, and what runs a task without an action."""
    workflows = {name for case in chosen for name, each in (case.get("actions") or {}).items() if "definition" in each}
    names = {each["action"] for case in chosen for each in case["expect"]["executions"]} - workflows
    named = {word for case in chosen for word in re.findall(r"action: ([a-z_]+\.[\w.-]+)", case["definition"])}
    return tuple((name, True) for name in sorted({"std.noop", *names, *(named - workflows)}))


async def differences(player: Player, namespace: str, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    system = player.system
    name = await define(system, namespace, case)
    root_id = await system.begin(name, case["input"], namespace=namespace)
    results = case["action_results"]
    recording = Recording(results["recorded"], results.get("script") or [])

    def choose(held: list[executor_service_pb2.RunAction], tree: Tree) -> Chosen | None:
        found = recording.choose([tree.key(run) for run in held])
        return None if found is None else (found[0], found[1]["status"], found[1]["result"])

    told = await asyncio.wait_for(player.play(namespace, root_id, choose), CASE_S)
    return told + run_differences(expectation(case), await view_of(system, await system.get(root_id)), case)


@pytest.mark.xdist_group("orquesta services")
@pytest.mark.timeout(300)
# Jinja reads "\\w" in a text of an expression as Python does, which says that one day it will not any more.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
async def test_orquesta_cases_through_the_services(tmp_path: Path) -> None:
    """A hundred of Orquesta's recorded cases end over gRPC as they did there, and every journal gives its rows."""
    chosen = {f"case-{number}": case for number, case in enumerate(sample())}
    if not chosen:
        pytest.skip("no conformance cases here")
    told: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def run(player: Player, namespace: str, case: dict[str, Any]) -> None:
        async with turn:
            try:
                found = await differences(player, namespace, case)
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            told.extend(f"{case['id']}: {each}" for each in found)

    async with System(tmp_path, with_executor=False) as system:
        player = Player(system)
        actions = actions_of(chosen.values())
        async with ScriptedExecutor(system.engine.address, player, actions=actions, slots=1000) as executor:
            player.executor = executor
            await until(lambda: executor.welcomes)
            await asyncio.gather(*(run(player, namespace, case) for namespace, case in chosen.items()))
            assert not executor.errors
        assert system.findings() == []
    assert not told, "\n".join(told)
    assert len(chosen) >= CASES_MIN
